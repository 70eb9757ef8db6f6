"""Closed months and their statements: their SQL.

A statement is written once, with its month's closing, and never again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select
from sqlalchemy.sql.expression import literal_column

from gemmapy.core.periods import Window
from gemmapy.metrics.measures import ADJUSTABLE
from gemmapy.storage.adjustments import sums_by
from gemmapy.storage.engine import scan
from gemmapy.storage.sums import SUMS
from gemmapy.storage.tables import adjustments, closings, llm_metrics, repricings, statements, users

_m = llm_metrics.c
_a = adjustments.c
_s = statements.c
Key = tuple[int, int | None, str]
"""User id, project id (None: no project), model."""
COUNTED = ("requests", "errors", "prompt_tokens", "response_tokens", "cache_hits", *ADJUSTABLE)


@dataclass(frozen=True, slots=True)
class Correction:
    """What was adjusted of one user, project and model in a month that was closed before."""

    user_id: int
    project_id: int | None
    model: str
    month: str
    repricing_id: int
    reason: str
    requests: int
    total_nusd: int


def usage_of(connection: Connection, window: Window, last_adjustment_id: int) -> dict[Key, dict[str, int]]:
    """What the window's requests add up to for each user, project and model (`COUNTED`), adjusted as far as
    `last_adjustment_id`. From the ledger: only it knows who used what for which project."""
    within = and_(_m.created_at >= window.start, _m.created_at < window.end)
    columns: list[ColumnElement[Any]] = [literal_column(SUMS[name]) for name in COUNTED]
    keys = (_m.user_id, _m.project_id, _m.model)
    statement = select(*keys, *columns).where(within).group_by(*keys)
    found: dict[Key, dict[str, int]] = {}
    for user_id, project_id, model, *values in scan(connection, statement):
        found[user_id, project_id, model] = dict(zip(COUNTED, values, strict=True))
    changed = sums_by(
        connection,
        (_a.user_id, _a.project_id, _a.model),
        _a.metric_created_at >= window.start,
        _a.metric_created_at < window.end,
        _a.id <= last_adjustment_id,
    )
    for (user_id, project_id, model), deltas in changed.items():
        for name, delta in zip(ADJUSTABLE, deltas, strict=True):
            found[user_id, project_id, model][name] += delta
    return found


def corrections(connection: Connection, closed: Window, after_id: int, last_id: int) -> list[Correction]:
    """What was adjusted of requests in months that are closed, by adjustments from `after_id` (without it) on."""
    month = func.substr(_a.metric_created_at, 1, 7)
    statement = (
        select(
            _a.user_id,
            _a.project_id,
            _a.model,
            month,
            _a.repricing_id,
            repricings.c.reason,
            func.count(),
            func.sum(_a.total_nusd),
        )
        .join(repricings, repricings.c.id == _a.repricing_id)
        .where(_a.id > after_id, _a.id <= last_id)
        .where(_a.metric_created_at >= closed.start, _a.metric_created_at < closed.end)
        .group_by(_a.user_id, _a.project_id, _a.model, month, _a.repricing_id, repricings.c.reason)
        .order_by(month, _a.repricing_id, _a.model)
    )
    return [Correction(*row) for row in scan(connection, statement)]


# Closings


def closed_months(connection: Connection) -> list[dict[str, Any]]:
    """Every closed month, the newest first, with who closed it and how many statements it has."""
    counted = select(_s.month, func.count().label("statements")).group_by(_s.month).subquery()
    statement = (
        select(closings, users.c.username.label("by"), func.coalesce(counted.c.statements, 0).label("statements"))
        .outerjoin(users, users.c.id == closings.c.closed_by)
        .outerjoin(counted, counted.c.month == closings.c.month)
        .order_by(closings.c.month.desc())
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


@dataclass(frozen=True, slots=True)
class Closing:
    """A month's end."""

    month: str
    last_adjustment_id: int
    requests: int
    total_nusd: int
    adjustments_nusd: int


@dataclass(frozen=True, slots=True)
class NewStatement:
    """A statement without its number."""

    kind: str
    subject_id: int
    subject: str
    total_nusd: int
    content: Mapping[str, Any]


def close(
    connection: Connection, closing: Closing, made: Sequence[NewStatement], now: datetime, by: int | None
) -> list[int]:
    """Writes a closing and its statements; returns their numbers, which follow the last without a gap."""
    values = {
        "month": closing.month,
        "closed_at": now,
        "closed_by": by,
        "last_adjustment_id": closing.last_adjustment_id,
        "requests": closing.requests,
        "total_nusd": closing.total_nusd,
        "adjustments_nusd": closing.adjustments_nusd,
    }
    connection.execute(insert(closings).values(values))
    first = connection.execute(select(func.coalesce(func.max(_s.number), 0))).scalar_one() + 1
    numbers = list(range(first, first + len(made)))
    rows: list[dict[str, Any]] = []
    for number, statement in zip(numbers, made, strict=True):
        content = json.dumps({"number": number, **statement.content}, ensure_ascii=False, separators=(",", ":"))
        rows.append(
            {
                "number": number,
                "month": closing.month,
                "kind": statement.kind,
                "subject_id": statement.subject_id,
                "subject": statement.subject,
                "total_nusd": statement.total_nusd,
                "content": content,
                "checksum": checksum(content),
            }
        )
    if rows:
        connection.execute(insert(statements), rows)
    return numbers


def checksum(content: str) -> str:
    """SHA-256 of a statement's content, in hexadecimal."""
    return hashlib.sha256(content.encode()).hexdigest()


# Statements

_SHOWN = (_s.number, _s.month, _s.kind, _s.subject_id, _s.subject, _s.total_nusd, _s.checksum, closings.c.closed_at)


def listed(
    connection: Connection,
    *,
    month: str | None = None,
    subject: tuple[str, int] | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Statements without their content, the newest first: of a month, of a subject (its kind and id), or all."""
    statement = select(*_SHOWN).join(closings, closings.c.month == _s.month).order_by(_s.number.desc()).limit(limit)
    if month is not None:
        statement = statement.where(_s.month == month)
    if subject is not None:
        statement = statement.where(_s.kind == subject[0], _s.subject_id == subject[1])
    if before is not None:
        statement = statement.where(_s.number < before)
    return [dict(row) for row in connection.execute(statement).mappings()]


def one(connection: Connection, number: int) -> dict[str, Any] | None:
    """A statement with its content as text; None where there is none of this number."""
    statement = select(*_SHOWN, _s.content).join(closings, closings.c.month == _s.month).where(_s.number == number)
    row = connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def damaged(connection: Connection) -> list[int]:
    """The numbers of statements that are not what they were when their month was closed."""
    rows = connection.execute(select(_s.number, _s.content, _s.checksum)).mappings()
    return [row["number"] for row in rows if checksum(row["content"]) != row["checksum"]]
