"""What happens now: the requests in flight, and how far the ledger has come. Read again and again, so kept cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from gemmapy.storage.tables import inflight, llm_metrics, users

COUNTED_AT_MOST = 10_000


def running(connection: Connection, limit: int) -> Sequence[Mapping[str, Any]]:
    """The requests in flight of every gateway on this database, the oldest first, with their users' names."""
    i = inflight.c
    statement = (
        select(i.request_id, i.user_id, users.c.username, i.model, i.endpoint, i.started_at, i.upstream, i.stream)
        .outerjoin(users, users.c.id == i.user_id)
        .order_by(i.started_at, i.request_id)
        .limit(limit)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def newest_metric_id(connection: Connection) -> int:
    """The ledger's last id; 0 where it is empty."""
    return connection.execute(select(func.max(llm_metrics.c.id))).scalar() or 0


def count_between(connection: Connection, after: int, newest: int, user_id: int | None) -> int:
    """How many rows have `after < id <= newest`, of one user or of all; counts no further than ten thousand."""
    m = llm_metrics.c
    rows = select(m.id).where(m.id > after, m.id <= newest)
    if user_id is not None:
        rows = rows.where(m.user_id == user_id)
    return connection.execute(select(func.count()).select_from(rows.limit(COUNTED_AT_MOST).subquery())).scalar_one()
