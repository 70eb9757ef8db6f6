"""Sums over any window: from rollups for whole buckets, from the ledger for the broken edges and for rare filters.

What the sums mean is in `metrics/measures.py`, how a window is cut in `metrics/windows.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Table, and_, func, literal, select
from sqlalchemy.sql import Select
from sqlalchemy.sql.expression import literal_column

from gemmapy.core.periods import Window
from gemmapy.metrics.histogram import bin_of, merge, pack
from gemmapy.metrics.measures import COLUMNS, MEASURES, Sums, tpot_us
from gemmapy.metrics.windows import DAY_S, GRAINS, QUARTER_S, QUARTERS_ONLY, SPELL_S, Cut, cut
from gemmapy.storage.engine import scan
from gemmapy.storage.sums import SOURCES, SPEED, Source
from gemmapy.storage.tables import (
    llm_metrics,
    rollup_histograms,
    rollup_models,
    rollup_projects,
    rollup_totals,
    rollup_users,
    users,
)
from gemmapy.storage.watermark import snapped, watermark

_m = llm_metrics.c
LEDGER = SOURCES[0]
_SPEED: ColumnElement[Any] = literal_column(SPEED)
By = Literal["all", "model", "endpoint", "user", "project", "quarter", "day"]


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
        wanted = {
            "user_id": self.user_id,
            "project_id": self.project_id,
            "model": self.model,
            "endpoint": self.endpoint,
            "api_key_id": self.api_key_id,
            "status": self.status,
        }
        return [table.c[name] == value for name, value in wanted.items() if value is not None]

    @property
    def dimensions(self) -> frozenset[str]:
        """The columns that it asks for."""
        named = ("user_id", "project_id", "model", "endpoint", "api_key_id", "status")
        return frozenset(name for name in named if getattr(self, name) is not None)


EVERYTHING = Filter()
_COLUMN_OF = {"model": "model", "endpoint": "endpoint", "user": "user_id", "project": "project_id"}
_ROLLUPS = (rollup_totals, rollup_models, rollup_users, rollup_projects)
"""The narrowest first: the first that has every column asked for answers."""


def _rollup_for(by: By, which: Filter) -> Table | None:
    needed = {*which.dimensions, *([_COLUMN_OF[by]] if by in _COLUMN_OF else [])}
    for table in _ROLLUPS:
        if needed <= set(table.c.keys()):
            return table
    return None


def answerable(connection: Connection, window: Window, by: By, which: Filter) -> Window:
    """The window that `sums` can answer in place of the one that is asked for: itself, unless days in it retired."""
    return snapped(connection, window, from_ledger=_rollup_for(by, which) is None)


def sums(
    connection: Connection,
    window: Window,
    by: By,
    which: Filter = EVERYTHING,
    columns: tuple[str, ...] = COLUMNS,
) -> dict[Any, Sums]:
    """The sums of each group in the window: by model, endpoint, user id, project id, quarter of an hour or UTC day
    (their first seconds since 1970), or of `"all"` together, under the key None.

    Groups without requests are left out; so are, of projects, the requests that have none. Only the `columns` are
    read; the others are 0.
    """
    table = _rollup_for(by, which)
    grains = {"quarter": QUARTERS_ONLY, "day": (QUARTER_S, DAY_S)}.get(by, GRAINS)
    pieces = cut(window, grains) if table is not None else Cut((), (window,))
    found: dict[Any, Sums] = {}
    statements: list[Select[Any]] = []
    for span in pieces.spans:
        assert table is not None
        key = _key(by, table, "bucket")
        statements.append(
            select(key, *(func.sum(table.c[name]) for name in columns))
            .where(table.c.grain == span.grain, table.c.bucket >= span.start, table.c.bucket < span.end)
            .where(*which.conditions(table))
            .group_by(key)
        )
    for source, edge in product(SOURCES, pieces.edges):
        key = _key(by, source.table, f"CAST(strftime('%s', {source.moment.name}) AS INTEGER)")
        statements.append(
            select(key, *_sums_of(source, columns))
            .select_from(source.table)
            .where(_within(source, edge), *_beside_time(source, which, pieces))
            .where(*([source.table.c.project_id.is_not(None)] if by == "project" else []))
            .group_by(key)
        )
    for statement in statements:
        for group, *values in scan(connection, statement):
            if any(values):
                part = Sums(**dict(zip(columns, values, strict=True)))
                found[group] = found[group] + part if group in found else part
    return found


SPENDING = (
    *("requests", "prompt_tokens", "response_tokens", "prompt_nusd", "response_nusd", "total_nusd"),
    *("unpriced_requests", "unpriced_tokens"),
)
"""The columns that say what was spent."""


def by_user_and_model(connection: Connection, window: Window) -> dict[tuple[int, str | None], dict[str, Sums]]:
    """What each user spent by model (`SPENDING`); the user as id and name, which is None once deleted."""
    names: Mapping[int, str | None] = {
        row["id"]: row["username"] for row in connection.execute(select(users.c.id, users.c.username)).mappings()
    }
    pieces = cut(window)
    r = rollup_users.c
    statements = [
        select(r.user_id, r.model, *(func.sum(r[name]) for name in SPENDING))
        .where(r.grain == span.grain, r.bucket >= span.start, r.bucket < span.end)
        .group_by(r.user_id, r.model)
        for span in pieces.spans
    ] + [
        select(source.table.c.user_id, source.table.c.model, *_sums_of(source, SPENDING))
        .where(_within(source, edge))
        .group_by(source.table.c.user_id, source.table.c.model)
        for source, edge in product(SOURCES, pieces.edges)
    ]
    added: dict[tuple[int, str], list[int]] = {}
    for statement in statements:
        for user_id, model, *values in scan(connection, statement):
            known = added.get((user_id, model))
            added[user_id, model] = values if known is None else [a + b for a, b in zip(known, values, strict=True)]
    found: dict[tuple[int, str | None], dict[str, Sums]] = {}
    for (user_id, model), values in added.items():
        part = Sums(**dict(zip(SPENDING, values, strict=True)))
        found.setdefault((user_id, names.get(user_id)), {})[model] = part
    return found


def histograms(
    connection: Connection, window: Window, by: Literal["all", "model", "endpoint"], which: Filter = EVERYTHING
) -> dict[tuple[Any, str], dict[int, int]]:
    """The bins of each group and measure in the window, by (group, measure's name); the group of all is None.

    From rollups where nothing is filtered, or one thing alone and that is not split further; else from the ledger, and
    then nothing where a part of the window has retired.
    """
    source = histogram_source(by, which)
    if source is None and window.start < watermark(connection):
        return {}  # half of the window's requests would pass for all of them
    pieces = Cut((), (window,)) if source is None else cut(window, source.grains)
    packed: dict[tuple[Any, str], list[bytes]] = {}
    h = rollup_histograms.c
    for span in pieces.spans:
        assert source is not None
        statement = (
            select(h.name, h.measure, h.bins)
            .where(h.grain == span.grain, h.bucket >= span.start, h.bucket < span.end, h.scope == source.scope)
            .where(*([] if source.name is None else [h.name == source.name]))
        )
        for group, place, bins in scan(connection, statement):
            key: tuple[Any, str] = (None if by == "all" else group, MEASURES[int(place)])
            packed.setdefault(key, []).append(bins)
    counted: dict[tuple[Any, str], dict[int, int]] = {}
    for edge in pieces.edges:
        group_of = literal(None) if by == "all" else llm_metrics.c[by]
        statement = select(group_of, _m.duration_ms, _m.ttft_ms, _SPEED).where(
            _within(LEDGER, edge), _m.cached.is_(False), *_beside_time(LEDGER, which, pieces)
        )
        for group, duration_ms, ttft_ms, speed in scan(connection, statement):
            tpot = None if speed is None else tpot_us(speed)
            for of, value in zip(MEASURES, (duration_ms, ttft_ms, speed, tpot), strict=True):
                if value is not None:
                    bins = counted.setdefault((group, of), {})
                    number = bin_of(value)
                    bins[number] = bins.get(number, 0) + 1
    for key, bins in counted.items():
        packed.setdefault(key, []).append(pack(bins))
    return {key: merge(many) for key, many in packed.items()}


@dataclass(frozen=True, slots=True)
class Scope:
    """Which histograms answer: of one scope, of one name in it or of all."""

    scope: str
    name: str | None
    grains: tuple[int, ...] = GRAINS


def histogram_source(by: Literal["all", "model", "endpoint"], which: Filter) -> Scope | None:
    """Rollups answer what is filtered by nothing, or by one thing alone; None leaves it to the ledger."""
    asked = which.dimensions
    if by == "all":
        if not asked:
            return Scope("all", "")
        if asked == frozenset(["user_id"]):
            return Scope("user", str(which.user_id), (DAY_S, SPELL_S))
        by = "model" if "model" in asked else "endpoint"
    return Scope(by, getattr(which, by)) if asked <= {by} else None


def sums_of_ledger(connection: Connection, window: Window) -> Sums:
    """The sums of every request in the window, from the ledger alone."""
    statements = [
        select(*_sums_of(source, COLUMNS)).select_from(source.table).where(_within(source, window))
        for source in SOURCES
    ]
    return sum((Sums(*next(scan(connection, statement))) for statement in statements), Sums())


def _key(by: By, table: Table, second: str) -> ColumnElement[Any]:
    """What to group by; `second` is the SQL of a row's moment."""
    if by in ("quarter", "day"):
        length = QUARTER_S if by == "quarter" else DAY_S
        return literal_column(f"{second} / {length} * {length}")
    return literal(None) if by == "all" else table.c[_COLUMN_OF[by]]


def _sums_of(source: Source, columns: tuple[str, ...]) -> list[ColumnElement[Any]]:
    return [literal_column(source.sums[name]) for name in columns]


def _within(source: Source, window: Window) -> ColumnElement[bool]:
    return and_(source.moment >= window.start, source.moment < window.end)


def _beside_time(source: Source, which: Filter, pieces: Cut) -> list[ColumnElement[bool]]:
    """The filter over the ledger. Of a broken edge the index over time must be used, which is told by hiding the
    columns from the others: a quarter of an hour is less than a user's whole life."""
    conditions = which.conditions(source.table)
    return [_unindexed(condition) for condition in conditions] if pieces.spans else conditions


def _unindexed(condition: Any) -> ColumnElement[bool]:
    hidden: ColumnElement[Any] = literal_column(f"+{condition.left.name}", condition.left.type)
    return hidden == condition.right
