"""Rollups held against the ledger: what each should say, where it does not, and making it again.

Called by the audit, by retention before a day is final, and after an upgrade. The ledger, with what was adjusted of it
since, is believed; days that have retired are never touched.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, func, select

from gemmapy.metrics.histogram import counts_of, merge, merge_packed, pack
from gemmapy.metrics.measures import places
from gemmapy.metrics.windows import DAY_S, GRAINS, HOUR_S, QUARTER_S, SPELL_S
from gemmapy.storage import labels
from gemmapy.storage.engine import scan
from gemmapy.storage.rollups import (
    ENDPOINT,
    FOLDED,
    HISTOGRAM_GRAINS,
    MODEL,
    PROJECTS,
    ROLLUPS,
    SCOPES,
    Rollup,
    changed,
    folded_until,
    set_folded_until,
    spent_of,
)
from gemmapy.storage.sums import SOURCES, SPEED
from gemmapy.storage.tables import llm_metrics, rollup_histograms, time_text
from gemmapy.storage.watermark import watermark

_SECOND = "CAST(strftime('%s', {}) AS INTEGER)"


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
    mark = folded_until(cursor)
    if not mark:
        last = cursor.execute("SELECT max(CAST(strftime('%s', created_at) AS INTEGER)) FROM llm_metrics").fetchone()[0]
        mark = (last or 0) // HOUR_S * HOUR_S
        set_folded_until(cursor, mark)
    whole_from = watermark(connection).timestamp()
    days = [one for one in ([day] if day is not None else days_of_ledger(connection)) if one >= whole_from]
    for one in days:
        _replace(cursor, one, one + DAY_S, _FINER, _of_day(connection, one, mark))
    for spell in sorted({one // SPELL_S * SPELL_S for one in days}):
        _replace(cursor, spell, spell + SPELL_S, (SPELL_S,), _of_spell(connection, spell))
    cursor.close()
    changed(connection, days)


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
    expected = _of_day(connection, day, folded_until(cursor))
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
            gathered[grain, bucket, user_id, model].append(spent_of(values))
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
