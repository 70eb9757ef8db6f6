"""The contract's costs: summary, projection, the admin's overview, prices; and what it would have cost elsewhere."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StrictStr, WithJsonSchema

from gemmapy.api.access import Admin, SignedIn, Use, UserId, scope
from gemmapy.api.questions import Asked, without_user
from gemmapy.metering.answers import AllCosts, CostProjection, CostsElsewhere, CostSummary, Done, Pricing

router = APIRouter(tags=["Costs"])
Period = Literal["day", "week", "month", "quarter", "year"]
Compared = Annotated[
    list[Annotated[str, Field(max_length=2000)]] | None,
    Query(max_length=20, description="PROVIDER/MODEL, several separated by commas. None: the setting compare_models."),
]
# Any, since a union's error lists every type that it is not; `parse_usd` says it in one sentence.
Usd = Annotated[
    Any,
    Field(description="USD per 1K tokens; a text is read as decimal."),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]


@router.get("/api/costs/summary", summary="What was spent, by model")
def summary(use: Use, asked: Asked, period: Period = "month") -> CostSummary:
    return use.calculator.get_user_costs(asked.which.user_id, period, window=asked.window, which=without_user(asked))


@router.get("/api/costs/elsewhere", summary="What the same tokens would have cost at hosted models")
def elsewhere(use: Use, asked: Asked, period: Period = "month", models: Compared = None) -> CostsElsewhere:
    names = [name for text in models or () for name in text.split(",") if name.strip()]
    return use.calculator.get_costs_elsewhere(
        asked.which.user_id,
        period,
        names or use.settings.compare_models,
        window=asked.window,
        which=without_user(asked),
    )


@router.get("/api/costs/projection", summary="What it will be, from the last seven days")
def projection(
    caller: SignedIn, use: Use, period: Literal["week", "month", "quarter"] = "month", user_id: UserId = None
) -> CostProjection:
    return use.calculator.get_cost_projection(scope(caller, user_id), period)


@router.get("/api/admin/costs/all", summary="Admins: what everyone spent, the dearest first")
def everyone(caller: Admin, use: Use, period: Period = "month") -> AllCosts:  # noqa: ARG001 - checked by its type
    return use.calculator.get_all_users_costs(period)


@router.get("/api/admin/costs/pricing", summary="Admins: the prices in force")
def pricing(caller: Admin, use: Use) -> Pricing:  # noqa: ARG001 - checked by its type
    return use.calculator.get_pricing()


class NewPrice(BaseModel):
    """A price that holds from now on; what was recorded before keeps its cost."""

    model_config = ConfigDict(extra="forbid")
    model: StrictStr = Field(min_length=1, max_length=200, description="A name, or a prefix that ends in *.")
    input_cost: Usd
    output_cost: Usd


@router.put("/api/admin/costs/pricing", summary="Admins: set a model's price")
def set_price(body: NewPrice, caller: Admin, use: Use) -> Done:
    return use.calculator.update_pricing(body.model, body.input_cost, body.output_cost, by=caller.user_id)
