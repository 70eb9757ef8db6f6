"""Starts gateways quickly: a process that has everything imported, and forks one for each line that it is sent.

A start by `gemmapy serve` is a second of imports, which two hundred kills have no time for. What is forked calls the
same `gemmapy.serving.serve`, on a real port with its signals and files, and dies as any process does. Before it serves
it may be told at which step to kill itself, or to hang for how long (`failpoints.py`), so that production code needs no
hook.

`python -m tests.crash.launcher` reads JSON lines and answers with JSON lines, one after the other:
`{"start": {environment}, "at": step, "hit": n, "hang_s": s}` with `{"pid": n}` and then `{"port": n}` or
`{"status": code}`;
`{"job": name, "data": folder, "at": step, "hit": n}` with `{"pid": n}`; `{"wait": pid}` with `{"status": code}`.
A status is an exit code, or less than zero the signal that ended it; null where nothing has after `WAIT_S`.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemmapy.serving
from gemmapy.config import Settings
from tests.crash import failpoints, jobs

WAIT_S = 45


def main() -> None:
    """Reads and obeys until its input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            say({"status": status_of(order["wait"], WAIT_S)})
        elif "job" in order:
            job = jobs.JOBS[order["job"]]
            say({"pid": fork(order, lambda job=job, folder=Path(order["data"]): job(folder))})
        else:
            start(order)


def start(order: dict[str, Any]) -> None:
    """Forks a gateway, and says at once who it is, and then where it serves or how it ended."""
    reading, writing = os.pipe()

    def serve() -> None:
        os.close(reading)
        os.environ.update(order["start"])

        def ready(port: int) -> None:
            os.write(writing, f"{port}\n".encode())
            os.close(writing)

        gemmapy.serving.serve(Settings.load(None), ready)

    pid = fork(order, serve)
    os.close(writing)
    say({"pid": pid})
    with os.fdopen(reading) as pipe:
        port = pipe.readline()
    say({"port": int(port)} if port else {"status": status_of(pid)})


def fork(order: dict[str, Any], work: Callable[[], None]) -> int:
    """Does work in a child process, armed as the order says; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if order.get("at"):
            failpoints.arm(order["at"], order.get("hit", 1), order.get("hang_s"))
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - a child must never go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def status_of(pid: int, longest_s: float = 600) -> int | None:
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
