"""Prices: their SQL. Rows are appended, never changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from gemmapy.core.errors import Conflict, NotFound
from gemmapy.pricing import Price
from gemmapy.pricing.bundled import BUNDLED
from gemmapy.storage.revisions import count_up
from gemmapy.storage.tables import prices, users

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


@dataclass(frozen=True, slots=True)
class NewPrice:
    """A price to be entered, in nano-USD; what is None costs what it says beside it."""

    model: str
    input_nusd_per_1k: int
    output_nusd_per_1k: int
    effective_at: datetime
    cached_input_nusd_per_1k: int | None = None
    """None: what input costs."""
    request_nusd: int = 0
    compute_nusd_per_second: int = 0
    source: str = ""


def append(connection: Connection, price: NewPrice, now: datetime, by: int | None) -> int:
    """Enters a price; returns its id."""
    values = {**asdict(price), "created_at": now, "created_by": by}
    made = connection.execute(insert(prices).values(values)).inserted_primary_key
    assert made is not None
    count_up(connection, PRICES)
    return made[0]


def withdraw(connection: Connection, price_id: int, now: datetime, by: int | None) -> None:
    """Takes back a price that has not come into force yet.

    Raises NotFound, and Conflict for one that has been in force: requests were priced with it.
    """
    row = connection.execute(
        select(prices.c.effective_at).where(prices.c.id == price_id, prices.c.withdrawn_at.is_(None))
    ).first()
    if row is None:
        raise NotFound(f"There is no price {price_id}.", hint="The price list's history shows their ids.")
    if row[0] <= now:
        raise Conflict(f"Price {price_id} has been in force, so it is history.", hint="Enter a new price instead.")
    change = {"withdrawn_at": now, "withdrawn_by": by}
    connection.execute(update(prices).where(prices.c.id == price_id).values(change))
    count_up(connection, PRICES)


def history(connection: Connection, model: str | None) -> list[dict[str, Any]]:
    """Every price that was ever entered, of one name or of all, the newest first, withdrawn ones included."""
    statement = select(prices, users.c.username.label("entered_by")).outerjoin(users, users.c.id == prices.c.created_by)
    if model is not None:
        statement = statement.where(func.lower(prices.c.model) == model.lower())
    rows = connection.execute(statement.order_by(prices.c.effective_at.desc(), prices.c.id.desc())).mappings()
    return [dict(row) for row in rows]


def one(connection: Connection, price_id: int) -> dict[str, Any] | None:
    """A price by its id, as it was entered; None where there is none."""
    row = connection.execute(select(prices).where(prices.c.id == price_id)).mappings().first()
    return None if row is None else dict(row)


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
