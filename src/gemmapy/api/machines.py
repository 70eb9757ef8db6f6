"""One's own hardware, for admins: what it is, what it costs, and what a model's seconds on it are priced at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StrictStr
from typing_extensions import TypedDict

from gemmapy.api.access import Admin, Use
from gemmapy.api.costs import Usd
from gemmapy.api.moments import AnyMoment, AwareMoment
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.periods import MAX_DAYS, between, last_days
from gemmapy.metering.answers import MachineCosts, MachineList, MachinePrice
from gemmapy.metering.hardware import (
    MOST_PARALLEL,
    MOST_WATTS,
    MOST_YEARS,
    NAME_LIMIT,
    NOTE_LIMIT,
    UPSTREAMS_LIMIT,
    MachineEntry,
)

router = APIRouter(prefix="/api/admin/machines", tags=["Hardware"])
MachineId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Of any of its records.")]
Watts = Annotated[float, Field(ge=0, le=MOST_WATTS, strict=True, allow_inf_nan=False)]
Moment = Annotated[AnyMoment | None, Query(description="ISO 8601 with a time zone, as in 2026-11-01T00:00:00Z.")]


class MachineBody(BaseModel):
    """A machine, or a known one's new figures from a moment on. USD per kilowatt-hour, and USD for the purchase."""

    model_config = ConfigDict(extra="forbid")
    name: StrictStr = Field(min_length=1, max_length=NAME_LIMIT)
    upstreams: list[Annotated[str, Field(min_length=1, max_length=NAME_LIMIT)]] = Field(
        max_length=UPSTREAMS_LIMIT, description="The names of the upstreams that it is; none: it is out of service."
    )
    watts_busy: Watts
    watts_idle: Watts
    kwh_cost: Usd
    purchase_cost: Usd
    lifetime_years: float = Field(ge=0.01, le=MOST_YEARS, strict=True, allow_inf_nan=False)
    parallel: int = Field(1, ge=1, le=MOST_PARALLEL, strict=True, description="Requests that it works on at once.")
    effective_at: AwareMoment | None = Field(None, description="Also in the past. None is now.")
    note: StrictStr = Field("", max_length=NOTE_LIMIT)


class AddedMachine(TypedDict):
    id: int
    message: str


@router.get("", summary="Admins: every machine, with all that was ever entered of it")
def machines(caller: Admin, use: Use) -> MachineList:  # noqa: ARG001 - checked by its type
    return use.hardware.get_machines()


@router.post("", status_code=201, summary="Admins: a machine, or new figures of one from a moment on")
def add(body: MachineBody, caller: Admin, use: Use) -> AddedMachine:
    entry = MachineEntry(
        name=body.name,
        upstreams=body.upstreams,
        watts_busy=body.watts_busy,
        watts_idle=body.watts_idle,
        kwh_usd=body.kwh_cost,
        purchase_usd=body.purchase_cost,
        lifetime_years=body.lifetime_years,
        parallel=body.parallel,
        effective_at=body.effective_at,
        note=body.note,
    )
    record = use.hardware.add_machine(entry, by=caller.user_id)
    since = "from now on" if body.effective_at is None else f"from {body.effective_at.isoformat()} on"
    return {"id": record, "message": f"The machine {body.name.strip()} has these figures {since}."}


@router.get("/{machine_id}/cost", summary="Admins: what a machine cost, busy and idle, and per million tokens")
def cost(
    machine_id: MachineId,
    caller: Admin,  # noqa: ARG001
    use: Use,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS, description="The last so many times 24 hours.")] = 30,
    start: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
) -> MachineCosts:
    now = use.clock.now()
    if start is None and end is not None:
        raise InvalidRequest("to needs a from.")
    window = last_days(days, now) if start is None else between(start, end or now)
    return use.hardware.get_machine_cost(machine_id, window)


class PriceBody(BaseModel):
    """The model whose requests pay for the seconds that they take."""

    model_config = ConfigDict(extra="forbid")
    model: StrictStr = Field(min_length=1, max_length=200, description="A name, or a prefix that ends in *.")


@router.post("/{machine_id}/price", status_code=201, summary="Admins: price a model by its seconds on a machine")
def price(machine_id: MachineId, body: PriceBody, caller: Admin, use: Use) -> MachinePrice:
    return use.hardware.enter_price(machine_id, body.model, by=caller.user_id)
