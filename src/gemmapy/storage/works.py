"""What is handed over to be written, and what comes back: the words between those who have something to record, the
writer's thread (`writer.py`), and the process that has it (`workers`)."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import structlog
from sqlalchemy import Connection

from gemmapy.core.records import Intent, Outcome

LOAN_S = 10
"""How long another process may have the turn to write."""
Told: TypeAlias = "tuple[int, Any, BaseException | None]"
_log = structlog.stdlib.get_logger()


class Recipient(Protocol):
    """Who hands works over for another process."""

    def told(self, results: list[Told]) -> None:
        """What became of its works, by their numbers. Called in the writer's thread, and must not block it."""
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a work of another process has in place of a future."""

    to: Recipient
    number: int

    def cancelled(self) -> bool:
        return False


AnyFuture: TypeAlias = Future[Any] | asyncio.Future[Any] | Receipt


@dataclass(slots=True)
class Admit:
    """Write an in-flight row. `cancelled` before its commit: leave it out.

    `slot` is that of the process whose request it is, where that is not the writer's own. `again`: it may have been
    written already.
    """

    intent: Intent
    future: AnyFuture | None
    slot: int | None = None
    again: bool = False


@dataclass(slots=True)
class Finish:
    """Write a metric row; `admitted` where an in-flight row has to go. Resolves to the metric id.

    `again`: it may have been written already. `is_new`: the books have not heard of its request before, so whoever
    waits for it is told at once where it cannot be written now, as an admission is; it is written all the same.
    """

    outcome: Outcome
    admitted: bool
    future: AnyFuture | None
    again: bool = False
    is_new: bool = False


@dataclass(slots=True)
class Record:
    """Write many metric rows of requests that were never in flight. Resolves to their ids, in their order."""

    outcomes: Sequence[Outcome]
    future: AnyFuture | None


@dataclass(slots=True)
class Call:
    """Run any function inside the transaction, in a savepoint of its own. Resolves to what it returns."""

    function: Callable[[Connection], Any]
    future: AnyFuture | None


@dataclass(slots=True)
class Loan:
    """Let another process write: `begin` is called between two transactions, and none begins until `over` is set, or
    `LOAN_S` have passed. SQLite's own lock still holds; this is so that nobody has to be lucky to get it."""

    begin: Callable[[], None]
    over: threading.Event = field(default_factory=threading.Event)


class NoTurn(Exception):
    """The turn to write could not be had now. Nothing was written."""


Work: TypeAlias = Admit | Finish | Record | Call


@dataclass(slots=True)
class Results:
    """What a batch's futures will be told, once it is on disk."""

    values: list[tuple[AnyFuture, Any]] = field(default_factory=list[tuple[AnyFuture, Any]])
    errors: list[tuple[AnyFuture, BaseException]] = field(default_factory=list[tuple[AnyFuture, BaseException]])

    def tell(self) -> None:
        """Resolves the futures: threads' at once, each event loop's in one wake-up."""
        loops: defaultdict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any, BaseException | None]]]
        loops = defaultdict(list)
        receipts: defaultdict[Recipient, list[Told]] = defaultdict(list)
        outcomes = [(f, v, None) for f, v in self.values] + [(f, None, e) for f, e in self.errors]
        for future, value, error in outcomes:
            if isinstance(future, Receipt):
                receipts[future.to].append((future.number, value, error))
            elif isinstance(future, asyncio.Future):
                loops[future.get_loop()].append((future, value, error))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)
        for recipient, told in receipts.items():
            recipient.told(told)
        for loop, resolved in loops.items():
            try:
                loop.call_soon_threadsafe(_resolve, resolved)
            except RuntimeError:
                _log.debug("an event loop closed before its records were acknowledged", records=len(resolved))


def _resolve(resolved: Sequence[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for future, value, error in resolved:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
            future.exception()  # heard: a request that failed for another reason first asks no more
        else:
            future.set_result(value)
