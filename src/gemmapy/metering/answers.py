"""What the figures look like as JSON: the contract's keys, and beside them our own. OpenAPI shows these."""

from __future__ import annotations

from datetime import datetime
from typing import NotRequired

from typing_extensions import TypedDict

_Period = TypedDict("_Period", {"from": str, "to": str})


class AnsweredWindow(_Period):
    """What the figures are of: up to, and without, `to`. `snapped` is true where that is not quite what was asked,
    since a part of it has retired: its broken quarters of an hour are whole, or it begins where the ledger does."""

    snapped: bool


class ModelStats(TypedDict):
    model: str
    requests: int
    avg_duration: float
    avg_tps: float
    total_tokens: int
    errors: int
    unpriced_requests: int
    unpriced_tokens: int
    cache_hits: int
    ratings: Ratings
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
    window: AnsweredWindow
    total_requests: int
    errors: int
    error_rate: float
    avg_duration: float
    avg_tokens_per_sec: float
    cache_hits: int
    cache_hit_rate: float
    total_tokens: int
    by_model: list[ModelStats]
    saved: float
    """What answers from the cache would have cost."""
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
    unpriced_requests: int
    unpriced_tokens: int
    saved: float
    positive: int
    negative: int
    percentiles: Percentiles | None


class TimeSeries(TypedDict):
    window: AnsweredWindow
    data: list[TimeBucket]


class EndpointEntry(TypedDict):
    endpoint: str
    requests: int
    avg_duration: float
    errors: int
    unpriced_requests: int
    unpriced_tokens: int
    percentiles: Percentiles


DistributionBar = TypedDict("DistributionBar", {"from": float, "to": float, "requests": int})
"""Requests whose value is above `from` and up to `to`; one within 1 % of an edge may be on its other side."""


class Distribution(TypedDict):
    """Milliseconds, or tokens per second. `measured` requests have the value; `bars` is null where too many rows would
    have to be read to tell."""

    window: AnsweredWindow
    measure: str
    requests: int
    measured: int
    percentiles: Quantiles
    bars: list[DistributionBar] | None


class RequestEntry(TypedDict):
    """`cost` is what the request costs by now, `recorded_cost` what it was recorded with; they differ where it was
    priced anew."""

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
    recorded_cost: float | None
    saved: float | None
    upstream: str | None
    api_key_id: int | None
    project: str | None
    end_user: str | None
    client_request_id: str | None
    requested_model: str | None


class AttemptMade(TypedDict):
    """One question to one upstream: `started_ms` after the request was read, `wait_ms` waited before it."""

    upstream: str
    model: str
    started_ms: int
    duration_ms: int
    wait_ms: int
    status: int | None
    error_code: str | None


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


class AdjustmentEntry(TypedDict):
    """`price_model` is the name that the new price was entered for; null: unpriced again."""

    repricing_id: int
    created_at: datetime
    reason: str
    difference: float
    price_id: int | None
    price_model: str | None


class RequestStory(RequestEntry):
    """One request with everything that the ledger has of it. `other_cost` is per request and per second of compute; the
    three parts add up to `cost`, and all are null where the request is unpriced. `elsewhere` is empty where nothing is
    known of its tokens, `attempt_log` where there was but the attempt that the row describes."""

    load_ms: int | None
    prompt_ms: int | None
    generation_ms: int | None
    attempts: int
    attempt_log: list[AttemptMade]
    prompt_cost: float | None
    response_cost: float | None
    other_cost: float | None
    price: PriceUsed | None
    elsewhere: list[ElsewhereCost]
    adjustments: list[AdjustmentEntry]


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
    window: AnsweredWindow
    tz: str
    hours: list[HourOfWeek]


class EndpointStats(TypedDict):
    window: AnsweredWindow
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
    unpriced_tokens: int


class CostSummary(TypedDict):
    window: AnsweredWindow
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

    window: AnsweredWindow
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
    window: AnsweredWindow
    """The days that it is based on."""
    unpriced_requests: int
    unpriced_tokens: int
    forecast: MonthForecast


class UserCosts(TypedDict):
    user_id: int
    username: str
    total_cost: float
    breakdown: list[ModelCost]
    unpriced_requests: int
    unpriced_tokens: int


