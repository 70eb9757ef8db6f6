"""Prices: their SQL. Rows are appended, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, insert, select

from gemmapy.pricing import Price
from gemmapy.pricing.bundled import BUNDLED
from gemmapy.storage.revisions import count_up
from gemmapy.storage.tables import prices

PRICES = "prices"


def every_price(connection: Connection) -> list[Price]:
    """All that hold or ever held, but for those that were withdrawn."""
    rows = connection.execute(
        select(
            prices.c.id,
            prices.c.model,
            prices.c.input_nusd_per_1k,
            prices.c.output_nusd_per_1k,
            prices.c.effective_at,
            prices.c.cached_input_nusd_per_1k,
            prices.c.request_nusd,
            prices.c.compute_nusd_per_second,
        ).where(prices.c.withdrawn_at.is_(None))
    )
    return [Price(*row) for row in rows]


def append(
    connection: Connection, model: str, input_nusd_per_1k: int, output_nusd_per_1k: int, now: datetime, by: int | None
) -> int:
    """A new price, in force from now on; returns its id."""
    values = {
        "model": model,
        "input_nusd_per_1k": input_nusd_per_1k,
        "output_nusd_per_1k": output_nusd_per_1k,
        "effective_at": now,
        "created_at": now,
        "created_by": by,
    }
    made = connection.execute(insert(prices).values(values)).inserted_primary_key
    assert made is not None
    count_up(connection, PRICES)
    return made[0]


def is_empty(connection: Connection) -> bool:
    """Whether no price was ever entered. Rows are never deleted, so this is true once."""
    return connection.execute(select(prices.c.id).limit(1)).first() is None


def seed(connection: Connection, now: datetime) -> None:
    """Enters the bundled prices into an empty table."""
    if not is_empty(connection):
        return
    rows: Iterable[dict[str, object]] = (
        {
            "model": bundled.model,
            "input_nusd_per_1k": bundled.input_nusd_per_1k,
            "output_nusd_per_1k": bundled.output_nusd_per_1k,
            "effective_at": now,
            "created_at": now,
            "source": bundled.source,
        }
        for bundled in BUNDLED
    )
    connection.execute(insert(prices), list(rows))
    count_up(connection, PRICES)
