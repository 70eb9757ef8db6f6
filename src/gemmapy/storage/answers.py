"""Kept answers on disk, where the operator turns that on: a file of its own beside the database.

Called by `gateway/shelf.py`; blocks, so never from the event loop. The books never wait for it: own file, own
connections. Whatever is wrong with it (full, locked, damaged, gone) makes a miss and no error; a damaged file is thrown
away and begun anew. It holds answers, and of the questions a hash only. Bounded by bytes, those used longest ago going
first, and by age. Processes that share a data folder share it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    event,
    func,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError

from gemmapy.core.clock import Clock
from gemmapy.storage.engine import open_reader, open_writer, scan

FILE_NAME = "answers.db"
LARGEST_SHARE = 8
"""An answer may take up one part in so many of the whole file."""
_FORMAT = 1
"""A file in another form, which another release wrote, is thrown away."""
_APPLICATION = int.from_bytes(b"GemA")
_ROOM = 0.05
"""How much more than need be is evicted at once, so that not every new answer has to."""
_EVICTED_AT_ONCE = 256
_IN_LIST = 500
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
T = TypeVar("T")
_log = structlog.stdlib.get_logger()

_metadata = MetaData()
_answers = Table(
    "answers",
    _metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("model", String, nullable=False),
    Column("user_id", BigInteger, nullable=False),  # who asked first, and takes it along when they are deleted
    Column("made_at", BigInteger, nullable=False),  # milliseconds since 1970
    Column("used_at", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("answer", LargeBinary, nullable=False),
)
Index("idx_answers_model", _answers.c.model, _answers.c.size)
Index("idx_answers_made", _answers.c.made_at)
Index("idx_answers_used", _answers.c.used_at)
Index("idx_answers_user", _answers.c.user_id)


@dataclass(frozen=True, slots=True)
class Found:
    """An answer as it was put in, and how old it is."""

    answer: bytes
    age_s: float


class AnswerFile:
    """The file. One thread reads, another writes; both may be the same."""

    def __init__(self, folder: Path, max_bytes: int, ttl_s: float, clock: Clock) -> None:
        self.path = folder / FILE_NAME
        self.max_bytes = max_bytes
        self.evictions = 0
        self.trouble: str | None = None
        """Why it is of no use at this moment; None where all is well."""
        self._ttl_ms = int(ttl_s * 1000)
        self._clock = clock
        self._reading: Engine | None = None
        self._writing: Engine | None = None
        self._is_damaged = False
        self._is_in_the_making = False
        """There is a file, and not yet what belongs into it."""

    def close(self) -> None:
        for engine in (self._reading, self._writing):
            if engine is not None:
                engine.dispose()
        self._reading = self._writing = None

    def get(self, key: bytes) -> Found | None:
        """The answer, if it is there and young enough. One from the future, after the clock was set back, is not."""
        c = _answers.c
        row = self._read(lambda connection: connection.execute(select(c.answer, c.made_at).where(c.key == key)).first())
        if row is None:
            return None
        age_ms = self._now_ms() - row[1]
        return Found(row[0], age_ms / 1000) if 0 <= age_ms < self._ttl_ms else None

    def put(self, key: bytes, model: str, user_id: int, answer: bytes, used: Iterable[bytes] = ()) -> None:
        """Keeps an answer, at the cost of those that were used longest ago; `used` were given since the last put."""
        now_ms = self._now_ms()
        said: dict[str, Any] = {
            "model": model,
            "user_id": user_id,
            "made_at": now_ms,
            "used_at": now_ms,
            "size": len(answer),
            "answer": answer,
        }
        if len(answer) * LARGEST_SHARE > self.max_bytes:
            return

        def put(connection: Connection) -> int:
            keys = list(used)
            for begin in range(0, len(keys), _IN_LIST):
                are_used = _answers.c.key.in_(keys[begin : begin + _IN_LIST])
                connection.execute(update(_answers).where(are_used).values(used_at=now_ms))
            added = insert(_answers).values(key=key, **said)
            connection.execute(added.on_conflict_do_update(index_elements=["key"], set_=said))
            return _make_room(connection, self.max_bytes)

        self.evictions += self._write(put) or 0

    def clear(self, which: Callable[[str], bool] | None = None) -> set[bytes] | None:
        """Deletes the answers of the models that `which` chooses, else all; their keys, or None where that failed."""

        def clear(connection: Connection) -> set[bytes]:
            if which is None:
                return _delete(connection, None)
            models = connection.execute(select(_answers.c.model).distinct()).scalars()
            return _delete(connection, _answers.c.model.in_([model for model in models if which(model)]))

        gone = self._erase(clear)
        if gone is None and (which is None or self._is_damaged):
            self._throw_away()
            return set()
        return gone

    def clear_expired(self) -> set[bytes] | None:
        """Deletes what is too old; the keys, or None where that failed."""
        now_ms, made_at = self._now_ms(), _answers.c.made_at
        return self._erase(lambda c: _delete(c, (made_at <= now_ms - self._ttl_ms) | (made_at > now_ms)))

    def keep_only(self, user_ids: Collection[int]) -> set[bytes] | None:
        """Deletes what others than these asked for: people that are no more; the keys, or None where that failed."""

        def strangers(connection: Connection) -> set[bytes]:
            known = set(connection.execute(select(_answers.c.user_id).distinct()).scalars())
            gone = known - set(user_ids)
            return _delete(connection, _answers.c.user_id.in_(gone)) if gone else set()

        return self._erase(strangers)

    def held(self) -> Mapping[str, tuple[int, int]]:
        """Entries and bytes of each model."""
        c = _answers.c
        counted = select(c.model, func.count(), func.sum(c.size)).group_by(c.model)
        return self._read(lambda connection: {r[0]: (r[1], r[2]) for r in connection.execute(counted)}) or {}

    def _erase(self, function: Callable[[Connection], set[bytes]]) -> set[bytes] | None:
        """Deletes, overwrites, and gives the space back, of the write-ahead log too, which still holds what is gone."""
        gone = self._write(function)
        if gone:
            self._tried(lambda: _give_back(self._writer()))
        return gone

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    # The file, in whatever state it is

    def _read(self, function: Callable[[Connection], T]) -> T | None:
        def read() -> T:
            engine = self._reading = self._reading or open_reader(self.path, 1)
            with engine.connect() as connection:
                return function(connection)

        if self._is_damaged or self._is_in_the_making or not self.path.is_file():
            return None
        return self._tried(read)

    def _write(self, function: Callable[[Connection], T]) -> T | None:
        def write() -> T:
            with self._writer().begin() as connection:
                return function(connection)

        if self._is_damaged or not self.path.is_file():
            self._throw_away()
        return self._tried(write)

    def _tried(self, function: Callable[[], T]) -> T | None:
        try:
            result = function()
        except (DBAPIError, sqlite3.Error, OSError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            self._is_damaged = self._is_damaged or getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DAMAGE
            if self.trouble is None:
                _log.warning("answers on disk are of no use at this moment", reason=str(cause), file=self.path.name)
            self.trouble = str(cause)
            return None
        self.trouble = None
        return result

    def _writer(self) -> Engine:
        if self._writing is None:
            self._is_in_the_making = True
            try:
                self._writing = self._made()
            finally:
                self._is_in_the_making = False
        return self._writing

    def _made(self) -> Engine:
        if _format_of(self.path) not in (0, _FORMAT):
            self._throw_away()
        _begin(self.path)
        engine = open_writer(self.path)

        @event.listens_for(engine, "connect")
        def _as_a_cache(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
            connection.execute("PRAGMA synchronous=NORMAL")  # what a power cut takes is asked again
            connection.execute("PRAGMA journal_size_limit=4194304")

        with engine.begin() as connection:
            _metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={_FORMAT}")
        return engine

    def _throw_away(self) -> None:
        self.close()
        remove(self.path.parent)
        self._is_damaged = False


def remove(folder: Path) -> bool:
    """Deletes the file of a data folder; whether there was one."""
    was_there = (folder / FILE_NAME).exists()
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
    return was_there


def _format_of(path: Path) -> int:
    if not path.is_file():
        return 0
    with closing(sqlite3.connect(path, timeout=2)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def _begin(path: Path) -> None:
    """Makes an empty file that can give space back, which has to be said before there is anything in it."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=2)) as connection:
        path.chmod(0o600)
        if not connection.execute("PRAGMA page_count").fetchone()[0]:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute(f"PRAGMA application_id={_APPLICATION}")  # writes the head, and with it the above


