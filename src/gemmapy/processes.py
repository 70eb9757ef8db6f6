"""A gateway of several processes: which there are, what each is made of, and how they find each other.

The supervisor takes the port and forks a keeper, which opens the books and does what is done once in a gateway; when it
is ready, the workers, which answer requests. `app.py` builds what is inside of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog
import uvloop

from gemmapy import logs
from gemmapy.api.server import listen_together, raise_file_limit
from gemmapy.api.services import Services
from gemmapy.app import build
from gemmapy.config import Settings, UpstreamSettings
from gemmapy.core.clock import SystemClock
from gemmapy.core.loading import loading
from gemmapy.serving import SPARE_FILES, answer, welcome
from gemmapy.storage.store import Store
from gemmapy.workers import link
from gemmapy.workers.keeper import Keeper
from gemmapy.workers.link import Link
from gemmapy.workers.place import Place
from gemmapy.workers.pulse import beat_s, beating
from gemmapy.workers.supervisor import Process, Report, Supervisor

SOCKETS = "processes"
_LONGEST_PATH = 100
"""Of a Unix socket; the kernel's limit is a little above."""
_log = structlog.stdlib.get_logger()


def serve_many(settings: Settings, on_ready: Callable[[int], None]) -> None:
    """Runs a gateway of `settings.workers` workers until SIGTERM or SIGINT. Raises ConfigurationError."""
    logs.configure(settings.log_level, settings.log_format)
    listening = listen_together(settings.host, settings.port, settings.workers)
    port = listening[0].getsockname()[1]
    data_dir = Store.folder(settings.data)
    chosen = settings
    printed = ""

    def keeper_is_ready(said: dict[str, Any]) -> None:
        nonlocal chosen, printed
        # What the keeper found where nothing is configured holds for all, also for those that start later.
        upstreams = tuple(UpstreamSettings(kind=kind, name=name) for kind, name in said["found"])
        chosen = settings.model_copy(update={"upstreams": settings.upstreams or upstreams})
        printed = said["welcome"]

    def all_are_ready() -> None:
        print(printed, flush=True)  # noqa: T201 - it is for people, not for the log
        on_ready(port)

    with _books_socket(data_dir) as (books, path):

        def keep(report: Report) -> None:
            for one in listening:
                one.close()
            with Store.open(data_dir) as store:
                uvloop.run(_heard(report, settings, _keep(chosen, store, books, port, report)))

        def work(number: int, report: Report) -> None:
            books.close()
            for place, one in enumerate(listening):
                if place != number:
                    one.close()
            uvloop.run(_heard(report, settings, _work(chosen, data_dir, path, listening[number], report)))

        def let_go() -> None:
            for one in listening:
                one.close()

        with loading():  # and what is loaded by now stays shared between the processes
            import_module("gemmapy.api.application")
        Supervisor(
            keeper=Process("keeper", keep),
            workers=[
                Process(f"worker {number + 1}", lambda report, n=number: work(n, report))
                for number in range(settings.workers)
            ],
            drain_timeout_s=settings.drain_timeout_s,
            hang_timeout_s=settings.hang_timeout_s,
            keeper_is_ready=keeper_is_ready,
            all_are_ready=all_are_ready,
            let_go=let_go,
        ).run()
    _log.info("stopped")


async def _heard(report: Report, settings: Settings, life: Coroutine[Any, Any, None]) -> None:
    """Runs a process's life, of which the supervisor hears that it goes on, and that it ends."""
    async with beating(report.beat, beat_s(settings.hang_timeout_s)):
        await life
    report.leaves()


async def _keep(settings: Settings, store: Store, books: socket.socket, port: int, report: Report) -> None:
    """The keeper: the books first, since workers of before may wait for it, then all that is done once."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    interrupted = await asyncio.to_thread(store.recover)
    if interrupted:
        _log.warning("requests that an earlier run left unfinished were recorded as interrupted", requests=interrupted)
    keeper = Keeper(store)
    await keeper.start(books)
    password = settings.admin_password.get_secret_value() if settings.admin_password else None
    async with build(settings, store, Place(keeper=keeper, count=settings.workers)) as services:
        first = await asyncio.to_thread(services.auth.first_admin, password)
        found = [] if settings.upstreams else [(one.kind, one.name) for one in services.catalogue.upstreams]
        report.ready(found=found, welcome=welcome(settings, port, services, first))
        await told.wait()
        await services.gateway.drain(0)  # its own requests are the embedder's, which are made again
    await keeper.stop()


async def _work(settings: Settings, data_dir: Path, path: Path, listening: socket.socket, report: Report) -> None:
    """A worker."""
    connections = -(-settings.max_connections // settings.workers)
    files = raise_file_limit(2 * connections + SPARE_FILES)
    clock = SystemClock()
    books = Link(path, clock)
    store = Store.join(data_dir, books.open, clock)
    try:
        await books.connect()
        place = Place(books, count=settings.workers)
        own = settings.model_copy(update={"max_connections": connections})
        async with build(own, store, place) as services, _with_keeper(services, books):
            await answer(own, services, listening, files, report.ready)
    finally:
        await asyncio.to_thread(store.close)


@contextlib.asynccontextmanager
async def _with_keeper(services: Services, books: Link) -> AsyncGenerator[None]:
    """Knows what the keeper knows, and finds it out again from the next one."""
    loop = asyncio.get_running_loop()
    models = [(one.name, one.embedded) for one in services.catalogue.upstreams if one.embedded is not None]
    learning: set[asyncio.Task[None]] = set()

    async def learn() -> None:
        for name, model in models:
            known = await books.keepers_answer(f"embedded model {name}")
            if known is not None:
                model.learn(known)

    def back(_said: Any) -> None:
        services.library.forget()  # what was embedded or deleted meanwhile was not heard
        task = loop.create_task(learn())
        learning.add(task)
        task.add_done_callback(learning.discard)

    def gone(_said: Any) -> None:
        for _, model in models:  # it was the keeper's child
            model.learn({**model.known(), "port": None, "state": "restarting", "trouble": "it is started again"})

    books.on(link.KEEPER_IS_BACK, back)
    books.on(link.KEEPER_IS_GONE, gone)
    await learn()
    try:
        yield
    finally:
        for task in learning:
            task.cancel()


@contextlib.contextmanager
def _books_socket(data_dir: Path) -> Generator[tuple[socket.socket, Path]]:
    """A listening Unix socket that nobody but this user can reach. It is the supervisor's, so that workers can connect
    while a keeper starts, and wait."""
    with contextlib.ExitStack() as stack:
        folder = data_dir / SOCKETS
        path = folder / f"{os.getpid()}.sock"
        if len(os.fsencode(path)) > _LONGEST_PATH:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gemmapy-")))
            path = folder / "books.sock"
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.glob("*.sock"):
            _remove_dead(left)
        listening = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listening.bind(str(path))
        stack.callback(path.unlink, missing_ok=True)
        path.chmod(0o600)
        listening.listen(128)
        listening.setblocking(False)
        yield listening, path


def _remove_dead(path: Path) -> None:
    """Removes what a gateway that was killed has left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:
            return
