"""What each user spent, by model: the widest question that there is, tens of thousands of sums.

From the same rollups and edges as `figures.py`, but of what is over the whole answer is remembered, and whoever shows
it can keep with it what they made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from operator import add, neg, sub
from typing import Any

from sqlalchemy import Connection

from gemmapy.core.periods import Window
from gemmapy.metrics.measures import SPENDING
from gemmapy.metrics.windows import Span, cut
from gemmapy.storage import labels
from gemmapy.storage.engine import scan
from gemmapy.storage.figures import EVERYTHING, Row, Snapshot, of_ledger, read_span, snapshot_of, within
from gemmapy.storage.rollups import SPENT
from gemmapy.storage.sums import SOURCES
from gemmapy.storage.watermark import snapped


class Spent:
    """What somebody spent on a model, or on all: numbers in the order of `SPENDING`.

    `told` is for whoever shows it, to keep what they made of it: of what is over, the same objects come again.
    """

    __slots__ = ("numbers", "told")

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = numbers
        self.told: Any = None


class SpentByModel:
    """The same of a user, by model."""

    __slots__ = ("models", "told")

    def __init__(self, models: dict[str, Spent]) -> None:
        self.models = models
        self.told: Any = None


def answerable(connection: Connection, window: Window) -> Window:
    """The window that can be answered in place of the one that is asked for: itself, unless days in it retired."""
    return snapped(connection, window, SPENT.grains[0])


def by_user_and_model(connection: Connection, window: Window) -> dict[int, SpentByModel]:
    """What each user spent, by model. Neither the mapping nor what is in it may be changed: it is remembered."""
    snapshot = snapshot_of(connection)
    pieces = cut(window, SPENT.grains, snapshot.extent)
    fold = snapshot.extent.folded_until
    over = tuple(span for span in pieces.spans if span.start < fold)
    closed = _spent_of_spans(connection, snapshot, over)
    name_of = labels.every_name(connection)
    changes: dict[tuple[int, str], Sequence[int]] = {}
    for span in pieces.spans:
        if span.start >= fold:
            rows = scan(connection, _spent_sql(span))
            _gather_pairs(changes, ((user_id, name_of[model], *rest) for user_id, model, *rest in rows), 1)
    for edge, source in product(pieces.edges, SOURCES):
        where, parameters = of_ledger(source.moment.name, edge.window, EVERYTHING, alone=True)
        summed = ", ".join(source.sums[name] for name in SPENDING)
        sql = f"SELECT user_id, model, {summed} FROM {source.table.name} WHERE {where} GROUP BY user_id, model"  # noqa: S608
        _gather_pairs(changes, scan(connection, sql, parameters), edge.sign)
    if not changes:
        return closed
    touched: dict[int, dict[str, Spent]] = {}
    for (user_id, model), numbers in changes.items():
        models = touched.get(user_id)
        if models is None:
            models = touched[user_id] = dict(closed[user_id].models) if user_id in closed else {}
        if model in models:
            numbers = tuple(map(add, numbers, models[model].numbers))
        models[model] = Spent(numbers)
        if not any(numbers):
            del models[model]
    found = {**closed, **{user_id: SpentByModel(models) for user_id, models in touched.items()}}
    return {user_id: spent for user_id, spent in found.items() if spent.models}


def _spent_of_spans(connection: Connection, snapshot: Snapshot, spans: tuple[Span, ...]) -> dict[int, SpentByModel]:
    """The part that is over, remembered whole. Taking away may leave less than nothing until the rest is added."""
    fold = snapshot.extent.folded_until
    key = ("spent", spans, fold)
    if snapshot.remembered is not None:
        known = snapshot.remembered.get(key, snapshot.revision)
        if known is not None:
            return known
    pairs: dict[tuple[int, int], Sequence[int]] = {}
    for span in spans:
        _gather_pairs(pairs, read_span(connection, snapshot, span, "spent", _spent_sql(span), ()), span.sign)
    name_of = labels.every_name(connection)
    by_user: dict[int, dict[str, Spent]] = {}
    for (user_id, model), numbers in pairs.items():
        if any(numbers):
            by_user.setdefault(user_id, {})[name_of[model]] = Spent(numbers)
    found = {user_id: SpentByModel(models) for user_id, models in by_user.items()}
    if snapshot.remembered is not None and spans:
        start, end = min(span.start for span in spans), max(span.end for span in spans)
        snapshot.remembered.put(key, snapshot.revision, (start, min(end, fold)), 40 * len(pairs), found)
    return found


def _spent_sql(span: Span) -> str:
    summed = ", ".join(f"sum({name})" for name in SPENDING)
    table = SPENT.table_of(span.grain).name
    sql = f"SELECT user_id, model_id, {summed} FROM {table} WHERE {within(span, by_bucket=False)}"  # noqa: S608
    return f"{sql} GROUP BY user_id, model_id"


def _gather_pairs(found: dict[tuple[int, Any], Sequence[int]], rows: Iterable[Row], sign: int) -> None:
    for row in rows:
        pair, numbers = row[:2], row[2:]
        known = found.get(pair)
        if known is not None:
            found[pair] = tuple(map(add if sign > 0 else sub, known, numbers))
        else:
            found[pair] = numbers if sign > 0 else tuple(map(neg, numbers))
