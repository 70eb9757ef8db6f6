"""Sums over any window: from rollups for whole buckets, from the ledger for the broken edges and for rare filters.

What the sums mean is in `metrics/measures.py`, how a window is cut in `metrics/windows.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Connection, Table, and_, func, literal, select
from sqlalchemy.sql import Select
from sqlalchemy.sql.expression import literal_column

from gemmapy.core.periods import Window
from gemmapy.metrics.histogram import bin_of
from gemmapy.metrics.measures import COLUMNS, MEASURES, Sums, tpot_us
from gemmapy.metrics.windows import Cut, cut
from gemmapy.storage.engine import scan
from gemmapy.storage.sums import SPEED, SUMS
from gemmapy.storage.tables import (
    llm_metrics,
    rollup_histograms,
    rollup_models,
    rollup_projects,
    rollup_totals,
    rollup_users,
    users,
)

_m = llm_metrics.c
_LEDGER_SUMS: list[ColumnElement[Any]] = [literal_column(text) for text in SUMS.values()]
_SPEED: ColumnElement[Any] = literal_column(SPEED)
By = Literal["all", "model", "endpoint", "user", "project", "quarter"]


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


def sums(connection: Connection, window: Window, by: By, which: Filter = EVERYTHING) -> dict[Any, Sums]:
    """The sums of each group in the window: by model, endpoint, user id, project id, quarter of an hour (its first
    second since 1970), or of `"all"` together, under the key None.

    Groups without requests are left out; so are, of projects, the requests that have none.
    """
    table = _rollup_for(by, which)
    pieces = cut(window, days=by != "quarter") if table is not None else Cut((), (window,))
    found: dict[Any, Sums] = {}
    statements: list[Select[Any]] = []
    for span in pieces.spans:
        assert table is not None
        key = _key(by, table, table.c.bucket)
        statements.append(
            select(key, *(func.sum(table.c[name]) for name in COLUMNS))
            .where(table.c.grain == span.grain, table.c.bucket >= span.start, table.c.bucket < span.end)
            .where(*which.conditions(table))
            .group_by(key)
        )
    for edge in pieces.edges:
        second: ColumnElement[Any] = literal_column("CAST(strftime('%s', created_at) AS INTEGER) / 900 * 900")
        key = _key(by, llm_metrics, second)
        statements.append(
            select(key, *_LEDGER_SUMS)
            .select_from(llm_metrics)
            .where(_m.created_at >= edge.start, _m.created_at < edge.end)
            .where(*which.conditions(llm_metrics), *([_m.project_id.is_not(None)] if by == "project" else []))
            .group_by(key)
        )
    for statement in statements:
        for cells in scan(connection, statement):
            part = Sums(*cells[1:])
            if part.requests or any(cells[1:]):
                known = found.get(cells[0])
                found[cells[0]] = part if known is None else known + part
    return found


def sums_of_ledger(connection: Connection, window: Window) -> Sums:
    """The sums of every request in the window, from the ledger alone."""
    within = and_(_m.created_at >= window.start, _m.created_at < window.end)
    return Sums(*next(scan(connection, select(*_LEDGER_SUMS).select_from(llm_metrics).where(within))))


def _key(by: By, table: Table, second: ColumnElement[Any] | Column[Any]) -> ColumnElement[Any]:
    if by == "quarter":
        return second
    return literal(None) if by == "all" else table.c[_COLUMN_OF[by]]


def by_user_and_model(connection: Connection, window: Window) -> dict[tuple[int, str | None], dict[str, Sums]]:
    """Each user's sums by model; the user as id and name, which is None once deleted."""
    names: Mapping[int, str | None] = {
        row["id"]: row["username"] for row in connection.execute(select(users.c.id, users.c.username)).mappings()
    }
    found: dict[tuple[int, str | None], dict[str, Sums]] = {}
    for user_id, model, part in _user_models(connection, cut(window)):
        mine = found.setdefault((user_id, names.get(user_id)), {})
        mine[model] = mine[model] + part if model in mine else part
    return found


def _user_models(connection: Connection, pieces: Cut) -> Iterator[tuple[int, str, Sums]]:
    for span in pieces.spans:
        r = rollup_users.c
        statement = (
            select(r.user_id, r.model, *(func.sum(r[name]) for name in COLUMNS))
            .where(r.grain == span.grain, r.bucket >= span.start, r.bucket < span.end)
            .group_by(r.user_id, r.model)
        )
        for cells in scan(connection, statement):
            yield cells[0], cells[1], Sums(*cells[2:])
    for edge in pieces.edges:
        within = and_(_m.created_at >= edge.start, _m.created_at < edge.end)
        statement = select(_m.user_id, _m.model, *_LEDGER_SUMS).where(within).group_by(_m.user_id, _m.model)
        for cells in scan(connection, statement):
            yield cells[0], cells[1], Sums(*cells[2:])


def histograms(
    connection: Connection, window: Window, by: Literal["all", "model", "endpoint"], which: Filter = EVERYTHING
) -> dict[tuple[Any, str], dict[int, int]]:
    """The bins of each group and measure in the window, by (group, measure's name).

    From rollups where only model and endpoint are asked for, else from the ledger.
    """
    found: dict[tuple[Any, str], dict[int, int]] = {}

    def count(group: Any, measure: int, number: int, times: int) -> None:
        bins = found.setdefault((group, MEASURES[measure]), {})
        bins[number] = bins.get(number, 0) + times

    from_rollups = which.dimensions <= {"model", "endpoint"}
    pieces = cut(window) if from_rollups else Cut((), (window,))
    h = rollup_histograms.c
    for span in pieces.spans:
        key = literal(None) if by == "all" else h[by]
        whole = by == "all" and not which.dimensions
        statement = (
            select(key, h.measure, h.bin, func.sum(h.count))
            .where(h.grain == span.grain, h.bucket >= span.start, h.bucket < span.end)
            .where(h.model == "" if whole else h.model != "", *which.conditions(rollup_histograms))
            .group_by(key, h.measure, h.bin)
        )
        for group, measure, number, times in scan(connection, statement):
            count(group, measure, number, times)
    for edge in pieces.edges:
        key = literal(None) if by == "all" else llm_metrics.c[by]
        statement = (
            select(key, _m.duration_ms, _m.ttft_ms, _SPEED)
            .where(_m.created_at >= edge.start, _m.created_at < edge.end, _m.cached.is_(False))
            .where(*which.conditions(llm_metrics))
        )
        for group, duration_ms, ttft_ms, speed in scan(connection, statement):
            tpot = None if speed is None else tpot_us(speed)
            for measure, value in enumerate((duration_ms, ttft_ms, speed, tpot)):
                if value is not None:
                    count(group, measure, bin_of(value), 1)
    return found