class AllCosts(TypedDict):
    window: AnsweredWindow
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


class RepricedGroup(TypedDict):
    user_id: int
    username: str
    model: str
    requests: int
    cost_before: float
    cost_after: float
    difference: float


class Repriced(TypedDict):
    """What pricing anew changes, or has changed. `requests` were looked at, `changed` cost something else now;
    `without_price` stay as they are, since their model has no price in that list."""

    applied: bool
    repricing_id: int | None
    prices_at: datetime | None
    requests: int
    changed: int
    unchanged: int
    without_price: int
    no_longer_unpriced: int
    cost_before: float
    cost_after: float
    difference: float
    currency: str
    breakdown: list[RepricedGroup]


class RepricingEntry(TypedDict):
    """One that was applied; `finished_at` null: it broke off, and the same again does the rest."""

    id: int
    created_at: datetime
    by: str | None
    reason: str
    window_start: datetime
    window_end: datetime
    prices_at: datetime | None
    model: str | None
    user_id: int | None
    project: str | None
    unpriced_only: bool
    finished_at: datetime | None
    requests: int
    difference: float


class RepricingTrail(TypedDict):
    repricings: list[RepricingEntry]
    next: int | None


class StatementEntry(TypedDict):
    number: int
    month: str
    kind: str
    subject_id: int
    subject: str
    total_cost: float
    currency: str
    closed_at: datetime


class Statements(TypedDict):
    statements: list[StatementEntry]
    next: int | None


class ClosedMonth(TypedDict):
    """`corrections` is what was adjusted of earlier, closed months; it is in the statements, not in `total_cost`.
    With `closed` false nothing was written, and statements have no numbers yet (0)."""

    month: str
    closed: bool
    closed_at: datetime
    requests: int
    total_cost: float
    corrections: float
    currency: str
    statements: list[StatementEntry]


class ClosingEntry(TypedDict):
    month: str
    closed_at: datetime
    by: str | None
    requests: int
    total_cost: float
    corrections: float
    statements: int


class Closings(TypedDict):
    months: list[ClosingEntry]


class _Counted(TypedDict):
    requests: int
    errors: int
    cache_hits: int
    prompt_tokens: int
    response_tokens: int
    prompt_cost: float
    response_cost: float
    other_cost: float
    saved: float
    unpriced_requests: int
    unpriced_tokens: int


class StatementLine(_Counted):
    """One model of a user's statement, by the project that pays (null: none), or of a project's, by user."""

    model: str
    cost: float
    project: NotRequired[str | None]
    user_id: NotRequired[int]
    username: NotRequired[str]


class StatementCorrection(TypedDict):
    """What was adjusted of an earlier month after it was closed."""

    month: str
    model: str
    repricing_id: int
    reason: str
    requests: int
    cost: float


class Statement(_Counted, _Period):
    """A frozen statement. `total_cost` is `usage_cost` and `correction_cost`; a user's also says how much of it is
    `charged_to_projects` and how much is the `own_cost`."""

    number: int
    month: str
    kind: str
    subject_id: int
    subject: str
    closed_at: str
    currency: str
    lines: list[StatementLine]
    corrections: list[StatementCorrection]
    usage_cost: float
    correction_cost: float
    total_cost: float
    total_nusd: int
    own_cost: NotRequired[float]
    charged_to_projects: NotRequired[float]


class RetiredDay(TypedDict):
    day: str
    requests: int
    total_cost: float


class Retention(TypedDict):
    """`whole_from` is where the ledger begins (null: nothing has retired); `due` is what the next run retires."""

    retention_days: int | None
    whole_from: datetime | None
    retired_days: int
    retired_requests: int
    due: list[str]


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
    """What a machine did of one model. `busy_cost` is what its seconds cost; `stamped_cost` is what its requests are
    charged. Costs per million tokens are of the busy seconds, null where the engine does not measure them."""

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
        "snapped": bool,
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
"""`total_cost` is `energy_cost` + `amortisation`, and also `busy_cost` + `idle_cost`. `snapped`: it begins later than
was asked for, where the ledger does. `stamped_cost` is what its requests are charged."""
