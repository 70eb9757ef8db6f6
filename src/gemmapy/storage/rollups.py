"""Rollups: additive totals beside the ledger, written in the same transaction as its rows.

A request is added to the finest grain only: its quarter of an hour, of a user's details its hour. When the hour is
over, the first request of the next one folds it into the coarser grains, in its own transaction: hours, UTC days and
spells of sixteen of them hold everything before `rollup_marks.folded_until`, and nothing after. What comes later to an
hour that is folded (a rating, a corrected price, a clock that stepped back) is added to every grain, and noted in
`rollup_changes`, so that what a process remembers of the past is known to be out of date.

Each row is kept by one writer (its slot is part of the key), so that two never wait for one row; readers add them up.
What the ledger's SQL (`sums.py`) says of a bucket is what stands here, and `differences` proves it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table, func, select

from gemmapy.core.records import Outcome
from gemmapy.metrics.histogram import add as add_counts
from gemmapy.metrics.histogram import counts_of, merge, merge_packed, pack
from gemmapy.metrics.measures import COLUMNS, SPENDING, places, places_of, sums_of
from gemmapy.metrics.windows import DAY_S, GRAINS, HOUR_S, QUARTER_S, SPELL_S
from gemmapy.storage import labels
from gemmapy.storage.engine import scan
from gemmapy.storage.revisions import count_up
from gemmapy.storage.sums import SOURCES, SPEED
from gemmapy.storage.tables import (
    llm_metrics,
    rollup_details,
    rollup_histograms,
    rollup_models,
    rollup_projects,
    rollup_spending,
    rollup_totals,
    rollup_users,
    time_text,
)
from gemmapy.storage.watermark import watermark

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

_SECOND = "CAST(strftime('%s', {}) AS INTEGER)"
_FIND_BINS = (
    "SELECT bins FROM rollup_histograms WHERE grain = ? AND bucket = ? AND scope = ? AND name = ? AND writer = ?"
)
_PUT_BINS = (
    "INSERT INTO rollup_histograms (grain, bucket, scope, name, writer, bins) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET bins = excluded.bins"
)
_spent_of: Callable[[Sequence[int]], tuple[int, ...]] = itemgetter(*(COLUMNS.index(name) for name in SPENDING))
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
        _changed(connection, [second // DAY_S * DAY_S])


def _added_up(rows: Mapping[tuple[int, ...], list[Values]]) -> Groups:
    return {key: many[0] if len(many) == 1 else tuple(map(sum, zip(*many, strict=True))) for key, many in rows.items()}


def _put(cursor: Any, writer: int, second: int, mark: int, groups: dict[str, Groups]) -> None:
    """Adds sums to the buckets that hold a moment: to the finest, and to all where that is folded already."""
    late = second < mark
    if late:
        spent: defaultdict[tuple[int, ...], list[Values]] = defaultdict(list)
        for (user_id, _, model, _), sums in groups[rollup_details.name].items():
            spent[user_id, model].append(_spent_of(sums))
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
    _put(cursor, writer, second, _mark(cursor), groups)
    cursor.close()
    _changed(connection, [second // DAY_S * DAY_S])


def _changed(connection: Connection, days: Iterable[int]) -> None:
    """Notes that days that were over have changed: whoever remembers them has to read them again."""
    revision = count_up(connection, BOOKS)
    for day in days:
        connection.exec_driver_sql(
            "INSERT INTO rollup_changes (day, revision) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET revision = excluded.revision",
            (day, revision),
        )


# Folding


def _mark(cursor: Any) -> int:
    """What is folded: everything before it. 0: nothing."""
    row = cursor.execute("SELECT folded_until FROM rollup_marks").fetchone()
    return 0 if row is None else row[0]


def _set_mark(cursor: Any, hour: int) -> None:
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
    mark = _mark(cursor)
    if hour <= mark:
        return mark
    for rollup in ROLLUPS:
        for grain in rollup.grains[1:]:
            _pour(cursor, rollup, rollup.grains[0], grain, mark, hour)
    for scope, grains in HISTOGRAM_GRAINS.items():
        for grain in grains[1:]:
            _pour_bins(cursor, scope, grains[0], grain, mark, hour)
    _set_mark(cursor, hour)
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


# Against the ledger


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of a rollup that is not what the ledger says. None: there is none on that side."""

    table: str
    key: dict[str, Any]
    column: str
    ledger: int | None
    rollup: int | None


