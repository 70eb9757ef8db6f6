"""The contract's metrics: dashboard, time series, endpoints, ratings; and the request log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, WithJsonSchema

from gemmapy.api.access import Admin, SignedIn, Use
from gemmapy.api.questions import Asked
from gemmapy.core.periods import MAX_DAYS, last_days
from gemmapy.metering.answers import (
    DashboardStats,
    Distribution,
    Done,
    EndpointStats,
    RequestLog,
    RequestStory,
    TimeSeries,
    UsagePatterns,
)
from gemmapy.metering.shares import ProjectShares, UserShares, project_shares, user_shares

router = APIRouter(prefix="/api/metrics", tags=["Metrics"])
Zone = Annotated[str, Query(max_length=64, description="A time zone of the IANA database.")]
Days = Annotated[int, Query(ge=1, le=MAX_DAYS, description="The last so many times 24 hours.")]


@router.get("/dashboard", summary="Requests, errors, speed, tokens, cache, ratings and percentiles")
def dashboard(use: Use, asked: Asked, days: Days = 7) -> DashboardStats:
    return use.collector.get_dashboard_stats(None, days, window=asked.window, which=asked.which)


@router.get("/timeseries", summary="The same over time, in a time zone's hours, days or ISO weeks")
def timeseries(
    use: Use,
    asked: Asked,
    days: Days = 7,
    interval: Literal["hour", "day", "week"] = "hour",
    tz: Zone = "UTC",
    fill: Annotated[bool, Query(description="Also the buckets without requests.")] = False,
    percentiles: Annotated[bool | None, Query(description="Each bucket's own; unless said, of up to 400.")] = None,
) -> TimeSeries:
    return use.collector.get_time_series(
        None, days, interval, window=asked.window, which=asked.which, tz=tz, fill=fill, percentiles=percentiles
    )


@router.get("/endpoints", summary="The same by endpoint")
def endpoints(use: Use, asked: Asked, days: Days = 7) -> EndpointStats:
    return use.collector.get_endpoint_stats(None, days, window=asked.window, which=asked.which)


@router.get("/distribution", summary="How long requests take: how many took how long, and percentiles")
def distribution(
    use: Use,
    asked: Asked,
    days: Days = 7,
    measure: Annotated[
        Literal["duration", "ttft", "tokens_per_sec", "time_per_output_token"],
        Query(description="Milliseconds, or tokens per second."),
    ] = "duration",
) -> Distribution:
    return use.collector.get_distribution(None, days, measure, window=asked.window, which=asked.which)


@router.get("/patterns", summary="When it is used, by hour of the week")
def patterns(use: Use, asked: Asked, days: Days = 28, tz: Zone = "UTC") -> UsagePatterns:
    return use.collector.get_usage_patterns(None, days, window=asked.window, which=asked.which, tz=tz)


@router.get("/users", summary="Admins: what each user used, beside the time before")
def users(caller: Admin, use: Use, asked: Asked, days: Days = 7) -> UserShares:  # noqa: ARG001 - checked by its type
    return user_shares(use.store, asked.window or last_days(days, use.clock.now()), asked.which)


@router.get("/projects", summary="Admins: what each project paid for, and what none did, beside the time before")
def projects(caller: Admin, use: Use, asked: Asked, days: Days = 7) -> ProjectShares:  # noqa: ARG001
    return project_shares(use.store, asked.window or last_days(days, use.clock.now()), asked.which)


@router.get("/requests", summary="The requests themselves, the newest first, page by page")
def requests(
    use: Use,
    asked: Asked,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    before: Annotated[
        int | None, Query(ge=1, le=2**63 - 1, description="Older than this metric id: the `next` of the page before.")
    ] = None,
    after: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="Newer than this metric id.")] = None,
    errors: Annotated[bool, Query(description="Only those that failed.")] = False,
    search: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="A metric id or request id, or a part of a model, endpoint, user's name, error, upstream, end "
            "user or client's request id. A page may then be short, or empty, while there is a `next`.",
        ),
    ] = None,
) -> RequestLog:
    return use.collector.get_requests(
        window=asked.window,
        which=asked.which,
        limit=limit,
        before=before,
        after=after,
        errors_only=errors,
        search=search.strip() or None if search else None,
    )


@router.get("/requests/{metric_id}", summary="One request's whole story: where its time went, its price and its cost")
def request(metric_id: str, caller: SignedIn, use: Use) -> RequestStory:
    """`metric_id` is an answer's `metric_id` or its `X-Request-Id`. One's own; admins see anybody's."""
    mine = None if caller.is_admin else caller.user_id
    return use.collector.get_request(metric_id, mine, compare=use.settings.compare_models)


class Rating(BaseModel):
    """1 is good, -1 is bad, 0 is neither."""

    model_config = ConfigDict(extra="forbid")
    # Any, since pydantic's Literal takes true for 1; the collector refuses it and names the three.
    rating: Annotated[Any, WithJsonSchema({"type": "integer", "enum": [-1, 0, 1]})]


@router.post("/{metric_id}/rate", summary="Rate one of your own requests")
def rate(metric_id: str, body: Rating, caller: SignedIn, use: Use) -> Done:
    use.collector.update_rating(metric_id, body.rating, caller.user_id)
    return {"message": "The rating is recorded."}
