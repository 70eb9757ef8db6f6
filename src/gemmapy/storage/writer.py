"""Group commit: one thread owns the write connection and commits whatever has gathered as soon as it is idle.

Called by `Store`. There is no timer: while one batch is being synced to disk the next one gathers, so a lone request
waits for one commit and a thousand at once share a few; what an event loop hands over in a few turns is one batch. A
future resolves only after its batch is on disk. Work that cannot be written now (disk full, database locked) is kept
and tried again, in order; nothing accepted is dropped. At most `max_waiting` admissions and calls wait; past that, and
while the disk refuses, new ones are turned away.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog
from msgspec.structs import replace
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from gemmapy.core.clock import Clock
from gemmapy.core.errors import StorageUnavailable
from gemmapy.core.records import Timings, Usage
from gemmapy.storage import ledger
from gemmapy.storage.works import (
    LOAN_S,
    Admit,
    Call,
    Finish,
    Loan,
    NoTurn,
    Record,
    Results,
    Work,
)

MAX_BATCH = 1_000
MAX_WAITING = 20_000
TURNS = 4
"""So often an event loop goes round before the writer is woken: microseconds where it is idle, and where it is busy
what makes one batch of what would be four."""
RETRY_S = 0.1
RECORD_REFUSED = "record_refused"
"""The error code of a request whose figures the database would not take."""
_log = structlog.stdlib.get_logger()


_OF_REQUESTS = (Admit, Finish)
_HAPPENED = (Finish, Record)
_PROBE = Call(ledger.write_nothing, None)
_TROUBLE = (OperationalError, sqlite3.OperationalError)
"""Locked, full or gone. The second where the driver's own cursor was used."""
_REFUSED = (IntegrityError, sqlite3.IntegrityError)


