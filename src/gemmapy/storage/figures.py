"""Sums over any window: from rollups for whole buckets, from the ledger for the broken edges and for rare filters.

What the sums mean is in `metrics/measures.py`, how a window is cut in `metrics/windows.py`. Buckets that are over are
read once in a process (`remembered.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from operator import add, sub
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Table

from gemmapy.core.periods import Window
from gemmapy.metrics.histogram import NOTHING, Lanes, combined, lanes_of, merge
from gemmapy.metrics.measures import COLUMNS, Sums, places
from gemmapy.metrics.windows import DAY_S, HOUR_S, QUARTER_S, Cut, Edge, Extent, Span, cut
from gemmapy.storage import labels
from gemmapy.storage.engine import scan
from gemmapy.storage.remembered import Remembered
from gemmapy.storage.rollups import (
    ALL,
    DETAILS,
    ENDPOINT,
    HISTOGRAM_GRAINS,
    MODEL,
    MODELS,
    PROJECT,
    PROJECTS,
    SPENT,
    TOTALS,
    USER,
    USERS,
    Rollup,
)
from gemmapy.storage.sums import SOURCES, SPEED
from gemmapy.storage.tables import parse_time, time_text
from gemmapy.storage.watermark import snapped, watermark

By = Literal["all", "model", "endpoint", "user", "project", "quarter", "hour", "day"]
LENGTH_OF = {"quarter": QUARTER_S, "hour": HOUR_S, "day": DAY_S}
"""What a group of time is long, in seconds."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests; None is all. The last two only the ledger can tell apart, so they are slower."""

    user_id: int | None = None
    project_id: int | None = None
    model: str | None = None
    endpoint: str | None = None
    api_key_id: int | None = None
    status: int | None = None

    def conditions(self, table: Table) -> list[ColumnElement[bool]]:
        """As SQL, over a table that has the columns."""
        return [table.c[name] == value for name, value in self.wanted.items()]

    @property
    def wanted(self) -> dict[str, int | str]:
        """The columns that it asks for, and their values."""
        named = ("user_id", "project_id", "model", "endpoint", "api_key_id", "status")
        values = ((name, getattr(self, name)) for name in named)
        return {name: value for name, value in values if value is not None}

    @property
    def dimensions(self) -> frozenset[str]:
        """The columns that it asks for."""
        return frozenset(self.wanted)


EVERYTHING = Filter()
_COLUMN_OF = {"model": "model", "endpoint": "endpoint", "user": "user_id", "project": "project_id"}
_KEY_OF = {"model": "model_id", "endpoint": "endpoint_id"}
_ROLLUPS = (TOTALS, USERS, MODELS, PROJECTS, SPENT, DETAILS)
"""The narrowest first: the first that has everything asked for answers."""


def _rollup_for(by: By, which: Filter, columns: tuple[str, ...]) -> Rollup | None:
    needed = {*which.dimensions, *([_COLUMN_OF[by]] if by in _COLUMN_OF else [])}
    keys = {_KEY_OF.get(name, name) for name in needed}
    for rollup in _ROLLUPS:
        fine_enough = rollup.grains[0] <= LENGTH_OF.get(by, DAY_S)
        if keys <= set(rollup.keys) and set(columns) <= set(rollup.columns) and fine_enough:
            return rollup
    return None


def answerable(connection: Connection, window: Window, by: By, which: Filter) -> Window:
    """The window that `sums`, and `histograms` beside them, can answer in place of the one that is asked for: itself,
    unless days in it retired."""
    rollup = _rollup_for(by, which, COLUMNS)
    if rollup is None:
        return snapped(connection, window, None)
    of_bins = histogram_source(by, which) if by not in ("user", "project") else None
    return snapped(connection, window, max(rollup.grains[0], 0 if of_bins is None else of_bins.grains[0]))


# What a question reads


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the reader's snapshot of the database knows about itself."""

    extent: Extent
    revision: int
    remembered: Remembered | None


_SNAPSHOT = f"""
    SELECT (SELECT folded_until FROM rollup_marks),
           (SELECT revision FROM revisions WHERE subject = 'books'),
           (SELECT min(bucket) FROM rollup_totals WHERE grain = {QUARTER_S}),
           (SELECT max(bucket) FROM rollup_totals WHERE grain = {QUARTER_S}),
           (SELECT max(created_at) FROM llm_metrics)
"""  # noqa: S608


