"""Fills an empty ledger with requests that were over long ago, each with a moment of its own.

The rollups are made of the ledger in the same transaction, which for tens of thousands of requests is ten times as
quick as adding each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, update

from gemmapy.core.errors import Conflict
from gemmapy.core.records import Outcome
from gemmapy.storage import ledger, live, recount
from gemmapy.storage.tables import llm_metrics


@dataclass(frozen=True, slots=True)
class Past:
    """A request, when it was recorded, and how it was rated."""

    outcome: Outcome
    recorded_at: datetime
    rating: int | None = None


def write(connection: Connection, past: Sequence[Past]) -> None:
    """Writes them in their order. Raises Conflict where the ledger holds anything."""
    if live.newest_metric_id(connection):
        raise Conflict("The ledger is not empty.", hint="Give an empty folder.")
    ids = ledger.write_past(connection, [(one.outcome, one.recorded_at) for one in past])
    rated = [
        {"rated_id": metric_id, "rating": one.rating}
        for metric_id, one in zip(ids, past, strict=True)
        if one.rating is not None
    ]
    if rated:
        rate = update(llm_metrics).where(llm_metrics.c.id == bindparam("rated_id"))
        connection.execute(rate.values(user_rating=bindparam("rating")), rated)
    recount.rebuild(connection)
