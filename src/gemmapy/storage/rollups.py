"""Rollups: additive totals beside the ledger, written in the same transaction as its rows.

Each row is kept by one writer (its slot is part of the key), so that two never wait for one row; readers add them up.
Grains are a quarter of an hour and a UTC day. The dimensions: everything, model x endpoint, user x model, project x
model; histograms for everything and for model x endpoint. What the ledger's SQL (`figures.py`) says of a bucket and
what stands here is the same, and `differences` proves it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from gemmapy.core.records import Outcome
from gemmapy.metrics.histogram import bin_of
from gemmapy.metrics.measures import COLUMNS, bins_of, rating_column, sums_of, tpot_us
from gemmapy.metrics.windows import DAY_S, GRAINS
from gemmapy.storage.engine import scan
from gemmapy.storage.sums import SPEED, SUMS
from gemmapy.storage.tables import (
    llm_metrics,
    rollup_histograms,
    rollup_models,
    rollup_projects,
    rollup_totals,
    rollup_users,
    time_text,
)

REBUILT = -1
"""The writer of rows that were made of the ledger."""
_DIMENSIONS: dict[Table, tuple[str, ...]] = {
    rollup_totals: (),
    rollup_models: ("model", "endpoint"),
    rollup_users: ("user_id", "model"),
    rollup_projects: ("project_id", "model"),
}
_NO_NAME = ""
"""In place of model and endpoint: the histogram of everything."""


@cache
def _add(table: Table) -> str:
    """Adds to a row, or makes it. Compiled once, since the writer runs it for every batch."""
    keys = [column.name for column in table.primary_key]
    values = [column.name for column in table.columns if column.name not in keys]
    names = ", ".join([*keys, *values])
    marks = ", ".join("?" * (len(keys) + len(values)))
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in values)
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {added}"  # noqa: S608


def add(connection: Connection, writer: int, outcomes: Iterable[Outcome], now: datetime) -> None:
    """Adds requests that are recorded at `now`."""
    groups: dict[Table, dict[tuple[Any, ...], list[int]]] = {table: {} for table in _DIMENSIONS}
    bins: defaultdict[tuple[str, str, int, int], int] = defaultdict(int)
    for outcome in outcomes:
        intent = outcome.intent
        sums = sums_of(outcome)
        _put(groups[rollup_totals], (), sums)
        _put(groups[rollup_models], (intent.model, intent.endpoint), sums)
        _put(groups[rollup_users], (intent.user_id, intent.model), sums)
        if intent.project_id is not None:
            _put(groups[rollup_projects], (intent.project_id, intent.model), sums)
        for measure, number in bins_of(outcome):
            bins[_NO_NAME, _NO_NAME, measure, number] += 1
            bins[intent.model, intent.endpoint, measure, number] += 1
    seconds = int(now.timestamp())
    for grain in GRAINS:
        bucket = seconds // grain * grain
        for table, entries in groups.items():
            if entries:
                rows = [(grain, bucket, *key, writer, *sums) for key, sums in entries.items()]
                connection.exec_driver_sql(_add(table), rows)
        if bins:
            rows = [(grain, bucket, *key, writer, count) for key, count in bins.items()]
            connection.exec_driver_sql(_add(rollup_histograms), rows)


def _put(entries: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], sums: list[int]) -> None:
    known = entries.get(key)
    entries[key] = list(sums) if known is None else [a + b for a, b in zip(known, sums, strict=True)]


def rerate(connection: Connection, writer: int, row: Any, old: int | None, new: int) -> None:
    """Moves a request's rating; `row` is its row of the ledger."""
    sums = [0] * len(COLUMNS)
    if old is not None:
        sums[COLUMNS.index(rating_column(old))] -= 1
    sums[COLUMNS.index(rating_column(new))] += 1
    seconds = int(row["created_at"].timestamp())
    for grain in GRAINS:
        bucket = seconds // grain * grain
        for table, names in _DIMENSIONS.items():
            key = tuple(row[name] for name in names)
            if None not in key:
                connection.exec_driver_sql(_add(table), [(grain, bucket, *key, writer, *sums)])