def snapshot_of(connection: Connection) -> Snapshot:
    """Where requests lie, what is folded, and whether what the process remembers is of this snapshot."""
    folded, revision, first, last, last_at = next(scan(connection, _SNAPSHOT))
    moment = None if last_at is None else parse_time(last_at)
    extent = Extent(folded or 0, first, last or 0, moment)
    remembered: Remembered | None = connection.get_execution_options().get("remembered")
    if remembered is not None:
        changed = "SELECT day, revision FROM rollup_changes WHERE revision > "

        def changed_since(known: int) -> dict[int, int]:
            return dict(scan(connection, f"{changed}{known}"))  # pyright: ignore[reportReturnType, reportArgumentType]

        if not remembered.is_current(revision or 0, changed_since):
            remembered = None
    return Snapshot(extent, revision or 0, remembered)


Row = tuple[Any, ...]


def read_span(
    connection: Connection, snapshot: Snapshot, span: Span, key: Hashable, sql: str, parameters: Sequence[Any]
) -> list[Row]:
    """The rows of a span; those of what is folded are remembered. `sql` has `{within}` for the buckets."""
    fold = snapshot.extent.folded_until
    remembered = snapshot.remembered if span.start < fold else None
    # A coarse bucket that is under way holds more after the next hour.
    place = (key, span.grain, span.start, span.end, fold if span.end > fold else None)
    if remembered is not None:
        known = remembered.get(place, snapshot.revision)
        if known is not None:
            return known
    rows = list(scan(connection, sql, parameters))
    if remembered is not None:
        cells = sum(map(len, rows)) + 8
        remembered.put(place, snapshot.revision, (span.start, min(span.end, fold)), cells, rows)
    return rows


_FEW_BUCKETS = 10_000


def within(span: Span, *, by_bucket: bool) -> str:
    """The condition on a span's buckets: each by itself where more of the key is given, so that each is one look."""
    count = (span.end - span.start) // span.grain
    if by_bucket and count <= _FEW_BUCKETS:
        buckets = ", ".join(map(str, range(span.start, span.end, span.grain)))
        return f"grain = {span.grain} AND bucket IN ({buckets})"
    return f"grain = {span.grain} AND bucket >= {span.start} AND bucket < {span.end}"


def sums(
    connection: Connection,
    window: Window,
    by: By,
    which: Filter = EVERYTHING,
    columns: tuple[str, ...] = COLUMNS,
) -> dict[Any, Sums]:
    """The sums of each group in the window: by model, endpoint, user id, project id, quarter of an hour, hour or UTC
    day (their first seconds since 1970), or of `"all"` together, under the key None.

    Groups without requests are left out; so are, of projects, the requests that have none. Only the `columns` are
    read; the others are 0.
    """
    made = columns if len(columns) == len(COLUMNS) else None
    found = _totals(connection, window, by, which, columns)
    if made is not None:
        return {group: Sums._make(values) for group, values in found.items()}
    places_of = [columns.index(name) if name in columns else len(columns) for name in COLUMNS]
    return {group: Sums._make([(*values, 0)[place] for place in places_of]) for group, values in found.items()}


def _totals(
    connection: Connection, window: Window, by: By, which: Filter, columns: tuple[str, ...]
) -> dict[Any, Sequence[int]]:
    """The same as bare numbers, in the order of `columns`."""
    rollup = _rollup_for(by, which, columns)
    snapshot = snapshot_of(connection)
    if rollup is None:
        pieces = Cut((), (Edge(window),))
    else:
        longest = LENGTH_OF.get(by, rollup.grains[-1])
        pieces = cut(window, tuple(grain for grain in rollup.grains if grain <= longest), snapshot.extent)
    found: dict[Any, Sequence[int]] = {}
    if rollup is not None and pieces.spans:
        of_rollup = _by_number(connection, which)
        if of_rollup is None:
            return {}  # nothing was ever recorded under that name
        for span in pieces.spans:
            sql = _span_sql(rollup, by, of_rollup, columns, span)
            key = (rollup.table.name, by, tuple(of_rollup.items()), columns)
            rows = read_span(connection, snapshot, span, key, sql, list(of_rollup.values()))
            _gather(found, rows, span.sign)
        if by == "project":
            found.pop(0, None)  # how the details say that there is none
        if by in _KEY_OF:
            names = labels.names(connection, found)
            found = {names[group]: values for group, values in found.items()}
    for edge in pieces.edges:
        _gather(found, _read_edge(connection, edge, by, which, columns, alone=not pieces.spans), edge.sign)
    return {group: values for group, values in found.items() if any(values)}


