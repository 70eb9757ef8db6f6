"""Gateways in processes of their own, started by `launcher.py`: started, killed, and started again on the same data."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.gateway import PASSWORD

ROOT = Path(__file__).parents[2]


class Launcher:
    """The process that forks them. One for many gateways."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.launcher"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def order(self, **order: Any) -> dict[str, Any]:
        """Sends an order and returns the first answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the launcher has died"
        return json.loads(line)


class Gateway:
    """A data folder, and the process that serves it, where there is one."""

    def __init__(self, launcher: Launcher, data: Path, upstream: str, **settings: str) -> None:
        self._launcher = launcher
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        self._settings = {
            "GEMMAPY_ADMIN_PASSWORD": PASSWORD,
            "GEMMAPY_UPSTREAMS": f"ollama={upstream}",
            "GEMMAPY_PORT": "0",
            "GEMMAPY_DATA": str(data),
            "GEMMAPY_LOG_LEVEL": "warning",
            **settings,
        }
        self.pid: int | None = None
        self.on_pid: Callable[[], None] = lambda: None
        """Called in each start as soon as there is a process."""
        self.port = 0
        self.start_s = 0.0
        """How long the last start took, from its order to its taking requests."""

    @property
    def key(self) -> str:
        """The first admin's, from what the first start printed."""
        return re.findall(r"gp-[\w-]{43}", self.log.read_text())[0]

    def start(self, at: str | None = None, hit: int = 1, hang_s: float | None = None) -> int | None:
        """Starts it, to kill itself at a step where one is given, or to hang there for so long. None once it serves;
        else the status it ended with before."""
        began = time.monotonic()
        self.pid = self._launcher.order(start=self._settings, log=str(self.log), at=at, hit=hit, hang_s=hang_s)["pid"]
        self.on_pid()
        answer = self._launcher.answer()
        self.start_s = time.monotonic() - began
        if "port" in answer:
            self.port = answer["port"]
            return None
        self.pid = None
        return answer["status"]

    def run(self, job: str, at: str | None = None, hit: int = 1) -> int | None:
        """Does work on its data in a process of its own, to the end or to a step; returns the status."""
        order = {"job": job, "data": str(self.data), "log": str(self.log), "at": at, "hit": hit}
        pid = self._launcher.order(**order)["pid"]
        return self._launcher.order(wait=pid)["status"]

    def signal(self, number: int) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)

    def wait(self) -> int | None:
        """Returns the status once it has ended; None where it does not."""
        status = self._launcher.order(wait=self.pid)["status"]
        if status is not None:
            self.pid = None
        return status

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def close(self) -> None:
        if self.pid is not None:
            self.kill()
