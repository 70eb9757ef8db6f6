"""`Store`: a data folder that is open. The one way to its database, for the gateway, the command line and Python.

Reads come from any thread, each on a connection of its own. Writes go to the writer's thread (`writer.py`), which
makes them durable in batches; in a worker, to the process that keeps the books (`Store.join`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

import structlog
from sqlalchemy import Connection, Engine

from gemmapy.core.clock import Clock, SystemClock
from gemmapy.core.errors import ConfigurationError, StorageUnavailable
from gemmapy.core.records import Intent, Outcome
from gemmapy.storage import folders, leases, ledger
from gemmapy.storage.engine import database_path, open_reader, open_writer
from gemmapy.storage.migrate import migrate
from gemmapy.storage.works import Admit, Call, Finish, Loan, Record, Work
from gemmapy.storage.writer import MAX_BATCH, Writer

WRITE_TIMEOUT_S = 10.0
T = TypeVar("T")
_log = structlog.stdlib.get_logger()


class Books(Protocol):
    """What makes works durable: a `Writer`, or the way to another process's."""

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written at this moment; None where all is well."""
        ...

    @property
    def waiting(self) -> int:
        """How much work has not been written yet, about."""
        ...

    def submit(self, work: Work | Loan) -> None:
        """Takes work; never blocks. Raises StorageUnavailable for what is new where the books cannot take it."""
        ...

    def close(self, timeout_s: float) -> bool:
        """Writes what is waiting; False where something could not be written in time."""
        ...


class Store:
    """An open data folder. Use `Store.open` or `Store.join`, and close it (it is a context manager)."""

    def __init__(self, data_dir: Path, clock: Clock, elsewhere: Callable[[Engine, int], Books] | None = None) -> None:
        self.data_dir = data_dir
        self.path = database_path(data_dir)
        self.clock = clock
        self._closed = False
        self._lease = leases.take_any(data_dir)
        self._writing = open_writer(self.path)
        self.backup: Path | None = None
        if elsewhere is None:
            try:
                self.backup = migrate(self._writing, self.path, clock.now())
            except BaseException:
                self._writing.dispose()
                self._lease.release()
                raise
        self._reading = open_reader(self.path)
        self._writer: Books = (elsewhere or self._own)(self._writing, self._lease.slot)

    def _own(self, engine: Engine, slot: int) -> Writer:
        return Writer(engine, slot, self.clock)

    @staticmethod
    def folder(data_dir: str | Path) -> Path:
        """A data folder, made where there is none. Raises ConfigurationError where it cannot be written."""
        folder = Path(data_dir).expanduser()
        try:
            folders.make(folder)
            if folder.stat().st_mode & 0o077:
                folder.chmod(0o700)  # it holds the secret, password hashes and who asked what
        except OSError as error:
            raise ConfigurationError(
                f"The data folder {folder} cannot be used: {error.strerror}.",
                hint="Give another with --data, or mend its permissions.",
            ) from error
        return folder.resolve()

    @classmethod
    def open(cls, data_dir: str | Path, clock: Clock | None = None) -> Self:
        """Opens a data folder; makes it, and brings an older one to this release's schema after a backup.

        Raises ConfigurationError where the folder cannot be written or was written by a newer release.
        """
        return cls(cls.folder(data_dir), clock or SystemClock())

    @classmethod
    def join(cls, data_dir: Path, elsewhere: Callable[[Engine, int], Books], clock: Clock | None = None) -> Self:
        """Opens a folder that another process has opened and keeps the books of. `elsewhere` makes the way to it, from
        an engine that may write when it is given the turn and this process's slot."""
        return cls(data_dir, clock or SystemClock(), elsewhere)

    def close(self, timeout_s: float = 30) -> None:
        """Writes what is waiting and lets go of everything; again changes nothing."""
        if self._closed:
            return
        self._closed = True
        if not self._writer.close(timeout_s):
            _log.error("the books were closed before everything was written")
        self._reading.dispose()
        self._writing.dispose()
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def slot(self) -> int:
        """This process's writer slot."""
        return self._lease.slot

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written at this moment; None where all is well."""
        return self._writer.trouble

    @property
    def waiting(self) -> int:
        """How many records wait to be written, about."""
        return self._writer.waiting

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A connection for reading, with one consistent view of the database until it is left."""
        with self._reading.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def write(self, function: Callable[[Connection], T]) -> T:
        """Runs `function` in the writer's transaction and returns its result once it is on disk.

        Blocks; not for the event loop. What `function` raises is raised here, and nothing of it is written. Raises
        StorageUnavailable where the database takes no writes; then nothing was written, and nothing will be.
        """
        future: Future[T] = Future()
        self._writer.submit(Call(function, future))
        try:
            return future.result(WRITE_TIMEOUT_S)
        except TimeoutError:
            if future.cancel():
                raise StorageUnavailable("The database did not take the write in time.", retry_after_s=1) from None
            return future.result()  # it is being committed at this very moment

    def admit(self, intent: Intent) -> asyncio.Future[None]:
        """Begins to write an in-flight row; the future resolves once it is on disk."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writer.submit(Admit(intent, future))
        return future

    def finish(self, outcome: Outcome, *, admitted: bool) -> asyncio.Future[int]:
        """Begins to write a metric row in place of the in-flight one; resolves to its id once it is on disk.

        Of a request that was not `admitted` it raises StorageUnavailable at once where nothing can be written now; the
        row is written when it can be.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._writer.submit(Finish(outcome, admitted, future, is_new=not admitted))
        return future

    def finish_unwatched(self, outcome: Outcome, *, admitted: bool) -> None:
        """Writes a metric row that nobody waits for: a refusal's, or one whose client has left."""
        self._writer.submit(Finish(outcome, admitted, None))

    def record(self, outcome: Outcome) -> int:
        """Writes a metric row and returns its id once it is on disk. Blocks; not for the event loop."""
        future: Future[int] = Future()
        self._writer.submit(Finish(outcome, admitted=False, future=future))
        return future.result()

    def record_all(self, outcomes: Iterable[Outcome]) -> list[int]:
        """The same of many, a thousand to a transaction; the next are made while the last ones are being written."""
        source = iter(outcomes)
        futures: list[Future[list[int]]] = []
        while some := list(islice(source, MAX_BATCH)):
            futures.append(Future())
            self._writer.submit(Record(some, futures[-1]))
        return [metric_id for future in futures for metric_id in future.result()]

    def submit(self, work: Work | Loan) -> None:
        """Takes another process's work. Raises StorageUnavailable for what is new where the books cannot take it."""
        self._writer.submit(work)

    def recover(self, begun: Sequence[int] | None = None) -> int:
        """Records what writers that are gone left in flight as interrupted, once; returns how many there were.

        Writers whose lock is free are gone. `begun` are slots whose processes have just begun, so that what is in
        flight under them is a predecessor's; by default our own.
        """

        def recover(connection: Connection) -> int:
            known = [self._lease.slot] if begun is None else [*begun]
            gone: list[leases.Lease] = []
            try:
                for slot in ledger.writers_in_flight(connection) - {self._lease.slot, *known}:
                    lease = leases.take(self.data_dir, slot)
                    if lease is not None:
                        gone.append(lease)
                outcomes = ledger.interrupted(connection, [*known, *(lease.slot for lease in gone)])
                ledger.write(connection, self._lease.slot, [], [(o, True) for o in outcomes], self.clock.now())
                return len(outcomes)
            finally:
                for lease in gone:
                    lease.release()

        return self.write(recover)
