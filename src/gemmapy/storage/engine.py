"""How a database is opened: readers that never write, and one connection that does.

SQLite runs in WAL mode with `synchronous=FULL`: a commit that returned is on disk, and readers never wait for the
writer nor the writer for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Executable, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from gemmapy.storage.remembered import Remembered

DATABASE_NAME = "gemmapy.db"
BUSY_TIMEOUT_MS = 2_000
"""How long SQLite waits for another process's lock before it says so; the writer then tries again."""


def database_path(data_dir: Path) -> Path:
    """Where a data folder keeps its database."""
    return data_dir / DATABASE_NAME


def open_reader(path: Path, connections: int = 8) -> Engine:
    """An engine whose connections cannot write. Usable from any thread."""
    engine = _engine(path, connections).execution_options(remembered=Remembered())

    @event.listens_for(engine, "connect")
    def _read_only(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.execute("PRAGMA query_only=ON")

    return engine


def open_writer(path: Path) -> Engine:
    """An engine for the one connection that writes; every transaction takes the write lock as it begins."""
    engine = _engine(path, 1)

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten in the file

    @event.listens_for(engine, "begin")
    def _take_lock(connection: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        # A deferred transaction that starts with a read can fail to upgrade; this one waits its turn instead.
        if not connection.connection.dbapi_connection.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _engine(path: Path, connections: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # an error must not carry what people asked into a log
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA cache_size=-8192")

    return engine


def scan(
    connection: Connection, statement: Executable | str, parameters: Sequence[Any] = ()
) -> Iterator[tuple[Any, ...]]:
    """The rows of a query as plain tuples, for queries whose columns are only known at run time.

    A text goes to the driver as it is, with `?` for its parameters: a page asks a dozen of them in a few milliseconds.
    """
    if isinstance(statement, str):
        cursor: Any = connection.connection.cursor()
        yield from cursor.execute(statement, parameters)
        cursor.close()
        return
    for row in connection.execute(statement):
        yield tuple(row)
