"""Sums over the ledger, for the contract's analytics. One grouped query a figure; `metrics/measures.py` has formulas.

Every column is additive, so that rollups can stand in for the ledger without a change above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, and_, case, cast, func, select
from sqlalchemy.sql import Select

from gemmapy.core.periods import Window
from gemmapy.metrics.measures import Spending, Sums
from gemmapy.storage.tables import llm_metrics, users

_m = llm_metrics.c
_own = _m.cached.is_(False)
_unpriced = and_(_m.cost_nusd.is_(None), func.coalesce(_m.total_tokens, 0) > 0)


def _total(value: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(value), 0)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return _total(case((condition, 1), else_=0))


def _sums() -> Sequence[ColumnElement[int]]:
    """In the order of the fields of `Sums`."""
    timed = and_(_own, _m.duration_ms.is_not(None))
    paced = and_(_own, _m.tokens_per_second.is_not(None))
    return (
        func.count(),
        _count(_m.error.is_(True)),
        _count(_m.cached.is_(True)),
        _total(_m.total_tokens),
        _count(timed),
        _total(case((timed, _m.duration_ms))),
        _count(paced),
        _total(case((paced, cast(func.round(_m.tokens_per_second * 1000), Integer)))),
        _count(_m.user_rating == 1),
        _count(_m.user_rating == -1),
        _count(_unpriced),
        _total(case((_unpriced, _m.total_tokens))),
    )


def _spending() -> Sequence[ColumnElement[int]]:
    """In the order of the fields of `Spending`."""
    return (
        func.count(),
        _total(_m.prompt_tokens),
        _total(_m.response_tokens),
        _total(_m.prompt_cost_nusd),
        _total(_m.response_cost_nusd),
        _total(_m.cost_nusd),
        _count(_unpriced),
        _total(case((_unpriced, _m.total_tokens))),
    )


def _within(statement: Select[Any], window: Window, user_id: int | None) -> Select[Any]:
    statement = statement.where(_m.created_at >= window.start, _m.created_at < window.end)
    return statement if user_id is None else statement.where(_m.user_id == user_id)


def by_model(connection: Connection, window: Window, user_id: int | None) -> dict[str, Sums]:
    """Each model's sums."""
    statement = _within(select(_m.model, *_sums()), window, user_id).group_by(_m.model)
    return {row[0]: Sums(*row[1:]) for row in connection.execute(statement)}


def by_endpoint(connection: Connection, window: Window, user_id: int | None) -> dict[str, Sums]:
    """Each endpoint's sums."""
    statement = _within(select(_m.endpoint, *_sums()), window, user_id).group_by(_m.endpoint)
    return {row[0]: Sums(*row[1:]) for row in connection.execute(statement)}


def by_hour(connection: Connection, window: Window, user_id: int | None) -> dict[str, Sums]:
    """The sums of each hour (UTC) that has requests, by `2026-11-23 14`, in order."""
    hour = func.substr(_m.created_at, 1, 13)
    statement = _within(select(hour, *_sums()), window, user_id).group_by(hour).order_by(hour)
    return {row[0]: Sums(*row[1:]) for row in connection.execute(statement)}


def spending_by_model(connection: Connection, window: Window, user_id: int | None) -> dict[str, Spending]:
    """What each model cost."""
    statement = _within(select(_m.model, *_spending()), window, user_id).group_by(_m.model)
    return {row[0]: Spending(*row[1:]) for row in connection.execute(statement)}


def spending_by_user(connection: Connection, window: Window) -> dict[tuple[int, str | None], dict[str, Spending]]:
    """What each user spent on each model, by id and name; the name of a deleted user is None."""
    statement = (
        _within(select(_m.user_id, users.c.username, _m.model, *_spending()), window, None)
        .join(users, users.c.id == _m.user_id, isouter=True)
        .group_by(_m.user_id, users.c.username, _m.model)
    )
    found: dict[tuple[int, str | None], dict[str, Spending]] = {}
    for row in connection.execute(statement):
        user_id, username, model, *sums = tuple(row)
        found.setdefault((user_id, username), {})[model] = Spending(*sums)
    return found
