"""Rollups: additive totals beside the ledger, written in the same transaction as its rows.

Each row is kept by one writer (its slot is part of the key), so that two never wait for one row; readers add them up.
The dimensions: everything, model x endpoint, user x model, project x model; histograms of everything, of each model, of
each endpoint and of each user. The grains are a quarter of an hour, a UTC day, and sixteen of them. What the
ledger's SQL (`sums.py`) says of a bucket is what stands here, and `differences` proves it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import product
from operator import add as add_numbers
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from gemmapy.core.records import Outcome
from gemmapy.metrics.histogram import add as add_bins
from gemmapy.metrics.histogram import bin_of, merge, pack
from gemmapy.metrics.measures import COLUMNS, bins_of, sums_of, tpot_us
from gemmapy.metrics.windows import DAY_S, GRAINS, QUARTER_S, SPELL_S
from gemmapy.storage.engine import scan
from gemmapy.storage.revisions import count_up
from gemmapy.storage.sums import SOURCES, SPEED
from gemmapy.storage.tables import (
    llm_metrics,
    rollup_histograms,
    rollup_models,
    rollup_projects,
    rollup_totals,
    rollup_users,
    time_text,
)
from gemmapy.storage.watermark import watermark

BOOKS = "books"
"""The subject whose revision counts up with every change of what was over."""
REBUILT = -1
"""The writer of rows that were made of the ledger."""
_DIMENSIONS: dict[Table, tuple[str, ...]] = {
    rollup_totals: (),
    rollup_models: ("model", "endpoint"),
    rollup_users: ("user_id", "model"),
    rollup_projects: ("project_id", "model"),
}
_TABLES = (*_DIMENSIONS, rollup_histograms)
HistogramKey = tuple[str, str, int]
"""Scope, name and measure."""
_FIND_BINS = (
    "SELECT bins FROM rollup_histograms"
    " WHERE grain = ? AND bucket = ? AND scope = ? AND name = ? AND measure = ? AND writer = ?"
)
_PUT_BINS = (
    "INSERT INTO rollup_histograms (grain, bucket, scope, name, measure, writer, bins) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET bins = excluded.bins"
)


@cache
def _add(table: Table) -> str:
    """Adds to a row, or makes it. Compiled once, since the writer runs it for every batch."""
    keys = [column.name for column in table.primary_key]
    names = ", ".join([*keys, *COLUMNS])
    marks = ", ".join("?" * (len(keys) + len(COLUMNS)))
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS)
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {added}"  # noqa: S608


def add(connection: Connection, writer: int, outcomes: Iterable[Outcome], now: datetime) -> None:
    """Adds requests that are recorded at `now`."""
    groups: dict[Table, dict[tuple[Any, ...], list[int]]] = {table: {} for table in _DIMENSIONS}
    bins: defaultdict[HistogramKey, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for outcome in outcomes:
        intent = outcome.intent
        sums = sums_of(outcome)
        _put(groups[rollup_totals], (), sums)
        _put(groups[rollup_models], (intent.model, intent.endpoint), sums)
        _put(groups[rollup_users], (intent.user_id, intent.model), sums)
        if intent.project_id is not None:
            _put(groups[rollup_projects], (intent.project_id, intent.model), sums)
        for measure, number in bins_of(outcome):
            for scope, name in _scopes(intent.user_id, intent.model, intent.endpoint):
                bins[scope, name, measure][number] += 1
    seconds = int(now.timestamp())
    # The driver's own cursor: a lone request touches some fifty rows, and a layer between would cost more than they do.
    cursor: Any = connection.connection.cursor()
    for grain in GRAINS:
        bucket = seconds // grain * grain
        for table, entries in groups.items():
            rows = [(grain, bucket, *key, writer, *sums) for key, sums in entries.items()]
            cursor.executemany(_add(table), rows)
        packed: list[tuple[Any, ...]] = []
        for key, counted in bins.items():
            if key[0] == "user" and grain == QUARTER_S:
                continue
            place = (grain, bucket, *key, writer)
            known = cursor.execute(_FIND_BINS, place).fetchone()
            packed.append((*place, pack(counted) if known is None else add_bins(known[0], counted)))
        cursor.executemany(_PUT_BINS, packed)
    cursor.close()


def _scopes(user_id: int, model: str, endpoint: str) -> tuple[tuple[str, str], ...]:
    """What a request is counted under. Users have no quarter-hours: there would be nearly as many as requests."""
    return ("all", ""), ("model", model), ("endpoint", endpoint), ("user", str(user_id))


def _put(entries: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], sums: list[int]) -> None:
    known = entries.get(key)
    entries[key] = sums if known is None else [a + b for a, b in zip(known, sums, strict=True)]


@dataclass(frozen=True, slots=True)
class Keys:
    """What a request is added up under, beside its moment."""

    user_id: int
    model: str
    endpoint: str
    project_id: int | None


def adjust(connection: Connection, writer: int, moment: datetime, keys: Keys, deltas: Mapping[str, int]) -> None:
    """Adds differences, by column, to the buckets of requests that were recorded at `moment`: a rating that moves, a
    price that is corrected. The books' revision counts up, since what was over has changed."""
    sums = [deltas.get(name, 0) for name in COLUMNS]
    seconds = int(moment.timestamp())
    for grain in GRAINS:
        bucket = seconds // grain * grain
        for table, names in _DIMENSIONS.items():
            key = tuple(getattr(keys, name) for name in names)
            if None not in key:
                connection.exec_driver_sql(_add(table), [(grain, bucket, *key, writer, *sums)])
    count_up(connection, BOOKS)


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
    for table in _TABLES:
        buckets = connection.execute(select(table.c.bucket).distinct().where(table.c.grain != SPELL_S)).scalars()
        days |= {bucket // DAY_S * DAY_S for bucket in buckets}
    yield from sorted(days)


def rebuild(connection: Connection, day: int | None = None) -> None:
    """Makes the rollups, of one UTC day and the spell of sixteen that it is in or of all, of what the ledger says.

    Days that have retired are left alone: their ledger is gone, and they are all that is known of it.
    """
    whole_from = watermark(connection).timestamp()
    days = [one for one in ([day] if day is not None else days_of_ledger(connection)) if one >= whole_from]
    for one in days:
        _replace(connection, one, one + DAY_S, (QUARTER_S, DAY_S))
    for spell in sorted({one // SPELL_S * SPELL_S for one in days}):
        _replace(connection, spell, spell + SPELL_S, (SPELL_S,))
    count_up(connection, BOOKS)


def _replace(connection: Connection, start: int, end: int, grains: tuple[int, ...]) -> None:
    for table in _TABLES:
        within = (table.c.grain.in_(grains), table.c.bucket >= start, table.c.bucket < end)
        connection.execute(delete(table).where(*within))
        place = [column.name for column in table.primary_key].index("writer")
        names = [column.name for column in table.columns]
        rows = [
            dict(zip(names, (*key[:place], REBUILT, *key[place:], *values), strict=True))
            for key, values in _should_be(connection, table, start, end, grains).items()
        ]
        if rows:
            connection.execute(insert(table), rows)


def differences(connection: Connection, day: int) -> Iterator[Difference]:
    """Where the quarter-hours and the day of one UTC day are not what its ledger says, or the spell not its days."""
    spell = day // SPELL_S * SPELL_S
    for table in _TABLES:
        yield from _compare(connection, table, day, day + DAY_S, (QUARTER_S, DAY_S))
        yield from _compare(connection, table, spell, spell + SPELL_S, (SPELL_S,))


def contents_of_day(connection: Connection, day: int) -> Iterator[tuple[str, tuple[Any, ...], tuple[Any, ...]]]:
    """What the rollups say of a UTC day and its quarters of an hour, whoever wrote it, in a fixed order: a table's
    name, a row's keys (grain, bucket and dimensions), and its values."""
    for table in _TABLES:
        stated = _stated(connection, table, day, day + DAY_S, (QUARTER_S, DAY_S))
        for key in sorted(stated):
            yield table.name, key, stated[key]


def _compare(
    connection: Connection, table: Table, start: int, end: int, grains: tuple[int, ...]
) -> Iterator[Difference]:
    keys = [column.name for column in table.primary_key if column.name != "writer"]
    values = ["bins"] if table is rollup_histograms else list(COLUMNS)
    should_be = _should_be(connection, table, start, end, grains)
    stated = _stated(connection, table, start, end, grains)
    for key in sorted(should_be.keys() | stated.keys(), key=repr):
        ours, theirs = should_be.get(key), stated.get(key)
        if ours == theirs:
            continue
        for place, column in enumerate(values):
            ledger, rollup = (None if side is None else side[place] for side in (ours, theirs))
            if column == "bins":
                ledger, rollup = (None if side is None else sum(merge([side]).values()) for side in (ledger, rollup))
                column = "number of values" if ledger != rollup else "distribution"
            elif (ledger or 0) == (rollup or 0):
                continue
            yield Difference(table.name, dict(zip(keys, key, strict=True)), column, ledger, rollup)


Contents = dict[tuple[Any, ...], tuple[Any, ...]]
"""A rollup's values by its keys, the writers added up; rows of nothing but zeros are left out."""


def _stated(connection: Connection, table: Table, start: int, end: int, grains: tuple[int, ...]) -> Contents:
    """What the rollup says."""
    keys = [column for column in table.primary_key if column.name != "writer"]
    within = (table.c.grain.in_(grains), table.c.bucket >= start, table.c.bucket < end)
    if table is rollup_histograms:
        found: defaultdict[tuple[Any, ...], list[bytes]] = defaultdict(list)
        for *key, packed in scan(connection, select(*keys, table.c.bins).where(*within)):
            found[tuple(key)].append(packed)
        return {key: (pack(merge(many)),) for key, many in found.items()}
    statement = select(*keys, *(func.sum(table.c[name]) for name in COLUMNS)).where(*within).group_by(*keys)
    rows = ((cells[: len(keys)], cells[len(keys) :]) for cells in scan(connection, statement))
    return {key: values for key, values in rows if any(values)}


def _should_be(connection: Connection, table: Table, start: int, end: int, grains: tuple[int, ...]) -> Contents:
    """What it should say: counted from the ledger, or for spells of sixteen days from the rollup of their days."""
    if grains == (SPELL_S,):
        found: Contents = {}
        gathered: defaultdict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
        for (_, bucket, *rest), values in _stated(connection, table, start, end, (DAY_S,)).items():
            gathered[SPELL_S, bucket // SPELL_S * SPELL_S, *rest].append(values)
        for key, parts in gathered.items():
            if table is rollup_histograms:
                found[key] = (pack(merge(part[0] for part in parts)),)
            else:
                found[key] = tuple(sum(column) for column in zip(*parts, strict=True))
        return found
    if table is rollup_histograms:
        return _histograms(connection, start, end, grains)
    return _sums(connection, table, start, end, grains)


def _sums(connection: Connection, table: Table, start: int, end: int, grains: tuple[int, ...]) -> Contents:
    names = _DIMENSIONS[table]
    known = "".join(f" AND {name} IS NOT NULL" for name in names)
    found: Contents = {}
    for source, grain in product(SOURCES, grains):
        keys = [f"{_second(source.moment.name)} / {grain} * {grain}", *names]
        sql = (
            f"SELECT {', '.join([*keys, *source.sums.values()])} FROM {source.table.name}"  # noqa: S608
            f" WHERE {_within(source.moment.name, start, end)}{known} GROUP BY {', '.join(keys)}"
        )
        for cells in scan(connection, sql):
            key, values = (grain, *cells[: len(keys)]), cells[len(keys) :]
            known_values = found.get(key)
            found[key] = values if known_values is None else tuple(map(add_numbers, known_values, values))
    return found


def _second(moment: str) -> str:
    return f"CAST(strftime('%s', {moment}) AS INTEGER)"


def _within(moment: str, start: int, end: int) -> str:
    first, last = (time_text(datetime.fromtimestamp(second, UTC)) for second in (start, end))
    return f"{moment} >= '{first}' AND {moment} < '{last}'"


def _histograms(connection: Connection, start: int, end: int, grains: tuple[int, ...]) -> Contents:
    sql = (
        f"SELECT {_second('created_at')}, user_id, model, endpoint, duration_ms, ttft_ms, {SPEED}"  # noqa: S608
        f" FROM llm_metrics WHERE {_within('created_at', start, end)} AND cached = 0"
    )
    counts: defaultdict[tuple[Any, ...], defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for moment, user_id, model, endpoint, duration_ms, ttft_ms, speed in scan(connection, sql):
        tpot = None if speed is None else tpot_us(speed)
        for measure, value in enumerate((duration_ms, ttft_ms, speed, tpot)):
            if value is not None:
                number = bin_of(value)
                for grain in grains:
                    for scope, name in _scopes(user_id, model, endpoint):
                        if scope == "user" and grain == QUARTER_S:
                            continue
                        counts[grain, moment // grain * grain, scope, name, measure][number] += 1
    return {key: (pack(bins),) for key, bins in counts.items()}
