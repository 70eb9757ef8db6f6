"""What the figures look like as JSON: the contract's keys, and beside them our own. OpenAPI shows these."""

from __future__ import annotations

from datetime import datetime

from typing_extensions import TypedDict


class ModelStats(TypedDict):
    model: str
    requests: int
    avg_duration: float
    avg_tps: float
    total_tokens: int
    errors: int
    percentiles: Percentiles


class Quantiles(TypedDict):
    """Within 1 %; None where nothing was measured."""

    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None


class Percentiles(TypedDict):
    """Milliseconds, and tokens per second."""

    duration: Quantiles
    ttft: Quantiles
    tokens_per_sec: Quantiles
    time_per_output_token: Quantiles


class ErrorKinds(TypedDict):
    upstream: int
    timeout: int
    refused: int
    interrupted: int


class Ratings(TypedDict):
    positive: int
    negative: int
    total_rated: int
    satisfaction_rate: float


class DashboardStats(TypedDict):
    total_requests: int
    errors: int
    error_rate: float
    avg_duration: float
    avg_tokens_per_sec: float
    cache_hits: int
    cache_hit_rate: float
    total_tokens: int
    by_model: list[ModelStats]
    ratings: Ratings
    unpriced_requests: int
    unpriced_tokens: int
    avg_ttft: float
    errors_by_kind: ErrorKinds
    left: int
    estimated: int
    percentiles: Percentiles


class TimeBucket(TypedDict):
    time_bucket: str
    requests: int
    avg_duration: float
    total_tokens: int
    errors: int
    start: str
    cost: float
    prompt_tokens: int
    response_tokens: int
    cache_hits: int
    avg_tokens_per_sec: float
    avg_ttft: float


class TimeSeries(TypedDict):
    data: list[TimeBucket]


class EndpointEntry(TypedDict):
    endpoint: str
    requests: int
    avg_duration: float
    errors: int
    percentiles: Percentiles


class RequestEntry(TypedDict):
    id: int
    request_id: str
    user_id: int
    username: str | None
    model: str
    endpoint: str
    created_at: datetime
    started_at: datetime
    prompt_tokens: int | None
    response_tokens: int | None
    total_tokens: int | None
    cached_prompt_tokens: int | None
    estimated: bool
    duration_ms: int | None
    ttft_ms: int | None
    queue_ms: int | None
    tokens_per_second: float | None
    status: int
    error: bool
    error_code: str | None
    error_message: str | None
    finish_reason: str | None
    stream: bool
    cached: bool
    user_rating: int | None
    cost: float | None
    saved: float | None
    upstream: str | None
    api_key_id: int | None
    project: str | None
    end_user: str | None
    client_request_id: str | None


class PriceUsed(TypedDict):
    """The price that a request was admitted with: USD per 1K tokens, per request, per second of compute. `model` is the
    name that it was entered for; `cached_input_cost` null is what input costs."""

    id: int
    model: str
    input_cost: float
    output_cost: float
    cached_input_cost: float | None
    request_cost: float
    compute_cost: float
    effective_at: datetime
    source: str


class ElsewhereCost(TypedDict):
    """What it would have cost at a hosted model; null where its provider has no price for tokens."""

    provider: str
    model: str
    cost: float | None


class RequestStory(RequestEntry):
    """One request with everything that the ledger has of it. `other_cost` is per request and per second of compute; the
    three parts add up to `cost`, and all are null where the request is unpriced. `elsewhere` is empty where nothing is
    known of its tokens."""

    load_ms: int | None
    prompt_ms: int | None
    generation_ms: int | None
    attempts: int
    prompt_cost: float | None
    response_cost: float | None
    other_cost: float | None
    price: PriceUsed | None
    elsewhere: list[ElsewhereCost]


class RequestLog(TypedDict):
    requests: list[RequestEntry]
    next: int | None


class HourOfWeek(TypedDict):
    weekday: int
    hour: int
    requests: int
    total_tokens: int
    errors: int


class UsagePatterns(TypedDict):
    tz: str
    hours: list[HourOfWeek]


class EndpointStats(TypedDict):
    endpoints: list[EndpointEntry]


class CalculatedCost(TypedDict):
    prompt_cost: float | None
    response_cost: float | None
    total_cost: float | None
    currency: str


class ModelCost(TypedDict):
    model: str
    request_count: int
    prompt_tokens: int
    response_tokens: int
    prompt_cost: float
    response_cost: float
    total_cost: float
    unpriced_requests: int