class Writer:
    """The thread, its queue and its connection. `turn` is held around each transaction, and may raise NoTurn."""

    def __init__(
        self,
        engine: Engine,
        slot: int,
        clock: Clock,
        max_waiting: int = MAX_WAITING,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._engine = engine
        self._turn = turn
        self._slot = slot
        self._clock = clock
        self._max_waiting = max_waiting
        self._inbox: deque[Work | Loan | None] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Rung after something was put into the inbox."""
        self._ringer: asyncio.AbstractEventLoop | None = None
        """The event loop that rings at the end of its turn."""
        self._unfinished: list[Work] = []
        self._give_up_at: int | None = None
        self._trouble: str | None = None
        # A daemon, so that a process that forgets to close still ends; what it was told is on disk already.
        self._thread = threading.Thread(target=self._run, name="gemmapy-writer", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written at this moment; None where all is well."""
        return self._trouble

    @property
    def waiting(self) -> int:
        """How much work has not been committed yet, about."""
        return len(self._inbox) + len(self._unfinished)

    def submit(self, work: Work | Loan) -> None:
        """Queues work; never blocks. Raises StorageUnavailable for new work where the books cannot take it.

        What has happened already is always taken.
        """
        if not isinstance(work, Loan) and not _has_happened(work):
            if self._trouble is not None:
                raise StorageUnavailable(f"The gateway cannot write its records: {self._trouble}.", retry_after_s=1)
            if len(self._inbox) >= self._max_waiting:
                raise StorageUnavailable("Too many records are waiting to be written.", retry_after_s=1)
        if self._give_up_at is not None:
            raise StorageUnavailable("The gateway's books are closed.")
        self._inbox.append(work)
        if not isinstance(work, _OF_REQUESTS) or isinstance(work.future, Future):
            self._bell.put(None)  # somebody waits for it, and nothing else happens here meanwhile
        else:
            self._ring_later()

    def _ring_later(self) -> None:
        """Wakes the thread when the event loop has gone round a few times: it would take the interpreter at the first
        work, and commit that alone."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._bell.put(None)
            return
        if self._ringer is not loop:
            self._ringer = loop
            loop.call_soon(self._turn_is_over, loop, TURNS - 1)

    def _turn_is_over(self, loop: asyncio.AbstractEventLoop, more: int) -> None:
        if more:
            loop.call_soon(self._turn_is_over, loop, more - 1)
            return
        self._ringer = None
        self._bell.put(None)

    def close(self, timeout_s: float = 30) -> bool:
        """Writes what is queued and ends the thread; False where something could not be written in time."""
        self._give_up_at = self._clock.monotonic_ns() + int(timeout_s * 1e9)
        self._inbox.append(None)
        self._bell.put(None)
        self._thread.join(timeout_s + 5)
        return not self._thread.is_alive() and not self._unfinished

    def _run(self) -> None:
        connection = None
        last = False
        while not last:
            batch, loans, last = self._gather()
            while batch:
                self._unfinished = batch
                try:
                    if connection is None:
                        connection = self._engine.connect()
                    with self._turn():
                        results = self._commit(connection, batch)
                    self._trouble = None
                    results.tell()
                    batch = []
                except (*_TROUBLE, NoTurn) as error:
                    # Locked, full or gone: the whole batch was rolled back. Keep what must be kept, say so, try again.
                    connection = _discard(connection)
                    # What has come meanwhile would wait for as long as this takes: it hears of it at once, too.
                    more, late_loans, is_end = self._take(sys.maxsize)
                    batch, loans, last = batch + more, loans + late_loans, last or is_end
                    # With nothing to keep, tries what changes nothing: nobody else could find out that it works again.
                    batch = self._refuse_new(batch, error) or ([] if self._give_up_at is not None else [_PROBE])
                    if self._give_up_at is not None and self._clock.monotonic_ns() > self._give_up_at:
                        _log.error("records were lost at shutdown", records=len(batch), reason=self._trouble)
                        return
                    time.sleep(RETRY_S)
                except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live
                    # One record of the batch is bad: write each by itself, and let only that one fail.
                    connection = _discard(connection)
                    try:
                        with self._turn():
                            batch = self._one_by_one(batch, error)
                    except NoTurn:
                        continue
            self._unfinished = []
            for loan in loans:
                if not loan.over.is_set():
                    loan.begin()
                    loan.over.wait(LOAN_S)
        _discard(connection)

    def _gather(self) -> tuple[list[Work], list[Loan], bool]:
        """Waits for work and takes all that is there, up to MAX_BATCH rows; the bool says that it was the last."""
        while not self._inbox:
            self._bell.get()
        return self._take(MAX_BATCH)

    def _take(self, most_rows: int) -> tuple[list[Work], list[Loan], bool]:
        """The same of what is there already."""
        batch: list[Work] = []
        loans: list[Loan] = []
        rows = 0
        while self._inbox and rows < most_rows:
            work = self._inbox.popleft()
            if work is None:
                return batch, loans, True
            if isinstance(work, Loan):
                loans.append(work)
                continue
            batch.append(work)
            rows += len(work.outcomes) if isinstance(work, Record) else 1
        return batch, loans, False

    def _commit(self, connection: Connection, batch: Sequence[Work]) -> Results:
        results = Results()
        with _transaction(connection):
            batch = _leave_out_written(connection, batch, results)
            admits = [w for w in batch if isinstance(w, Admit) and not (w.future and w.future.cancelled())]
            finishes = [w for w in batch if isinstance(w, Finish)]
            records = [w for w in batch if isinstance(w, Record)]
            admitted = [(w.intent, self._slot if w.slot is None else w.slot) for w in admits]
            finished = [(w.outcome, w.admitted) for w in finishes]
            finished += [(outcome, False) for w in records for outcome in w.outcomes]
            ids = ledger.write(connection, self._slot, admitted, finished, self._clock.now())
            for admit in admits:
                if admit.future is not None:
                    results.values.append((admit.future, None))
            for finish, metric_id in zip(finishes, ids, strict=False):
                if finish.future is not None:
                    results.values.append((finish.future, metric_id))
            at = len(finishes)
            for record in records:
                if record.future is not None:
                    results.values.append((record.future, ids[at : at + len(record.outcomes)]))
                at += len(record.outcomes)
            for call in batch:
                if isinstance(call, Call):
                    self._call(connection, call, results)
        return results

    def _call(self, connection: Connection, call: Call, results: Results) -> None:
        future = call.future
        if isinstance(future, Future) and not future.running() and not future.set_running_or_notify_cancel():
            return  # its caller gave up waiting, so it must not happen later behind their back
        try:
            with connection.begin_nested():
                value = call.function(connection)
        except _TROUBLE:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread must live
            if future is None:
                _log.exception("a write failed")
            else:
                results.errors.append((future, error))
        else:
            if future is not None:
                results.values.append((future, value))

    def _refuse_new(self, batch: list[Work], error: Exception) -> list[Work]:
        """Tells who waits for what is new that it failed, and keeps what must be written whatever happens."""
        reason = _reason(error)
        if self._trouble is None:
            _log.error("records cannot be written; trying again until they can", reason=reason, waiting=len(batch))
        self._trouble = reason
        refused = Results()
        kept: list[Work] = []
        for work in batch:
            if _has_happened(work):
                kept.append(work)
                if not (isinstance(work, Finish) and work.is_new):
                    continue
            if work is not _PROBE and work.future is not None and not work.future.cancelled():
                message = f"The gateway cannot write its records: {reason}."
                refused.errors.append((work.future, StorageUnavailable(message, retry_after_s=1)))
                work.future = None
        refused.tell()
        return kept

    def _one_by_one(self, batch: list[Work], error: Exception) -> list[Work]:
        """Writes each by itself; returns what is left where the database stops taking any."""
        place = 0
        with contextlib.suppress(*_TROUBLE), self._engine.connect() as connection:
            for work in batch:
                self._one(connection, work, error if len(batch) == 1 else None)
                place += 1
        return batch[place:]

    def _one(self, connection: Connection, work: Work, error: Exception | None) -> None:
        """`error` is how it was refused, where it was tried by itself already. Raises OperationalError."""
        if error is None:
            try:
                return self._commit(connection, [work]).tell()
            except _TROUBLE:
                raise
            except Exception as refusal:  # noqa: BLE001 - as above
                error = refusal
        return self._refused(connection, work, error)

    def _refused(self, connection: Connection, work: Work, error: Exception) -> None:
        """A record that the database will not take. If it is there already, an earlier try got through after all."""
        results = Results()
        future = work.future
        if isinstance(work, Finish | Record) and isinstance(error, _REFUSED):
            outcomes = [work.outcome] if isinstance(work, Finish) else work.outcomes
            with connection.begin():
                ids = [ledger.metric_id_of(connection, outcome.intent.request_id) for outcome in outcomes]
            if None not in ids:
                if future is not None:
                    results.values.append((future, ids[0] if isinstance(work, Finish) else ids))
                return results.tell()
        reason = _reason(error)
        _log.error("a record was refused", reason=reason, record=type(work).__name__)
        if isinstance(work, Finish):
            self._without_figures(connection, work, reason)
        if future is not None and not future.cancelled():
            results.errors.append((future, StorageUnavailable(f"The record was refused: {reason}.")))
        return results.tell()

    def _without_figures(self, connection: Connection, work: Finish, reason: str) -> None:
        """Writes that a request happened where what it used cannot be written: it must be in the books, and over."""
        outcome = replace(
            work.outcome,
            usage=Usage(estimated=True),
            timings=Timings(),
            cost=None,
            saved_nusd=None,
            speed_mtps=None,
            attempt_log=(),
            error_code=RECORD_REFUSED,
            error_message=f"The database did not take what this request used: {reason}.",
        )
        try:
            self._commit(connection, [Finish(outcome, work.admitted, None)])
        except _TROUBLE:
            raise
        except Exception:  # noqa: BLE001 - it is logged; the in-flight row stays, and the next start records that
            _log.error("a record was refused even without its figures", reason=reason)


@contextlib.contextmanager
def _transaction(connection: Connection) -> Generator[None]:
    """As `connection.begin()`, by the driver itself, which saves a tenth of what a lone record takes. What uses
    SQLAlchemy inside joins it, since a transaction that has begun is not begun again (`engine.py`)."""
    driver: Any = connection.connection.dbapi_connection
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        driver.commit()
    except BaseException:
        driver.rollback()
        raise
    finally:
        if connection.in_transaction():
            connection.rollback()  # its own notion of one; there is nothing left to undo


def _leave_out_written(connection: Connection, batch: Sequence[Work], results: Results) -> Sequence[Work]:
    """The batch without what is handed over again and was written the first time; that gets its answer."""
    doubtful = {_request_id(work) for work in batch if isinstance(work, _OF_REQUESTS) and work.again}
    if not doubtful:
        return batch
    known = ledger.known(connection, doubtful)
    rest: list[Work] = []
    for work in batch:
        if not isinstance(work, _OF_REQUESTS) or not work.again or _request_id(work) not in known:
            rest.append(work)
            continue
        metric_id = known[_request_id(work)]
        if isinstance(work, Finish) and metric_id is None:
            rest.append(work)
        elif work.future is not None:
            results.values.append((work.future, metric_id))
    return rest


def _has_happened(work: Work) -> bool:
    """What has happened already is always taken, and kept until it is written; so is what was promised before."""
    return isinstance(work, _HAPPENED) or (isinstance(work, Admit) and work.again)


def _request_id(work: Admit | Finish) -> bytes:
    return work.intent.request_id if isinstance(work, Admit) else work.outcome.intent.request_id


def _reason(error: Exception) -> str:
    """What the database said, without the statement and its values."""
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _discard(connection: Connection | None) -> None:
    """Closes a connection that may be broken; the next batch opens another."""
    if connection is not None:
        with contextlib.suppress(DBAPIError):  # it is thrown away, whatever it says
            connection.invalidate()
            connection.close()
