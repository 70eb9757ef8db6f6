"""Rollups: additive totals beside the ledger, written in the same transaction as its rows.

A request is added to the finest grain only: its quarter of an hour, of a user's details its hour. When the hour is
over, the first request of the next one folds it into the coarser grains, in its own transaction: hours, UTC days and
spells of sixteen of them hold everything before `rollup_marks.folded_until`, and nothing after. What comes later to an
hour that is folded (a rating, a corrected price, a clock that stepped back) is added to every grain, and noted in
`rollup_changes`, so that what a process remembers of the past is known to be out of date.

Each row is kept by one writer (its slot is part of the key), so that two never wait for one row; readers add them up.
What the ledger's SQL (`sums.py`) says of a bucket is what stands here, and `recount.py` proves it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table

from gemmapy.core.records import Outcome
from gemmapy.metrics.histogram import add as add_counts
from gemmapy.metrics.histogram import merge_packed, pack
from gemmapy.metrics.measures import COLUMNS, SPENDING, places_of, sums_of
from gemmapy.metrics.windows import DAY_S, GRAINS, HOUR_S, QUARTER_S, SPELL_S
from gemmapy.storage import labels
from gemmapy.storage.revisions import count_up
from gemmapy.storage.tables import (
    rollup_details,
    rollup_models,
    rollup_projects,
    rollup_spending,
    rollup_totals,
    rollup_users,
)

BOOKS = "books"
"""The subject whose revision counts up with every change of what was over."""
FOLDED = -1
"""The writer of rows that were made of others, or of the ledger."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """A table of totals: what it is divided by, and its grains, the finest first."""

    table: Table
    keys: tuple[str, ...]
    grains: tuple[int, ...]
    columns: tuple[str, ...] = COLUMNS
    finest: Table | None = None
    """Where its finest grain is kept, if in another's table."""

    def table_of(self, grain: int) -> Table:
        """The table that holds a grain."""
        return self.finest if self.finest is not None and grain == self.grains[0] else self.table


TOTALS = Rollup(rollup_totals, (), GRAINS)
MODELS = Rollup(rollup_models, ("model_id", "endpoint_id"), GRAINS)
USERS = Rollup(rollup_users, ("user_id",), (QUARTER_S, DAY_S, SPELL_S))
PROJECTS = Rollup(rollup_projects, ("project_id", "model_id", "endpoint_id"), GRAINS)
DETAILS = Rollup(rollup_details, ("user_id", "project_id", "model_id", "endpoint_id"), (HOUR_S, DAY_S, SPELL_S))
SPENT = Rollup(rollup_spending, ("user_id", "model_id"), DETAILS.grains, SPENDING, finest=rollup_details)
ROLLUPS = (TOTALS, MODELS, USERS, PROJECTS, DETAILS, SPENT)

ALL, MODEL, ENDPOINT, USER, PROJECT = range(5)
SCOPES = ("all", "model", "endpoint", "user", "project")
"""What has histograms: everything, each model, endpoint, user and project."""
_COARSE = (HOUR_S, DAY_S, SPELL_S)
HISTOGRAM_GRAINS = {ALL: GRAINS, MODEL: GRAINS, ENDPOINT: GRAINS, USER: _COARSE, PROJECT: _COARSE}

_FIND_BINS = (
    "SELECT bins FROM rollup_histograms WHERE grain = ? AND bucket = ? AND scope = ? AND name = ? AND writer = ?"
)
_PUT_BINS = (
    "INSERT INTO rollup_histograms (grain, bucket, scope, name, writer, bins) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET bins = excluded.bins"
)
spent_of: Callable[[Sequence[int]], tuple[int, ...]] = itemgetter(*(COLUMNS.index(name) for name in SPENDING))
Values = Sequence[int]
Groups = dict[tuple[int, ...], Values]


# Writing


@cache
def _add(table: Table) -> str:
    """Adds to a row, or makes it. Compiled once, since the writer runs it for every batch."""
    names = [column.name for column in table.columns]
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks}) {_on_conflict(table)}"  # noqa: S608


def _on_conflict(table: Table) -> str:
    added = ", ".join(f"{c.name} = {c.name} + excluded.{c.name}" for c in table.columns if not c.primary_key)
    return f"ON CONFLICT DO UPDATE SET {added}"


