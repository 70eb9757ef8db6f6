"""The contract's metrics: dashboard, time series, endpoints, ratings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, WithJsonSchema

from gemmapy.api.access import SignedIn, UserId, scope
from gemmapy.api.services import Services, services
from gemmapy.core.periods import MAX_DAYS
from gemmapy.metering.calculator import Done
from gemmapy.metering.collector import DashboardStats, EndpointStats, TimeSeries

router = APIRouter(prefix="/api/metrics", tags=["Metrics"])
Use = Annotated[Services, Depends(services)]
Days = Annotated[int, Query(ge=1, le=MAX_DAYS, description="The last so many times 24 hours.")]


@router.get("/dashboard", summary="Requests, errors, speed, tokens, cache and ratings")
def dashboard(caller: SignedIn, use: Use, days: Days = 7, user_id: UserId = None) -> DashboardStats:
    return use.collector.get_dashboard_stats(scope(caller, user_id), days)


@router.get("/timeseries", summary="The same over time, in UTC buckets")
def timeseries(
    caller: SignedIn,
    use: Use,
    days: Days = 7,
    interval: Literal["hour", "day", "week"] = "hour",
    user_id: UserId = None,
) -> TimeSeries:
    return use.collector.get_time_series(scope(caller, user_id), days, interval)


@router.get("/endpoints", summary="The same by endpoint")
def endpoints(caller: SignedIn, use: Use, days: Days = 7, user_id: UserId = None) -> EndpointStats:
    return use.collector.get_endpoint_stats(scope(caller, user_id), days)


class Rating(BaseModel):
    """1 is good, -1 is bad, 0 is neither."""

    model_config = ConfigDict(extra="forbid")
    # Any, since pydantic's Literal takes true for 1; the collector refuses it and names the three.
    rating: Annotated[Any, WithJsonSchema({"type": "integer", "enum": [-1, 0, 1]})]


@router.post("/{metric_id}/rate", summary="Rate one of your own requests")
def rate(metric_id: str, body: Rating, caller: SignedIn, use: Use) -> Done:
    use.collector.update_rating(metric_id, body.rating, caller.user_id)
    return {"message": "The rating is recorded."}
