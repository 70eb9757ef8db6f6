"""The request log: one row of the ledger, or pages by keyset, so that the thousandth page is as quick as the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

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


def _rows() -> Select[Any]:
    m = llm_metrics.c
    return (
        select(llm_metrics, users.c.username, projects.c.name.label("project"))
        .outerjoin(users, users.c.id == m.user_id)
        .outerjoin(projects, projects.c.id == m.project_id)
    )