_FINER = tuple(grain for grain in GRAINS if grain != SPELL_S)
_TABLES = (*(rollup.table for rollup in ROLLUPS), rollup_histograms)
_KEYS = {**{r.table: r.keys for r in ROLLUPS}, rollup_histograms: ("scope", "name")}
Contents = dict[tuple[Any, ...], tuple[Any, ...]]
"""What a table says, by grain, bucket and keys, the writers added up; rows of nothing but zeros are left out."""


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
    cursor: Any = connection.connection.cursor()
    known = "SELECT model FROM llm_metrics UNION SELECT endpoint FROM llm_metrics"
    cursor.execute(f"INSERT INTO labels (name) SELECT * FROM ({known}) WHERE true ON CONFLICT DO NOTHING")  # noqa: S608
    mark = _mark(cursor)
    if not mark:
        last = cursor.execute("SELECT max(CAST(strftime('%s', created_at) AS INTEGER)) FROM llm_metrics").fetchone()[0]
        mark = (last or 0) // HOUR_S * HOUR_S
        _set_mark(cursor, mark)
    whole_from = watermark(connection).timestamp()
    days = [one for one in ([day] if day is not None else days_of_ledger(connection)) if one >= whole_from]
    for one in days:
        _replace(cursor, one, one + DAY_S, _FINER, _of_day(connection, one, mark))
    for spell in sorted({one // SPELL_S * SPELL_S for one in days}):
        _replace(cursor, spell, spell + SPELL_S, (SPELL_S,), _of_spell(connection, spell))
    cursor.close()
    _changed(connection, days)


def _replace(cursor: Any, start: int, end: int, grains: tuple[int, ...], contents: Mapping[Table, Contents]) -> None:
    for table, rows in contents.items():
        for grain in grains:
            within = (grain, start, end)
            cursor.execute(f"DELETE FROM {table.name} WHERE grain = ? AND bucket >= ? AND bucket < ?", within)  # noqa: S608
        marks = ", ".join("?" * len(table.columns))
        at = 2 + len(_KEYS[table])
        made = [(*key[:at], FOLDED, *values) for key, values in sorted(rows.items())]
        cursor.executemany(f"INSERT INTO {table.name} VALUES ({marks})", made)  # noqa: S608


def differences(connection: Connection, day: int) -> Iterator[Difference]:
    """Where the buckets of one UTC day are not what its ledger says, or its spell of sixteen not what its days say."""
    cursor: Any = connection.connection.cursor()
    names = labels.every_name(connection)
    spell = day // SPELL_S * SPELL_S
    expected = _of_day(connection, day, _mark(cursor))
    of_spell = _of_spell(connection, spell)
    for table in _TABLES:
        yield from _compare(table, expected[table], _stated(connection, table, day, day + DAY_S, _FINER), names)
        stated = _stated(connection, table, spell, spell + SPELL_S, (SPELL_S,))
        yield from _compare(table, of_spell[table], stated, names)


def contents_of_day(connection: Connection, day: int) -> Iterator[tuple[str, tuple[Any, ...], tuple[Any, ...]]]:
    """What the rollups say of a UTC day and all that is shorter, whoever wrote it, in a fixed order: a table's name, a
    row's keys (grain, bucket and dimensions, models and endpoints by name), and its values."""
    names = labels.every_name(connection)
    for table in _TABLES:
        stated = _stated(connection, table, day, day + DAY_S, _FINER)
        shown = {tuple(_named(table, key, names).values()): values for key, values in stated.items()}
        for key in sorted(shown):
            yield table.name, key, shown[key]


def _named(table: Table, key: tuple[Any, ...], names: Mapping[int, str]) -> dict[str, Any]:
    """A row's keys by their names, with models and endpoints as texts."""
    shown: dict[str, Any] = dict(zip(("grain", "bucket", *_KEYS[table]), key, strict=True))
    for number, label in (("model_id", "model"), ("endpoint_id", "endpoint")):
        if number in shown:
            value = shown.pop(number)
            shown[label] = names.get(value, value)
    if table is rollup_histograms:
        is_label = shown["scope"] in (MODEL, ENDPOINT)
        shown["name"] = names.get(shown["name"], "?") if is_label else str(shown["name"] or "")
        shown["scope"] = SCOPES[shown["scope"]]
    return shown


def _compare(table: Table, expected: Contents, stated: Contents, names: Mapping[int, str]) -> Iterator[Difference]:
    values = [column.name for column in table.columns][len(_KEYS[table]) + 3 :]
    for key in sorted(expected.keys() | stated.keys(), key=repr):
        ours, theirs = expected.get(key), stated.get(key)
        if ours == theirs:
            continue
        for place, column in enumerate(values):
            ledger, rollup = (None if side is None else side[place] for side in (ours, theirs))
            if column == "bins":
                ledger, rollup = (None if side is None else _number_of(side) for side in (ledger, rollup))
                column = "number of values" if ledger != rollup else "distribution"
            elif (ledger or 0) == (rollup or 0):
                continue
            yield Difference(table.name, _named(table, key, names), column, ledger, rollup)


def _number_of(bins: bytes) -> int:
    return sum(counts_of(merge([bins])).values())


def _stated(connection: Connection, table: Table, start: int, end: int, grains: tuple[int, ...]) -> Contents:
    """What a table says."""
    keys = ["grain", "bucket", *_KEYS[table]]
    wanted = ", ".join(str(grain) for grain in grains)
    within = f"WHERE grain IN ({wanted}) AND bucket >= {start} AND bucket < {end}"
    if table is rollup_histograms:
        found: defaultdict[tuple[Any, ...], list[bytes]] = defaultdict(list)
        for *key, packed in scan(connection, f"SELECT {', '.join(keys)}, bins FROM {table.name} {within}"):  # noqa: S608
            found[tuple(key)].append(packed)
        return {key: (many[0] if len(many) == 1 else merge_packed(many),) for key, many in found.items()}
    sums = [f"sum({column.name})" for column in list(table.columns)[len(keys) + 1 :]]
    sql = f"SELECT {', '.join([*keys, *sums])} FROM {table.name} {within} GROUP BY {', '.join(keys)}"  # noqa: S608
    rows = ((cells[: len(keys)], cells[len(keys) :]) for cells in scan(connection, sql))
    return {key: values for key, values in rows if any(values)}


def _of_spell(connection: Connection, spell: int) -> dict[Table, Contents]:
    """What a spell of sixteen days should say, by what its days say."""
    return {table: _coarser(_stated(connection, table, spell, spell + SPELL_S, (DAY_S,)), SPELL_S) for table in _TABLES}


def _of_day(connection: Connection, day: int, mark: int) -> dict[Table, Contents]:
    """What a day and all that is shorter should say, by the ledger."""
    found: dict[Table, Contents] = {}
    number_of = {name: number for number, name in labels.every_name(connection).items()}
    counted = _sums(connection, day, number_of)
    for rollup in ROLLUPS:
        if rollup.finest is None:
            finest = _divided(counted, rollup)
            found[rollup.table] = dict(finest)
        else:
            finest = _spending(found[rollup.finest])
            found[rollup.table] = {}
        folded = {key: values for key, values in finest.items() if key[1] < mark}
        for grain in rollup.grains[1:]:
            if grain != SPELL_S:
                found[rollup.table].update(_coarser(folded, grain))
    found[rollup_histograms] = _histograms(connection, day, mark, number_of)
    return found


def _divided(counted: Contents, rollup: Rollup) -> Contents:
    """Sums by all dimensions, as those of a rollup in its finest grain."""
    grain = rollup.grains[0]
    places = [_DIMENSIONS.index(key) for key in rollup.keys]
    gathered: defaultdict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for (bucket, *dimensions), values in counted.items():
        key = [dimensions[place] for place in places]
        if rollup is not PROJECTS or key[0]:
            gathered[grain, bucket // grain * grain, *key].append(values)
    return {key: _together(parts) for key, parts in gathered.items()}


def _coarser(contents: Contents, grain: int) -> Contents:
    """The same in buckets of another grain."""
    gathered: defaultdict[tuple[int, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for (_, bucket, *rest), values in contents.items():
        gathered[grain, bucket // grain * grain, *rest].append(values)
    return {key: _together(parts) for key, parts in gathered.items()}


def _together(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0][0], bytes):
        return (merge_packed([part[0] for part in parts]),)
    return tuple(map(sum, zip(*parts, strict=True)))


def _spending(details: Contents) -> Contents:
    gathered: defaultdict[tuple[int, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for (grain, bucket, user_id, _, model, _), values in details.items():
        if grain == HOUR_S:
            gathered[grain, bucket, user_id, model].append(_spent_of(values))
    return {key: _together(parts) for key, parts in gathered.items()}


# What the ledger, and what was adjusted of it since, says of a day, in the finest grain.

_DIMENSIONS = ("user_id", "project_id", "model_id", "endpoint_id")


def _sums(connection: Connection, day: int, number_of: Mapping[str, int]) -> Contents:
    """By quarter of an hour and every dimension; project 0 is none."""
    gathered: defaultdict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for source in SOURCES:
        moment = source.moment.name
        keys = (
            f"{_SECOND.format(moment)} / {QUARTER_S} * {QUARTER_S}, user_id, coalesce(project_id, 0), model, endpoint"
        )
        sql = (
            f"SELECT {keys}, {', '.join(source.sums.values())} FROM {source.table.name}"  # noqa: S608
            f" WHERE {_within(moment, day)} GROUP BY {keys}"
        )
        for bucket, user_id, project_id, model, endpoint, *values in scan(connection, sql):
            key = (bucket, user_id, project_id, number_of.get(model, model), number_of.get(endpoint, endpoint))
            gathered[key].append(tuple(values))
    return {key: _together(parts) for key, parts in gathered.items()}


def _histograms(connection: Connection, day: int, mark: int, number_of: Mapping[str, int]) -> Contents:
    sql = (
        f"SELECT {_SECOND.format('created_at')}, user_id, project_id, model, endpoint, duration_ms, ttft_ms, {SPEED}"  # noqa: S608
        f" FROM llm_metrics WHERE {_within('created_at', day)} AND cached = 0"
    )
    counted: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for second, user_id, project_id, model, endpoint, duration_ms, ttft_ms, speed in scan(connection, sql):
        found = places(duration_ms, ttft_ms, speed)
        if not found:
            continue
        names = (0, number_of.get(model, model), number_of.get(endpoint, endpoint), user_id, project_id)
        for scope, name in enumerate(names):
            if name is None:
                continue
            grain = HISTOGRAM_GRAINS[scope][0]
            counted[grain, second // grain * grain, scope, name] += found
    finest: Contents = {key: (pack(Counter(found)),) for key, found in counted.items()}
    contents = dict(finest)
    folded = {key: values for key, values in finest.items() if key[1] < mark}
    for scope, grains in HISTOGRAM_GRAINS.items():
        of_scope = {key: values for key, values in folded.items() if key[2] == scope}
        for grain in grains[1:]:
            if grain != SPELL_S:
                contents.update(_coarser(of_scope, grain))
    return contents


def _within(moment: str, day: int) -> str:
    first, last = (time_text(datetime.fromtimestamp(second, UTC)) for second in (day, day + DAY_S))
    return f"{moment} >= '{first}' AND {moment} < '{last}'"