def _give_back(engine: Engine) -> None:
    """Cuts free pages off the file, works the write-ahead log into it and cuts that off too; a reader who is in its way
    delays that. Both belong outside a transaction."""
    with engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.executescript("PRAGMA incremental_vacuum")  # a step a page, and execute() takes the first alone
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _make_room(connection: Connection, max_bytes: int) -> int:
    """Deletes those that were used longest ago until the rest has room; returns how many that were."""
    evicted = 0
    most = max_bytes
    c = _answers.c
    while (used := _used_bytes(connection)) > most:
        most = int(max_bytes * (1 - _ROOM))
        going: list[bytes] = []
        freed = 0
        oldest = select(c.key, c.size).order_by(c.used_at).limit(_EVICTED_AT_ONCE)
        for key, size in scan(connection, oldest):
            going.append(key)
            freed += size
            if freed >= used - most:
                break
        if not going:
            break
        connection.execute(delete(_answers).where(c.key.in_(going)))
        evicted += len(going)
    return evicted


def _used_bytes(connection: Connection) -> int:
    """Of the file, what is not free."""
    pages, free, size = (
        next(scan(connection, f"PRAGMA {what}"))[0] for what in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _delete(connection: Connection, condition: ColumnElement[bool] | None) -> set[bytes]:
    keys, gone = select(_answers.c.key), delete(_answers)
    if condition is not None:
        keys, gone = keys.where(condition), gone.where(condition)
    found = set(connection.execute(keys).scalars())
    connection.execute(gone)
    return found
