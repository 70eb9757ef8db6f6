"""Prices with a history: the list at any moment, everything that was ever entered, what comes, and taking it back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StrictStr
from typing_extensions import TypedDict

from gemmapy.api.access import Admin, SignedIn, Use
from gemmapy.api.costs import Usd
from gemmapy.api.moments import AwareMoment
from gemmapy.core.money import usd, usd_or_none
from gemmapy.metering.answers import Done
from gemmapy.metering.prices import PriceEntry
from gemmapy.pricing import Price
from gemmapy.storage import prices

router = APIRouter(tags=["Costs"])


class PriceShown(TypedDict):
    """USD, per 1K tokens, per request, per second of compute. `cached_input_cost` null: what input costs."""

    id: int
    model: str
    input_cost: float
    output_cost: float
    cached_input_cost: float | None
    request_cost: float
    compute_cost: float
    effective_at: datetime


class PriceRecord(PriceShown):
    created_at: datetime
    entered_by: str | None
    source: str
    withdrawn_at: datetime | None


class PriceList(TypedDict):
    at: datetime
    prices: list[PriceShown]


class PriceInForce(TypedDict):
    """`price` is null where the model has none now. It may be of a name that the model's begins with."""

    model: str
    price: PriceShown | None


class PriceHistory(TypedDict):
    prices: list[PriceRecord]


class NewPriceBody(BaseModel):
    """A price; `effective_at` in the future schedules it."""

    model_config = ConfigDict(extra="forbid")
    model: StrictStr = Field(min_length=1, max_length=200, description="A name, or a prefix that ends in *.")
    input_cost: Usd
    output_cost: Usd
    cached_input_cost: Usd = None
    request_cost: Usd = 0
    compute_cost: Usd = 0
    effective_at: AwareMoment | None = None
    source: StrictStr = Field("", max_length=500)


class MadePrice(TypedDict):
    id: int
    message: str


@router.get("/api/admin/prices", summary="Admins: the prices in force at a moment, by default now")
def price_list(
    caller: Admin,  # noqa: ARG001 - checked by its type, here and below
    use: Use,
    at: Annotated[AwareMoment | None, Query(description="ISO 8601 with a time zone.")] = None,
) -> PriceList:
    moment = at or use.clock.now()
    return {
        "at": moment,
        "prices": [_shown(price) for price in use.prices.book.current(moment).values()],
    }


@router.get("/api/prices/in-force", summary="What a model costs now")
def in_force(
    caller: SignedIn,  # noqa: ARG001
    use: Use,
    model: Annotated[str, Query(min_length=1, max_length=200)],
) -> PriceInForce:
    price = use.prices.book.at(model, use.clock.now())
    return {"model": model, "price": None if price is None else _shown(price)}


@router.get("/api/admin/prices/history", summary="Admins: every price ever entered, the newest first")
def price_history(
    caller: Admin,  # noqa: ARG001
    use: Use,
    model: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
) -> PriceHistory:
    with use.store.read() as connection:
        return {"prices": [_record(row) for row in prices.history(connection, model)]}


@router.post(
    "/api/admin/prices", status_code=201, summary="Admins: a price, from now on or from a moment in the future"
)
def enter_price(body: NewPriceBody, caller: Admin, use: Use) -> MadePrice:
    entry = PriceEntry(
        model=body.model,
        input_usd=body.input_cost,
        output_usd=body.output_cost,
        cached_input_usd=body.cached_input_cost,
        request_usd=body.request_cost,
        compute_usd_per_second=body.compute_cost,
        effective_at=body.effective_at,
        source=body.source,
    )
    price_id = use.prices.enter(entry, by=caller.user_id)
    since = "from now on" if body.effective_at is None else f"from {body.effective_at.isoformat()} on"
    return {"id": price_id, "message": f"The price of {body.model.strip()} holds {since}."}


@router.delete("/api/admin/prices/{price_id}", summary="Admins: take back a price that has not come into force")
def withdraw_price(price_id: Annotated[int, Field(ge=1, le=2**63 - 1)], caller: Admin, use: Use) -> Done:
    use.prices.withdraw(price_id, by=caller.user_id)
    return {"message": "The price is withdrawn."}


def _shown(price: Price) -> PriceShown:
    return {
        "id": price.id,
        "model": price.model,
        "input_cost": usd(price.input_nusd_per_1k),
        "output_cost": usd(price.output_nusd_per_1k),
        "cached_input_cost": usd_or_none(price.cached_input_nusd_per_1k),
        "request_cost": usd(price.request_nusd),
        "compute_cost": usd(price.compute_nusd_per_second),
        "effective_at": price.effective_at,
    }


def _record(row: dict[str, Any]) -> PriceRecord:
    return {
        "id": row["id"],
        "model": row["model"],
        "input_cost": usd(row["input_nusd_per_1k"]),
        "output_cost": usd(row["output_nusd_per_1k"]),
        "cached_input_cost": usd_or_none(row["cached_input_nusd_per_1k"]),
        "request_cost": usd(row["request_nusd"]),
        "compute_cost": usd(row["compute_nusd_per_second"]),
        "effective_at": row["effective_at"],
        "created_at": row["created_at"],
        "entered_by": row["entered_by"],
        "source": row["source"],
        "withdrawn_at": row["withdrawn_at"],
    }