def _gather(found: dict[Any, Sequence[int]], rows: Iterable[Row], sign: int) -> None:
    """Adds rows of a group and its values, or takes them away."""
    for group, *values in rows:
        known = found.get(group)
        if known is not None:
            found[group] = list(map(add if sign > 0 else sub, known, values))
        else:
            found[group] = values if sign > 0 else [-value for value in values]


def _by_number(connection: Connection, which: Filter) -> dict[str, int] | None:
    """A filter over the columns of rollups; None where one of its names has no number."""
    wanted: dict[str, int] = {}
    for name, value in which.wanted.items():
        if isinstance(value, str):
            number = labels.number(connection, value)
            if number is None:
                return None
            value = number
        wanted[_KEY_OF.get(name, name)] = value
    return wanted


def _span_sql(rollup: Rollup, by: By, of_rollup: dict[str, int], columns: tuple[str, ...], span: Span) -> str:
    table = rollup.table_of(span.grain).name
    if by in LENGTH_OF:
        key = f"bucket / {LENGTH_OF[by]} * {LENGTH_OF[by]}"
    else:
        key = "NULL" if by == "all" else _KEY_OF.get(_COLUMN_OF[by], _COLUMN_OF[by])
    conditions = [within(span, by_bucket=bool(of_rollup) and rollup is not USERS)]
    conditions += [f"{name} = ?" for name in of_rollup]
    summed = ", ".join(f"sum({name})" for name in columns)
    group = "" if by == "all" else f" GROUP BY {key}"
    having = " HAVING count(*) > 0" if by == "all" else ""
    return f"SELECT {key}, {summed} FROM {table} WHERE {' AND '.join(conditions)}{group}{having}"  # noqa: S608


_SECOND = "CAST(strftime('%s', {}) AS INTEGER)"


def _read_edge(
    connection: Connection, edge: Edge, by: By, which: Filter, columns: tuple[str, ...], *, alone: bool
) -> Iterable[Row]:
    """A piece of time from the ledger, and what was adjusted of it since: two rows for a group that has both."""
    for source in SOURCES:
        moment = source.moment.name
        if by in LENGTH_OF:
            key = f"{_SECOND.format(moment)} / {LENGTH_OF[by]} * {LENGTH_OF[by]}"
        else:
            key = "NULL" if by == "all" else _COLUMN_OF[by]
        where, parameters = of_ledger(moment, edge.window, which, alone=alone)
        if by == "project":
            where += " AND project_id IS NOT NULL"
        summed = ", ".join(source.sums[name] for name in columns)
        group = "" if by == "all" else f" GROUP BY {key}"
        sql = f"SELECT {key}, {summed} FROM {source.table.name} WHERE {where}{group}"  # noqa: S608
        yield from scan(connection, sql, parameters)


def of_ledger(moment: str, window: Window, which: Filter, *, alone: bool) -> tuple[str, list[Any]]:
    """A window and a filter as SQL over the ledger, and its parameters.

    Of a broken edge the index over time must be used, which is told by hiding the columns from the others: a quarter of
    an hour is less than a user's whole life.
    """
    hidden = "" if alone else "+"
    conditions = [f"{moment} >= ?", f"{moment} < ?", *(f"{hidden}{name} = ?" for name in which.wanted)]
    return " AND ".join(conditions), [time_text(window.start), time_text(window.end), *which.wanted.values()]


# Histograms

HistogramBy = Literal["all", "model", "endpoint", "quarter", "hour", "day"]


@dataclass(frozen=True, slots=True)
class Source:
    """Which histograms answer: of one scope, of one name in it or of all."""

    scope: int
    name: str | int | None
    grains: tuple[int, ...]


def histogram_source(by: HistogramBy, which: Filter) -> Source | None:
    """Rollups answer what is filtered by nothing, or by one thing alone; None leaves it to the ledger."""
    asked = which.dimensions
    longest = LENGTH_OF.get(by)
    if by in ("model", "endpoint"):
        scope, name = (MODEL, which.model) if by == "model" else (ENDPOINT, which.endpoint)
        return Source(scope, name, HISTOGRAM_GRAINS[scope]) if asked <= {by} else None
    if len(asked) > 1:
        return None
    scopes = {
        "user_id": (USER, which.user_id),
        "project_id": (PROJECT, which.project_id),
        "model": (MODEL, which.model),
        "endpoint": (ENDPOINT, which.endpoint),
    }
    found = scopes.get(next(iter(asked))) if asked else (ALL, 0)
    if found is None or (longest or DAY_S) < HISTOGRAM_GRAINS[found[0]][0]:
        return None
    return Source(*found, tuple(grain for grain in HISTOGRAM_GRAINS[found[0]] if longest is None or grain <= longest))


