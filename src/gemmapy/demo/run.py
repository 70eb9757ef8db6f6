"""Puts the demo together: fills a scratch folder, then serves it while the team goes on asking."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gemmapy import serving
from gemmapy.config import Settings, UpstreamSettings
from gemmapy.core.errors import ConfigurationError
from gemmapy.demo import history
from gemmapy.demo.history import Filled
from gemmapy.demo.model import DemoModels
from gemmapy.demo.team import MODELS
from gemmapy.demo.traffic import keep_asking
from gemmapy.storage.store import Store

SEED = 1


def fill(folder: Path, requests: int, seed: int = SEED) -> tuple[Filled, float]:
    """Fills an empty folder, or one that is not there yet; also returns how many seconds it took.

    Raises ConfigurationError where the folder holds anything, so that nobody's data are touched.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not an empty folder.", hint="The demo fills an empty one, or its own.")
    began = time.monotonic()
    with Store.open(folder) as store:
        filled = history.fill(store, requests, seed)
    return filled, time.monotonic() - began


@contextmanager
def scratch(folder: Path | None) -> Generator[Path]:
    """The folder as given, or one that is gone afterwards."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gemmapy-demo-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def serve(settings: Settings, filled: Filled) -> None:
    """Serves the filled folder, with a team at work, until SIGTERM or SIGINT."""
    with _Team(filled) as team:
        machines = sorted({model.upstream for model in MODELS})
        upstreams = tuple(
            UpstreamSettings(kind="ollama", name=machine, url=team.models.url(machine), dialects=("ollama",))
            for machine in machines
        )
        # One process: the team's thread runs already, and several are forked from one that has none.
        chosen = settings.model_copy(update={"upstreams": upstreams, "workers": 1})
        serving.serve(chosen, lambda port: team.begin(_local(chosen, port)))


def _local(settings: Settings, port: int) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "localhost") else settings.host  # noqa: S104
    host = "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}{settings.base_path}"


class _Team:
    """The models and the people, in a thread of their own beside the gateway's."""

    def __init__(self, filled: Filled) -> None:
        self._filled = filled
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._over = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="gemmapy-demo", daemon=True)
        self.models = DemoModels(SEED)

    def __enter__(self) -> _Team:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def begin(self, url: str) -> None:
        """The team starts to ask."""

        def start() -> None:
            self._asking = self._loop.create_task(keep_asking(url, self._filled.members, SEED))

        self._loop.call_soon_threadsafe(start)

    def _run(self) -> None:
        self._loop.run_until_complete(self._until_over())
        self._loop.close()

    async def _until_over(self) -> None:
        async with self.models:
            self._ready.set()
            await self._over.wait()
            if self._asking is not None:
                self._asking.cancel()
                await asyncio.gather(self._asking, return_exceptions=True)
