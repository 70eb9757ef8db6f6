"""Retention: old days leave the ledger, and what they added up to stays.

A day retires once it has been audited: its rollups are what its ledger says, and so they are from then on. Rows are
deleted a few at a time, each few in a transaction of its own, so that traffic is never held up; a process that dies in
between goes on at the next run. Runs in the gateway once an hour where `retention_days` is set, and from the command
line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gemmapy.core.errors import Conflict, InvalidRequest
from gemmapy.core.periods import Window
from gemmapy.metering.answers import Retention
from gemmapy.metrics.windows import DAY_S
from gemmapy.storage import figures, recount, retention, revisions, rollups, watermark
from gemmapy.storage.store import Store

LEAST_DAYS = 1
AT_ONCE = 500
TRIES = 5


@dataclass(frozen=True, slots=True)
class Retired:
    """A day that has retired."""

    day: str
    requests: int
    total_nusd: int


def due(store: Store, keep_days: int) -> list[int]:
    """The UTC days that are to retire where `keep_days` whole days are kept beside today, as their first seconds.

    Once a month was closed, days of months that are not closed yet stay: their statements are made of the ledger.
    """
    if keep_days < LEAST_DAYS:
        raise InvalidRequest(f"The days to keep must be {LEAST_DAYS} or more, got {keep_days}.")
    today = int(store.clock.now().timestamp()) // DAY_S * DAY_S
    with store.read() as connection:
        first = retention.first_day(connection)
        whole_from = int(watermark.watermark(connection).timestamp())
        closed = retention.last_closed_month(connection)
    if first is None:
        return []
    days = range(max(first, whole_from), today - keep_days * DAY_S, DAY_S)
    return [day for day in days if closed is None or f"{datetime.fromtimestamp(day, UTC):%Y-%m}" <= closed]


def state(store: Store, keep_days: int | None) -> Retention:
    """Where the ledger begins, what has retired, and what would at the next run."""
    with store.read() as connection:
        whole_from = watermark.watermark(connection)
        kept = retention.kept(connection)
    return {
        "retention_days": keep_days,
        "whole_from": whole_from if kept else None,
        "retired_days": len(kept),
        "retired_requests": sum(sums.requests for sums, _ in kept.values()),
        "due": []
        if keep_days is None
        else [f"{datetime.fromtimestamp(day, UTC):%Y-%m-%d}" for day in due(store, keep_days)],
    }


def retire(store: Store, keep_days: int) -> Iterator[Retired]:
    """Retires what is due, a day at a time, and tells of each once its rows are gone.

    Raises Conflict where a day's books do not balance: nothing that is wrong becomes final.
    """
    with store.read() as connection:
        left = retention.unfinished(connection)
    for day in left:
        _delete(store, day)
    # A day that is final must not grow by what is folded later.
    store.write(lambda connection: rollups.fold(connection, store.clock.now()))
    for day in due(store, keep_days):
        yield _retire(store, day)


def _retire(store: Store, day: int) -> Retired:
    start = datetime.fromtimestamp(day, UTC)
    for _ in range(TRIES):
        with store.read() as connection:
            revision = revisions.current(connection).get(rollups.BOOKS, 0)
            wrong = next(recount.differences(connection, day), None)
            sums = figures.sums_of_ledger(connection, Window(start, start + timedelta(seconds=DAY_S)))
            checksum = retention.checksum_of(connection, day)
        if wrong is not None:
            raise Conflict(
                f"{start:%Y-%m-%d} cannot retire: {wrong.table} does not say what the ledger does ({wrong.column}).",
                hint="'gemmapy audit --repair' makes the rollups of that day again.",
            )
        if store.write(lambda connection, s=sums, c=checksum, r=revision: _final(store, connection, day, s, c, r)):
            _delete(store, day)
            return Retired(f"{start:%Y-%m-%d}", sums.requests, sums.total_nusd)
    raise Conflict(f"{start:%Y-%m-%d} could not retire: its requests are being rated or adjusted again and again.")


def _final(
    store: Store, connection: retention.Connection, day: int, sums: figures.Sums, checksum: str, revision: int
) -> bool:
    """Makes a day final, unless something that is over was changed since it was audited."""
    if revisions.current(connection).get(rollups.BOOKS, 0) != revision:
        return False
    retention.retire(connection, day, sums, checksum, store.clock.now())
    revisions.count_up(connection, rollups.BOOKS)
    return True


def _delete(store: Store, day: int) -> None:
    while store.write(lambda connection: retention.delete_some(connection, day, AT_ONCE, store.clock.now())):
        pass