def histograms(connection: Connection, window: Window, by: HistogramBy, which: Filter = EVERYTHING) -> dict[Any, Lanes]:
    """The histograms of each group in the window; the group of all is None.

    From rollups where nothing is filtered, or one thing alone and that is not split further; else from the ledger, and
    then nothing where a part of the window has retired.
    """
    source = histogram_source(by, which)
    if source is None and window.start < watermark(connection):
        return {}  # half of the window's requests would pass for all of them
    snapshot = snapshot_of(connection)
    pieces = Cut((), (Edge(window),)) if source is None else cut(window, source.grains, snapshot.extent)
    found: dict[Any, Lanes] = {}
    if source is not None and pieces.spans:
        name = labels.number(connection, source.name) if isinstance(source.name, str) else source.name
        if name is None and source.name is not None:
            return {}
        for span in pieces.spans:
            for group, *lanes in _read_bins(connection, snapshot, span, by, source.scope, name):
                found[group] = combined(found.get(group, NOTHING), tuple(lanes), span.sign)
        if by in ("model", "endpoint"):
            names = labels.names(connection, found)
            found = {names[group]: lanes for group, lanes in found.items()}
    for edge in pieces.edges:
        for group, lanes in _count_edge(connection, edge, by, which, alone=not pieces.spans).items():
            found[group] = combined(found.get(group, NOTHING), lanes, edge.sign)
    return {group: lanes for group, lanes in found.items() if any(lanes)}


def _read_bins(
    connection: Connection, snapshot: Snapshot, span: Span, by: HistogramBy, scope: int, name: int | None
) -> list[Row]:
    """A span's histograms by group, merged; remembered as such."""
    fold = snapshot.extent.folded_until
    remembered = snapshot.remembered if span.start < fold else None
    place = ("bins", by, scope, name, span.grain, span.start, span.end, fold if span.end > fold else None)
    if remembered is not None:
        known = remembered.get(place, snapshot.revision)
        if known is not None:
            return known
    sql = f"SELECT bucket, name, bins FROM rollup_histograms WHERE {within(span, by_bucket=True)} AND scope = {scope}"  # noqa: S608
    if name is not None:
        sql += f" AND name = {int(name)}"
    packed: dict[Any, list[bytes]] = {}
    length = LENGTH_OF.get(by)
    for bucket, of, bins in scan(connection, sql):
        group = bucket // length * length if length is not None else None if by == "all" else of
        packed.setdefault(group, []).append(bins)
    rows: list[Row] = [(group, *merge(many)) for group, many in packed.items()]
    if remembered is not None:
        cells = sum(sum(lanes.bit_length() for lanes in row[1:]) // 256 + 8 for row in rows)
        remembered.put(place, snapshot.revision, (span.start, min(span.end, fold)), cells, rows)
    return rows


def _count_edge(connection: Connection, edge: Edge, by: HistogramBy, which: Filter, *, alone: bool) -> dict[Any, Lanes]:
    length = LENGTH_OF.get(by)
    key = "NULL" if by == "all" else by
    if length is not None:
        key = f"{_SECOND.format('created_at')} / {length} * {length}"
    where, parameters = of_ledger("created_at", edge.window, which, alone=alone)
    sql = f"SELECT {key}, duration_ms, ttft_ms, {SPEED} FROM llm_metrics WHERE {where} AND cached = 0"  # noqa: S608
    found: dict[Any, list[int]] = {}
    for group, duration_ms, ttft_ms, speed in scan(connection, sql, parameters):
        found.setdefault(group, []).extend(places(duration_ms, ttft_ms, speed))
    return {group: lanes_of(Counter(counted)) for group, counted in found.items() if counted}


def sums_of_ledger(connection: Connection, window: Window) -> Sums:
    """The sums of every request in the window, from the ledger alone."""
    rows = _read_edge(connection, Edge(window), "all", EVERYTHING, COLUMNS, alone=True)
    return sum((Sums._make(row[1:]) for row in rows), Sums())