# Against the ledger


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of a rollup that is not what the ledger says. None: there is none on that side."""

    table: str
    key: dict[str, Any]
    column: str
    ledger: int | None
    rollup: int | None


def days_of_ledger(connection: Connection) -> Iterator[int]:
    """Every UTC day that the ledger or a rollup knows, as its first second."""
    day = func.date(llm_metrics.c.created_at)
    texts = connection.execute(select(day).distinct().where(llm_metrics.c.created_at.is_not(None))).scalars()
    days = {int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in texts}
    for table in (*_DIMENSIONS, rollup_histograms):
        days |= {b // DAY_S * DAY_S for b in connection.execute(select(table.c.bucket).distinct()).scalars()}
    yield from sorted(days)


def rebuild(connection: Connection, day: int | None = None) -> None:
    """Makes the rollups, of one UTC day or of all, of what the ledger says."""
    days = [day] if day is not None else list(days_of_ledger(connection))
    for one in days:
        for table in (*_DIMENSIONS, rollup_histograms):
            connection.execute(delete(table).where(table.c.bucket >= one, table.c.bucket < one + DAY_S))
            keys = [column.name for column in table.primary_key]
            place = keys.index("writer")
            rows = [
                dict(zip([c.name for c in table.columns], (*key[:place], REBUILT, *key[place:], *values), strict=True))
                for key, values in _recount(connection, table, one).items()
            ]
            if rows:
                connection.execute(insert(table), rows)


def differences(connection: Connection, day: int) -> Iterator[Difference]:
    """Where the rollups of one UTC day are not what its ledger says."""
    for table in (*_DIMENSIONS, rollup_histograms):
        keys = [column.name for column in table.primary_key if column.name != "writer"]
        values = [column.name for column in table.columns if column.name not in (*keys, "writer")]
        counted = _recount(connection, table, day)
        stated = _stated(connection, table, keys, values, day)
        for key in sorted(counted.keys() | stated.keys(), key=repr):
            ours, theirs = counted.get(key), stated.get(key)
            for place, column in enumerate(values):
                ledger = None if ours is None else ours[place]
                rollup = None if theirs is None else theirs[place]
                if (ledger or 0) != (rollup or 0):
                    yield Difference(table.name, dict(zip(keys, key, strict=True)), column, ledger, rollup)


def _stated(
    connection: Connection, table: Table, keys: list[str], values: list[str], day: int
) -> dict[tuple[Any, ...], tuple[int, ...]]:
    columns = [table.c[name] for name in keys]
    statement = (
        select(*columns, *(func.sum(table.c[name]) for name in values))
        .where(table.c.bucket >= day, table.c.bucket < day + DAY_S)
        .group_by(*columns)
    )
    found: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for cells in scan(connection, statement):
        if any(cells[len(keys) :]):
            found[cells[: len(keys)]] = cells[len(keys) :]
    return found


def _recount(connection: Connection, table: Table, day: int) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """What one rollup of a day should be, by its keys without the writer, counted from the ledger."""
    start, end = (time_text(datetime.fromtimestamp(second, UTC)) for second in (day, day + DAY_S))
    second = "CAST(strftime('%s', created_at) AS INTEGER)"
    where = f"created_at >= '{start}' AND created_at < '{end}'"
    found: dict[tuple[Any, ...], tuple[int, ...]] = {}
    if table is not rollup_histograms:
        names = _DIMENSIONS[table]
        for grain in GRAINS:
            keys = [f"{second} / {grain} * {grain}", *names]
            known = "".join(f" AND {name} IS NOT NULL" for name in names)
            sql = f"SELECT {', '.join([*keys, *SUMS.values()])} FROM llm_metrics WHERE {where}{known} "  # noqa: S608
            for cells in scan(connection, sql + f"GROUP BY {', '.join(keys)}"):
                found[(grain, *cells[: len(keys)])] = cells[len(keys) :]
        return found
    sql = (
        f"SELECT {second}, model, endpoint, duration_ms, ttft_ms, {SPEED}"  # noqa: S608
        f" FROM llm_metrics WHERE {where} AND cached = 0"
    )
    counts: defaultdict[tuple[Any, ...], int] = defaultdict(int)
    for moment, model, endpoint, duration_ms, ttft_ms, speed in scan(connection, sql):
        tpot = None if speed is None else tpot_us(speed)
        for measure, value in enumerate((duration_ms, ttft_ms, speed, tpot)):
            if value is not None:
                number = bin_of(value)
                for grain in GRAINS:
                    bucket = moment // grain * grain
                    counts[grain, bucket, _NO_NAME, _NO_NAME, measure, number] += 1
                    counts[grain, bucket, model, endpoint, measure, number] += 1
    return {key: (count,) for key, count in counts.items()}
