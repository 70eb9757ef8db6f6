"""Pricing the past anew: what it would change, changing it, and the trail of what was changed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from gemmapy.api.access import Admin, Use
from gemmapy.api.moments import AwareMoment
from gemmapy.api.questions import project_id_of
from gemmapy.core.money import usd
from gemmapy.core.periods import between
from gemmapy.metering.answers import Repriced, RepricingTrail
from gemmapy.metering.reprice import Repricer, Repricing
from gemmapy.storage import adjustments
from gemmapy.storage.figures import Filter

router = APIRouter(prefix="/api/admin/costs", tags=["Costs"])


class RepriceBody(BaseModel):
    """Which requests, and by which prices; without `apply` nothing is changed."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    start: AwareMoment = Field(alias="from")
    end: AwareMoment | None = Field(None, alias="to", description="Not included; left out: now.")
    model: StrictStr | None = Field(None, min_length=1, max_length=200, description="As it was asked for.")
    user_id: int | None = Field(None, ge=1, le=2**63 - 1)
    project: StrictStr | None = Field(None, min_length=1, max_length=100, description="By its name.")
    unpriced_only: StrictBool = Field(False, description="Only requests that have no price.")
    prices_at: AwareMoment | None = Field(None, description="By the price list of this moment; left out: now.")
    as_recorded: StrictBool = Field(False, description="Back to what each request was recorded with.")
    reason: StrictStr = Field("", max_length=500, description="Required to apply; stays in the trail.")
    apply: StrictBool = False


@router.post("/reprice", summary="Admins: price a period anew; a dry run unless `apply`")
def reprice(body: RepriceBody, caller: Admin, use: Use) -> Repriced:
    asked = Repricing(
        window=between(body.start, body.end or use.clock.now()),
        which=Filter(
            user_id=body.user_id,
            model=body.model,
            project_id=None if body.project is None else project_id_of(use, body.project),
        ),
        prices_at=body.prices_at,
        as_recorded=body.as_recorded,
        unpriced_only=body.unpriced_only,
        reason=body.reason,
    )
    repricer = Repricer(use.store, use.prices)
    return repricer.apply(asked, by=caller.user_id) if body.apply else repricer.preview(asked)


@router.get("/repricings", summary="Admins: what was priced anew, by whom and why, the newest first")
def repricings(
    caller: Admin,  # noqa: ARG001 - checked by its type
    use: Use,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="The `next` of the page before.")] = None,
) -> RepricingTrail:
    with use.store.read() as connection:
        rows = adjustments.trail(connection, limit + 1, before)
    page = rows[:limit]
    return {
        "repricings": [
            {
                "id": row["id"],
                "created_at": row["created_at"],
                "by": row["by"],
                "reason": row["reason"],
                "window_start": row["window_start"],
                "window_end": row["window_end"],
                "prices_at": row["prices_at"],
                "model": row["model"],
                "user_id": row["user_id"],
                "project": row["project"],
                "unpriced_only": row["unpriced_only"],
                "finished_at": row["finished_at"],
                "requests": row["requests"],
                "difference": usd(row["total_nusd"]),
            }
            for row in page
        ],
        "next": page[-1]["id"] if len(rows) > limit else None,
    }