class CostSummary(TypedDict):
    user_id: int | None
    period: str
    period_days: int
    total_cost: float
    currency: str
    breakdown: list[ModelCost]
    unpriced_requests: int
    unpriced_tokens: int


class CostsElsewhere(TypedDict):
    """What a period's tokens cost here (`cost`, without `unpriced_requests`) and would have cost at hosted models."""

    user_id: int | None
    period: str
    period_days: int
    currency: str
    requests: int
    prompt_tokens: int
    cached_prompt_tokens: int
    response_tokens: int
    cost: float
    unpriced_requests: int
    unpriced_tokens: int
    elsewhere: list[ElsewhereCost]
    source: str
    note: str


class ProjectedModel(TypedDict):
    model: str
    daily_avg_cost: float
    projected_cost: float


class MonthForecast(TypedDict):
    """Of the calendar month (UTC) that is under way: its total with an 80 % interval, and how often such an interval
    would have held in the last two months (`coverage`, null where too little is known)."""

    month: str
    spent: float
    expected: float
    low: float
    high: float
    method: str
    history_days: int
    backtest_days: int
    coverage: float | None


class CostProjection(TypedDict):
    user_id: int | None
    projection_period: str
    projection_days: int
    daily_avg_cost: float
    projected_total_cost: float
    currency: str
    based_on_days: int
    breakdown: list[ProjectedModel]
    forecast: MonthForecast


class UserCosts(TypedDict):
    user_id: int
    username: str
    total_cost: float
    breakdown: list[ModelCost]
    unpriced_requests: int


class AllCosts(TypedDict):
    period: str
    period_days: int
    total_cost: float
    currency: str
    user_count: int
    users: list[UserCosts]
    unpriced_requests: int
    unpriced_tokens: int


class ModelPrice(TypedDict):
    input: float
    output: float


class Pricing(TypedDict):
    models: dict[str, ModelPrice]
    currency: str
    unit: str


class Done(TypedDict):
    message: str


class MachineShown(TypedDict):
    """One record of a machine. USD; `compute_cost` is per second of one request's compute."""

    id: int
    name: str
    upstreams: list[str]
    watts_busy: float
    watts_idle: float
    kwh_cost: float
    purchase_cost: float
    lifetime_years: float
    parallel: int
    effective_at: datetime
    in_force: bool
    busy_cost_per_hour: float
    idle_cost_per_hour: float
    compute_cost: float
    created_at: datetime
    entered_by: str | None
    note: str


class MachineList(TypedDict):
    currency: str
    machines: list[MachineShown]


class MachinePrice(TypedDict):
    """A price per second of compute that was entered for a model; `id` is the price's."""

    id: int
    compute_cost: float
    source: str
    message: str


class MachineModel(TypedDict):
    """What a machine did of one model. `busy_cost` is what its seconds cost; `stamped_cost` is what was recorded. Costs
    per million tokens are of the busy seconds, null where the engine does not measure them."""

    model: str
    requests: int
    unmeasured_requests: int
    compute_seconds: float
    prompt_seconds: float
    generation_seconds: float
    prompt_tokens: int
    response_tokens: int
    busy_cost: float
    stamped_cost: float
    input_cost_per_million: float | None
    output_cost_per_million: float | None


MachinePeriod = TypedDict(
    "MachinePeriod",
    {
        "from": datetime,
        "to": datetime,
        "record": int,
        "busy_cost_per_hour": float,
        "idle_cost_per_hour": float,
        "energy_cost_per_kwh": float,
        "amortisation_per_hour": float,
    },
)
"""A part of the window in which one record held."""

MachineCosts = TypedDict(
    "MachineCosts",
    {
        "id": int,
        "name": str,
        "from": datetime,
        "to": datetime,
        "currency": str,
        "wall_seconds": float,
        "busy_seconds": float,
        "compute_seconds": float,
        "utilisation": float,
        "requests": int,
        "unmeasured_requests": int,
        "busy_kwh": float,
        "idle_kwh": float,
        "energy_cost": float,
        "amortisation": float,
        "total_cost": float,
        "busy_cost": float,
        "idle_cost": float,
        "stamped_cost": float,
        "prompt_tokens": int,
        "response_tokens": int,
        "total_tokens": int,
        "cost_per_million_tokens": float | None,
        "busy_cost_per_million_tokens": float | None,
        "models": list[MachineModel],
        "periods": list[MachinePeriod],
        "warning": str | None,
    },
)
"""`total_cost` is `energy_cost` + `amortisation`, and also `busy_cost` + `idle_cost`."""