def add(connection: Connection, writer: int, outcomes: Sequence[Outcome], now: datetime) -> None:
    """Adds requests that are recorded at `now`."""
    # The driver's own cursor: a lone request touches a dozen rows, and a layer between would cost more than they do.
    cursor: Any = connection.connection.cursor()
    second = int(now.timestamp())
    mark = _fold_until(cursor, second // HOUR_S * HOUR_S)
    number_of = labels.numbers(cursor, {name for o in outcomes for name in (o.intent.model, o.intent.endpoint)})
    rows: defaultdict[tuple[int, ...], list[Values]] = defaultdict(list)
    of_models: defaultdict[tuple[int, ...], list[Values]] = defaultdict(list)
    counted: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for outcome in outcomes:
        intent = outcome.intent
        model, endpoint = number_of[intent.model], number_of[intent.endpoint]
        rows[intent.user_id, intent.project_id or 0, model, endpoint].append(sums_of(outcome))
        found = places_of(outcome)
        if found:
            counted[ALL, 0] += found
            counted[MODEL, model] += found
            counted[ENDPOINT, endpoint] += found
            counted[USER, intent.user_id] += found
            if intent.project_id is not None:
                counted[PROJECT, intent.project_id] += found
    details = _added_up(rows)
    of_users: defaultdict[tuple[int, ...], list[Values]] = defaultdict(list)
    of_projects: defaultdict[tuple[int, ...], list[Values]] = defaultdict(list)
    for (user_id, project_id, model, endpoint), sums in details.items():
        of_models[model, endpoint].append(sums)
        of_users[user_id,].append(sums)
        if project_id:
            of_projects[project_id, model, endpoint].append(sums)
    models = _added_up(of_models)
    groups: dict[str, Groups] = {
        rollup_totals.name: _added_up({(): list(models.values())}),
        rollup_models.name: models,
        rollup_users.name: _added_up(of_users),
        rollup_projects.name: _added_up(of_projects),
        rollup_details.name: details,
    }
    _put(cursor, writer, second, mark, groups)
    _count(cursor, writer, second, mark, counted)
    cursor.close()
    if second < mark:
        changed(connection, [second // DAY_S * DAY_S])


def _added_up(rows: Mapping[tuple[int, ...], list[Values]]) -> Groups:
    return {key: many[0] if len(many) == 1 else tuple(map(sum, zip(*many, strict=True))) for key, many in rows.items()}


def _put(cursor: Any, writer: int, second: int, mark: int, groups: dict[str, Groups]) -> None:
    """Adds sums to the buckets that hold a moment: to the finest, and to all where that is folded already."""
    late = second < mark
    if late:
        spent: defaultdict[tuple[int, ...], list[Values]] = defaultdict(list)
        for (user_id, _, model, _), sums in groups[rollup_details.name].items():
            spent[user_id, model].append(spent_of(sums))
        groups[rollup_spending.name] = _added_up(spent)
    for rollup in ROLLUPS:
        entries = groups.get(rollup.table.name)
        if not entries:
            continue
        grains = rollup.grains if late else rollup.grains[:1]
        for grain in grains[1:] if rollup.finest is not None else grains:
            bucket = second // grain * grain
            cursor.executemany(_add(rollup.table), [(grain, bucket, *key, writer, *e) for key, e in entries.items()])


def _count(cursor: Any, writer: int, second: int, mark: int, counted: Mapping[tuple[int, int], Iterable[int]]) -> None:
    """Adds places to the histograms, by scope and name."""
    packed: list[tuple[Any, ...]] = []
    for key, found in counted.items():
        counts = Counter(found)
        grains = HISTOGRAM_GRAINS[key[0]]
        for grain in grains if second < mark else grains[:1]:
            place = (grain, second // grain * grain, *key, writer)
            known = cursor.execute(_FIND_BINS, place).fetchone()
            packed.append((*place, pack(counts) if known is None else add_counts(known[0], counts)))
    cursor.executemany(_PUT_BINS, packed)


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
    cursor: Any = connection.connection.cursor()
    number_of = labels.numbers(cursor, {keys.model, keys.endpoint})
    model, endpoint = number_of[keys.model], number_of[keys.endpoint]
    sums = tuple(deltas.get(name, 0) for name in COLUMNS)
    groups: dict[str, Groups] = {
        rollup_totals.name: {(): sums},
        rollup_models.name: {(model, endpoint): sums},
        rollup_users.name: {(keys.user_id,): sums},
        rollup_details.name: {(keys.user_id, keys.project_id or 0, model, endpoint): sums},
    }
    if keys.project_id is not None:
        groups[rollup_projects.name] = {(keys.project_id, model, endpoint): sums}
    second = int(moment.timestamp())
    _put(cursor, writer, second, folded_until(cursor), groups)
    cursor.close()
    changed(connection, [second // DAY_S * DAY_S])


def changed(connection: Connection, days: Iterable[int]) -> None:
    """Notes that days that were over have changed: whoever remembers them has to read them again."""
    revision = count_up(connection, BOOKS)
    for day in days:
        connection.exec_driver_sql(
            "INSERT INTO rollup_changes (day, revision) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET revision = excluded.revision",
            (day, revision),
        )


# Folding


def folded_until(cursor: Any) -> int:
    """What is folded: everything before it. 0: nothing."""
    row = cursor.execute("SELECT folded_until FROM rollup_marks").fetchone()
    return 0 if row is None else row[0]


def set_folded_until(cursor: Any, hour: int) -> None:
    """Says that everything before an hour is folded."""
    cursor.execute(
        "INSERT INTO rollup_marks (id, folded_until) VALUES (1, ?)"
        " ON CONFLICT DO UPDATE SET folded_until = excluded.folded_until",
        (hour,),
    )


def fold(connection: Connection, now: datetime) -> None:
    """Folds every hour that is over; whoever makes a day final does this first, since requests may have stopped."""
    cursor: Any = connection.connection.cursor()
    _fold_until(cursor, int(now.timestamp()) // HOUR_S * HOUR_S)
    cursor.close()


def _fold_until(cursor: Any, hour: int) -> int:
    """Folds what lies before an hour, if that is not done; returns what is folded now."""
    mark = folded_until(cursor)
    if hour <= mark:
        return mark
    for rollup in ROLLUPS:
        for grain in rollup.grains[1:]:
            _pour(cursor, rollup, rollup.grains[0], grain, mark, hour)
    for scope, grains in HISTOGRAM_GRAINS.items():
        for grain in grains[1:]:
            _pour_bins(cursor, scope, grains[0], grain, mark, hour)
    set_folded_until(cursor, hour)
    return hour


def _pour(cursor: Any, rollup: Rollup, source: int, grain: int, start: int, end: int) -> None:
    """Adds the buckets of one grain to those of a coarser one."""
    table = rollup.table_of(grain)
    keys = [f"bucket / {grain} * {grain}", *rollup.keys]
    sums = [f"sum({name})" for name in rollup.columns]
    names = ", ".join(["grain", "bucket", *rollup.keys, "writer", *rollup.columns])
    cursor.execute(
        f"INSERT INTO {table.name} ({names}) SELECT {grain}, {', '.join([*keys, str(FOLDED), *sums])}"  # noqa: S608
        f" FROM {rollup.table_of(source).name} WHERE grain = {source} AND bucket >= ? AND bucket < ?"
        f" GROUP BY {', '.join(keys)} {_on_conflict(table)}",
        (start, end),
    )


def _pour_bins(cursor: Any, scope: int, source: int, grain: int, start: int, end: int) -> None:
    """The same of histograms."""
    parts: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
    rows = cursor.execute(
        "SELECT bucket, name, bins FROM rollup_histograms WHERE grain = ? AND bucket >= ? AND bucket < ? AND scope = ?",
        (source, start, end, scope),
    )
    for bucket, name, bins in rows:
        parts[bucket // grain * grain, name].append(bins)
    packed: list[tuple[Any, ...]] = []
    for (bucket, name), many in parts.items():
        place = (grain, bucket, scope, name, FOLDED)
        known = cursor.execute(_FIND_BINS, place).fetchone()
        packed.append((*place, merge_packed(many if known is None else [*many, known[0]])))
    cursor.executemany(_PUT_BINS, packed)
