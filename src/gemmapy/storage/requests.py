"""The request log: one row of the ledger, or pages by keyset, so that the thousandth page is as quick as the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from gemmapy.core.periods import Window
from gemmapy.storage import adjustments
from gemmapy.storage.figures import Filter
from gemmapy.storage.tables import llm_metrics, projects, users


def page(
    connection: Connection,
    window: Window | None,
    which: Filter,
    limit: int,
    before: int | None,
    *,
    after: int | None = None,
    errors_only: bool = False,
) -> Sequence[Mapping[str, Any]]:
    """At most `limit` rows with an id below `before` and above `after`, the newest first, with the names of user
    and project, and what was adjusted since in its columns of money (`recorded_cost_nusd` is as it was recorded)."""
    m = llm_metrics.c
    statement = _rows().where(*which.conditions(llm_metrics)).order_by(m.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(m.id < before)
    if after is not None:
        statement = statement.where(m.id > after)
    if window is not None:
        statement = statement.where(m.created_at >= window.start, m.created_at < window.end)
    if errors_only:
        statement = statement.where(m.error.is_(True))
    return adjustments.applied(connection, [dict(row) for row in connection.execute(statement).mappings()])


def one(connection: Connection, key: int | bytes, user_id: int | None) -> Mapping[str, Any] | None:
    """The row of a metric id or request id, with the names of user and project; None where `user_id` has no such row
    (None: anyone's)."""
    m = llm_metrics.c
    statement = _rows().where(m.request_id == key if isinstance(key, bytes) else m.id == key)
    if user_id is not None:
        statement = statement.where(m.user_id == user_id)
    row = connection.execute(statement).mappings().first()
    return None if row is None else adjustments.applied(connection, [dict(row)])[0]


def last_of_users(connection: Connection, user_ids: Sequence[int]) -> dict[int, datetime]:
    """When each of the users asked last. One look into an index for each."""
    m = llm_metrics.c
    last = select(func.max(m.id)).where(m.user_id == users.c.id).scalar_subquery()
    newest = select(last.label("id")).where(users.c.id.in_(user_ids)).subquery()
    rows = connection.execute(select(m.user_id, m.created_at).join(newest, newest.c.id == m.id)).mappings()
    return {row["user_id"]: row["created_at"] for row in rows}


SCANNED_AT_MOST = 50_000
"""Rows that one page of a search looks at."""


def search(
    connection: Connection,
    window: Window | None,
    which: Filter,
    limit: int,
    before: int | None,
    text: str,
    *,
    errors_only: bool = False,
) -> tuple[Sequence[Mapping[str, Any]], int | None]:
    """As `page`, of the rows that have `text` in their model, endpoint, user's name, error, upstream, end user or the
    client's own request id, whatever its case; and what `before` is for the page after.

    A page looks at fifty thousand rows, so that it takes no longer on a large ledger: it may be short, or empty, and
    still not be the last.
    """
    m = llm_metrics.c
    last = _edge(connection, window, before)
    first = last - SCANNED_AT_MOST
    named = (
        m.model,
        m.endpoint,
        users.c.username,
        m.error_code,
        m.error_message,
        m.upstream,
        m.end_user,
        m.client_request_id,
    )
    statement = (
        _rows()
        .where(m.id > first, m.id <= last, *which.conditions(llm_metrics))
        .where(or_(*(column.icontains(text, autoescape=True) for column in named)))
        .order_by(m.id.desc())
        .limit(limit + 1)
    )
    if window is not None:
        statement = statement.where(m.created_at >= window.start, m.created_at < window.end)
    if errors_only:
        statement = statement.where(m.error.is_(True))
    found = adjustments.applied(connection, [dict(row) for row in connection.execute(statement).mappings()])
    if len(found) > limit:
        return found[:limit], found[limit - 1]["id"]
    return found, first + 1 if _has_older(connection, window, first) else None


def _edge(connection: Connection, window: Window | None, before: int | None) -> int:
    """The newest id that a search may look at."""
    m = llm_metrics.c
    newest = select(m.id).order_by(m.created_at.desc(), m.id.desc()).limit(1)
    if window is not None:
        newest = newest.where(m.created_at < window.end)
    last = connection.execute(newest).scalar() or 0
    return last if before is None else min(last, before - 1)


def _has_older(connection: Connection, window: Window | None, first: int) -> bool:
    m = llm_metrics.c
    older = select(m.created_at).where(m.id <= first).order_by(m.id.desc()).limit(1)
    created_at = connection.execute(older).scalar()
    return created_at is not None and (window is None or created_at >= window.start)


def _rows() -> Select[Any]:
    m = llm_metrics.c
    return (
        select(llm_metrics, users.c.username, projects.c.name.label("project"))
        .outerjoin(users, users.c.id == m.user_id)
        .outerjoin(projects, projects.c.id == m.project_id)
    )
