"""Days whose rows of the ledger are gone, and what is kept of them. Their SQL.

Days retire whole, in UTC, the oldest first. Of each its totals stay, and a checksum of its rollups, which from then on
are all that is known of it: they answer every question that needs no single request, and nothing may change them.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from gemmapy.metrics.measures import COLUMNS, Sums
from gemmapy.metrics.windows import DAY_S
from gemmapy.storage import recount
from gemmapy.storage.tables import closings, llm_metrics, retired_days

_d = retired_days.c


def first_day(connection: Connection) -> int | None:
    """The UTC day of the oldest row in the ledger, as its first second; None where it is empty."""
    oldest = connection.execute(select(func.min(llm_metrics.c.created_at))).scalar()
    return None if oldest is None else int(oldest.timestamp()) // DAY_S * DAY_S


def last_closed_month(connection: Connection) -> str | None:
    """The newest month that has statements, as in `2026-10`; None where no month was ever closed."""
    return connection.execute(select(func.max(closings.c.month))).scalar()


def retire(connection: Connection, day: int, sums: Sums, checksum: str, now: datetime) -> None:
    """Notes that a day retires; from here on nothing changes it, and its rows may be deleted."""
    last_id = connection.execute(select(func.coalesce(func.max(llm_metrics.c.id), 0)).where(*_of_day(day))).scalar()
    values = {name: getattr(sums, name) for name in COLUMNS}
    row = {"day": day, "retired_at": now, "last_metric_id": last_id, "checksum": checksum, **values}
    connection.execute(insert(retired_days).values(row))


def unfinished(connection: Connection) -> list[int]:
    """The retired days that still have rows to delete, the oldest first."""
    return list(connection.execute(select(_d.day).where(_d.deleted_at.is_(None)).order_by(_d.day)).scalars())


def delete_some(connection: Connection, day: int, limit: int, now: datetime) -> int:
    """Deletes at most `limit` rows of a retired day; returns how many. 0 says that it is done."""
    some = select(llm_metrics.c.id).where(*_of_day(day)).limit(limit)
    deleted = connection.execute(delete(llm_metrics).where(llm_metrics.c.id.in_(some))).rowcount
    if not deleted:
        connection.execute(update(retired_days).where(_d.day == day).values(deleted_at=now))
    return deleted


def kept(connection: Connection) -> dict[int, tuple[Sums, str]]:
    """Of every retired day its totals and its checksum."""
    rows = connection.execute(select(retired_days)).mappings()
    return {row["day"]: (Sums(**{name: row[name] for name in COLUMNS}), row["checksum"]) for row in rows}


def checksum_of(connection: Connection, day: int) -> str:
    """SHA-256 over what a day's rollups say, its quarters of an hour included, whoever wrote them."""
    digest = hashlib.sha256()
    for table, key, values in recount.contents_of_day(connection, day):
        shown: list[Any] = [value.hex() if isinstance(value, bytes) else value for value in (*key, *values)]
        digest.update(json.dumps([table, *shown], separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def _of_day(day: int) -> tuple[Any, ...]:
    start, end = datetime.fromtimestamp(day, UTC), datetime.fromtimestamp(day + DAY_S, UTC)
    return llm_metrics.c.created_at >= start, llm_metrics.c.created_at < end
