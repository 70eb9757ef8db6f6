"""Hosted models and their prices: a search for everybody, and the way of one into the price book for admins."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StrictStr
from typing_extensions import TypedDict

from gemmapy.api.access import Admin, SignedIn, Use
from gemmapy.core.money import usd, usd_or_none
from gemmapy.metering.prices import hosted_price
from gemmapy.pricing import catalogue

router = APIRouter(tags=["Costs"])


class HostedModelShown(TypedDict):
    """USD per 1K tokens and per request; null where the provider asks nothing for it. `tiers`: long prompts cost more,
    and these are the prices of short ones."""

    provider: str
    provider_name: str
    model: str
    name: str
    context_window: int | None
    deprecated: bool
    input_cost: float | None
    output_cost: float | None
    cached_input_cost: float | None
    request_cost: float
    tiers: bool


class HostedCatalogue(TypedDict):
    """`total` is how many there are; `models` holds the closest of them."""

    at: datetime
    source: str
    currency: str
    total: int
    models: list[HostedModelShown]


@router.get("/api/prices/catalogue", summary="Hosted models of many providers and what they cost there, today")
def search(
    caller: SignedIn,  # noqa: ARG001 - checked by its type
    use: Use,
    search: Annotated[str, Query(max_length=200, description="Words that provider and name must have.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> HostedCatalogue:
    at = use.clock.now()
    found, total = catalogue.search(search, limit)
    return {
        "at": at,
        "source": catalogue.source(),
        "currency": "USD",
        "total": total,
        "models": [_shown(model, model.price(at)) for model in found],
    }


def _shown(model: catalogue.HostedModel, price: catalogue.HostedPrice) -> HostedModelShown:
    return {
        "provider": model.provider,
        "provider_name": model.provider_name,
        "model": model.model,
        "name": model.name,
        "context_window": model.context_window,
        "deprecated": model.is_deprecated,
        "input_cost": usd_or_none(price.input_nusd_per_1k),
        "output_cost": usd_or_none(price.output_nusd_per_1k),
        "cached_input_cost": usd_or_none(price.cached_input_nusd_per_1k),
        "request_cost": usd(price.request_nusd),
        "tiers": price.has_tiers,
    }


class CopyBody(BaseModel):
    """`model` is a hosted one, `PROVIDER/MODEL`; `as_model` is its name here, by default the provider's."""

    model_config = ConfigDict(extra="forbid")
    model: StrictStr = Field(min_length=1, max_length=200)
    as_model: StrictStr | None = Field(None, min_length=1, max_length=200)


class CopiedPrice(TypedDict):
    id: int
    model: str
    source: str
    message: str


@router.post("/api/admin/prices/copy", status_code=201, summary="Admins: a hosted model's price into our price book")
def copy(body: CopyBody, caller: Admin, use: Use) -> CopiedPrice:
    entry = hosted_price(body.model, body.as_model, use.clock.now())
    price_id = use.prices.enter(entry, by=caller.user_id)
    name = entry.model.strip()
    return {
        "id": price_id,
        "model": name,
        "source": entry.source,
        "message": f"The price of {name} holds from now on: {entry.source}.",
    }
