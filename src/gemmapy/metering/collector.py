"""`MetricsCollector`: records requests, takes ratings, and answers what the dashboard asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from gemmapy.core.errors import InvalidRequest, NotFound
from gemmapy.core.ids import RequestIds, id_text, parse_id
from gemmapy.core.money import usd, usd_or_none
from gemmapy.core.periods import (
    Window,
    bucket_start,
    bucket_starts,
    bucket_text,
    check_interval,
    has_whole_hours,
    last_days,
    time_zone,
)
from gemmapy.core.records import Intent, Outcome, Timings, Usage, speed_mtps
from gemmapy.metering import elsewhere
from gemmapy.metering.answers import (
    DashboardStats,
    Distribution,
    ElsewhereCost,
    EndpointStats,
    Percentiles,
    PriceUsed,
    Quantiles,
    Ratings,
    RequestEntry,
    RequestLog,
    RequestStory,
    TimeSeries,
    UsagePatterns,
)
from gemmapy.metering.finished import FinishedRequest
from gemmapy.metering.prices import PriceDesk
from gemmapy.metering.windows import answered
from gemmapy.metrics.distribution import bars_of
from gemmapy.metrics.histogram import Lanes, bins_of, percentiles, together
from gemmapy.metrics.measures import Sums
from gemmapy.pricing import cost_of
from gemmapy.storage import adjustments, figures, ledger, people, prices, requests
from gemmapy.storage.figures import EVERYTHING, Filter
from gemmapy.storage.store import Store

RATINGS = (-1, 0, 1)
LEDGER_LIMIT = 5_000
"""Percentiles that rollups do not hold (a user's by model, say) are given for up to so many requests."""
_OK, _FAILED = 200, 500
SHOWN_IN_SERIES = (
    *("requests", "errors", "cache_hits", "total_tokens", "prompt_tokens", "response_tokens", "total_nusd"),
    *("timed", "duration_ms", "paced", "speed_mtps", "begun", "ttft_ms", "unpriced_requests", "unpriced_tokens"),
    *("saved_nusd", "rated_positive", "rated_negative"),
)
MOST_WITH_PERCENTILES = 400
TimeBy = Literal["quarter", "hour", "day"]
DISTRIBUTED = {"duration": 1, "ttft": 1, "tokens_per_sec": 1000, "time_per_output_token": 1000}
"""What has histograms, by its name in answers and in their order, and how many of a histogram's units are one of the
answer's."""
SHOWN_IN_PATTERNS = ("requests", "errors", "total_tokens")


class MetricsCollector:
    """Plain calls that block until done; each returns what the route of the same name answers."""

    def __init__(self, store: Store, desk: PriceDesk | None = None) -> None:
        self._store = store
        self._desk = desk or PriceDesk(store)
        self._ids = RequestIds()

    def record(
        self,
        user_id: int,
        model: str,
        endpoint: str,
        *,
        prompt_tokens: int | None = None,
        response_tokens: int | None = None,
        duration_ms: int | None = None,
        error: str | None = None,
        cached: bool = False,
        cached_prompt_tokens: int | None = None,
        ttft_ms: int | None = None,
        generation_ms: int | None = None,
        stream: bool = False,
        estimated: bool = False,
        finish_reason: str | None = None,
        upstream: str | None = None,
        project_id: int | None = None,
        api_key_id: int | None = None,
        end_user: str | None = None,
        started_at: datetime | None = None,
    ) -> int:
        """Writes one finished request down, priced with the price in force; returns its metric id once it is on disk.

        `error` is the message of a request that failed. The speed is the response's tokens over `generation_ms`, or
        over `duration_ms` where that is not known. A cached answer costs nothing and says what it saved. Raises
        InvalidRequest for a user who does not exist, an empty name, or a negative number.
        """
        finished = FinishedRequest(
            user_id,
            model,
            endpoint,
            prompt_tokens=prompt_tokens,
            response_tokens=response_tokens,
            duration_ms=duration_ms,
            error=error,
            cached=cached,
            cached_prompt_tokens=cached_prompt_tokens,
            ttft_ms=ttft_ms,
            generation_ms=generation_ms,
            stream=stream,
            estimated=estimated,
            finish_reason=finish_reason,
            upstream=upstream,
            project_id=project_id,
            api_key_id=api_key_id,
            end_user=end_user,
            started_at=started_at,
        )
        return self.record_many([finished])[0]

    def record_many(self, requests: Sequence[FinishedRequest]) -> list[int]:
        """The same of many at once, in their order; returns their metric ids once all are on disk.

        They share transactions, and so cost a fraction of what one at a time does. Nothing is written where one of them
        is refused; where the database fails on the way, the first ones may have been.
        """
        for request in requests:
            request.check()
        with self._store.read() as connection:
            unknown = people.never_made(connection, {request.user_id for request in requests})
        if unknown:
            raise InvalidRequest(f"There is no user {min(unknown)}.")
        self._desk.refresh()  # from Python nobody watches for prices that others entered
        now = self._store.clock.now()
        return self._store.record_all(self._outcome(request, now) for request in requests)

    def _outcome(self, request: FinishedRequest, now: datetime) -> Outcome:
        """Priced with the price in force."""
        usage = Usage(request.prompt_tokens, request.response_tokens, request.cached_prompt_tokens, request.estimated)
        price = self._desk.book.at(request.model, now)
        generation_ms, cached = request.generation_ms, request.cached
        cost = None if price is None or usage.total_tokens is None else cost_of(price, usage, generation_ms)
        return Outcome(
            intent=Intent(
                request_id=self._ids.new(),
                user_id=request.user_id,
                model=request.model,
                endpoint=request.endpoint,
                started_at=request.started_at or now - timedelta(milliseconds=request.duration_ms or 0),
                stream=request.stream,
                api_key_id=request.api_key_id,
                project_id=request.project_id,
                end_user=request.end_user,
                upstream=request.upstream,
                price_id=None if price is None else price.id,
            ),
            status=_OK if request.error is None else _FAILED,
            usage=usage,
            timings=Timings(request.duration_ms, ttft_ms=request.ttft_ms, generation_ms=generation_ms),
            error_code=None if request.error is None else "error",
            error_message=request.error,
            finish_reason=request.finish_reason,
            cached=cached,
            cost=cost if cost is None or not cached else cost.nothing(),
            saved_nusd=cost.total_nusd if cost is not None and cached else None,
            speed_mtps=speed_mtps(request.response_tokens, generation_ms or request.duration_ms),
        )

    def update_rating(self, metric_id: int | str, rating: int, user_id: int | None = None) -> None:
        """Rates a request by its metric id or request id: 1 good, -1 bad, 0 neither; again replaces.

        With `user_id`, only that user's own. Raises InvalidRequest for another rating, NotFound.
        """
        if type(rating) is not int or rating not in RATINGS:  # True == 1.0 == 1, and neither is a rating
            raise InvalidRequest(f"rating must be -1, 0 or 1, got {rating!r:.40}.")
        key = _key(metric_id)
        if key is None or not self._store.write(lambda c: ledger.rate(c, self._store.slot, key, rating, user_id)):
            raise _not_yours(metric_id)

    def get_dashboard_stats(
        self, user_id: int | None = None, days: int = 7, *, window: Window | None = None, which: Filter = EVERYTHING
    ) -> DashboardStats:
        """The last `days` times 24 hours, or a window, in numbers, of a user or of everyone. Raises InvalidRequest."""
        asked, which = self._asked(user_id, days, window, which)
        with self._store.read() as connection:
            span = figures.answerable(connection, asked, "model", which)
            models = figures.sums(connection, span, "model", which)
            total = sum(models.values(), Sums())
            of_models = _histograms(connection, span, "model", which, total.requests)
            # Of all: of every model together, unless only a user's own are known.
            of_all = _histograms(connection, span, "all", which, total.requests) if which.dimensions else of_models
        return {
            "window": answered(asked, span),
            "total_requests": total.requests,
            "errors": total.errors,
            "error_rate": total.error_rate,
            "avg_duration": total.avg_duration,
            "avg_tokens_per_sec": total.avg_tokens_per_sec,
            "cache_hits": total.cache_hits,
            "cache_hit_rate": total.cache_hit_rate,
            "total_tokens": total.total_tokens,
            "by_model": [
                {
                    "model": model,
                    "requests": sums.requests,
                    "avg_duration": sums.avg_duration,
                    "avg_tps": sums.avg_tokens_per_sec,
                    "total_tokens": sums.total_tokens,
                    "errors": sums.errors,
                    "cache_hits": sums.cache_hits,
                    "unpriced_requests": sums.unpriced_requests,
                    "unpriced_tokens": sums.unpriced_tokens,
                    "ratings": _ratings(sums),
                    "percentiles": _percentiles(of_models.get(model)),
                }
                for model, sums in _busiest_first(models)
            ],
            "saved": usd(total.saved_nusd),
            "ratings": _ratings(total),
            "unpriced_requests": total.unpriced_requests,
            "unpriced_tokens": total.unpriced_tokens,
            "avg_ttft": total.avg_ttft,
            "errors_by_kind": {
                "upstream": total.errors_upstream,
                "timeout": total.errors_timeout,
                "refused": total.errors_refused,
                "interrupted": total.errors_interrupted,
            },
            "left": total.left,
            "estimated": total.estimated,
            "percentiles": _percentiles(together(of_all.values())),
        }

    def get_time_series(
        self,
        user_id: int | None = None,
        days: int = 7,
        interval: str = "hour",
        *,
        window: Window | None = None,
        which: Filter = EVERYTHING,
        tz: str = "UTC",
        fill: bool = False,
        percentiles: bool | None = None,
    ) -> TimeSeries:
        """The buckets of the last `days`, or of a window, that have requests, oldest first, in a time zone.

        `start` is a bucket's first moment, which tells apart the two hours that have one name when clocks go back.
        `fill` puts in the buckets without requests. `percentiles` are each bucket's own; None: of up to
        `MOST_WITH_PERCENTILES` buckets, since a year of hours is a hundred thousand numbers. Raises InvalidRequest.
        """
        check_interval(interval)
        zone = time_zone(tz)
        asked, which = self._asked(user_id, days, window, which)
        with self._store.read() as connection:
            # A zone's days are made of hours, or of quarter-hours where its clocks differ by those; UTC's are days.
            by: TimeBy = "hour" if has_whole_hours(zone, asked) else "quarter"
            if zone.key == "UTC" and interval != "hour":
                by = "day"
            span = figures.answerable(connection, asked, by, which)
            pieces = figures.sums(connection, span, by, which, SHOWN_IN_SERIES)
            start_of = {
                # In UTC, where the two hours of one name in an autumn night are two.
                second: bucket_start(datetime.fromtimestamp(second, UTC), interval, zone).astimezone(UTC)
                for second in sorted(pieces)
            }
            if percentiles is None:
                percentiles = len(set(start_of.values())) <= MOST_WITH_PERCENTILES
            requests = sum(sums.requests for sums in pieces.values())
            bins = _histograms(connection, span, by, which, requests) if percentiles else {}
        buckets: dict[datetime, Sums] = {}
        lanes: dict[datetime, list[Lanes]] = {}
        if fill:
            buckets = dict.fromkeys((start.astimezone(UTC) for start in bucket_starts(span, interval, zone)), Sums())
        for second, start in start_of.items():
            buckets[start] = buckets[start] + pieces[second] if start in buckets else pieces[second]
            if second in bins:
                lanes.setdefault(start, []).append(bins[second])
        return {
            "window": answered(asked, span),
            "data": [
                {
                    "time_bucket": bucket_text(start.astimezone(zone), interval),
                    "requests": sums.requests,
                    "avg_duration": sums.avg_duration,
                    "total_tokens": sums.total_tokens,
                    "errors": sums.errors,
                    "start": start.astimezone(zone).isoformat(),
                    "cost": usd(sums.total_nusd),
                    "prompt_tokens": sums.prompt_tokens,
                    "response_tokens": sums.response_tokens,
                    "cache_hits": sums.cache_hits,
                    "avg_tokens_per_sec": sums.avg_tokens_per_sec,
                    "avg_ttft": sums.avg_ttft,
                    "unpriced_requests": sums.unpriced_requests,
                    "unpriced_tokens": sums.unpriced_tokens,
                    "saved": usd(sums.saved_nusd),
                    "positive": sums.rated_positive,
                    "negative": sums.rated_negative,
                    "percentiles": _percentiles(together(lanes.get(start, ()))) if percentiles else None,
                }
                for start, sums in buckets.items()
            ],
        }

    def get_endpoint_stats(
        self, user_id: int | None = None, days: int = 7, *, window: Window | None = None, which: Filter = EVERYTHING
    ) -> EndpointStats:
        """Each endpoint's numbers over the last `days`, or a window, the busiest first. Raises InvalidRequest."""
        asked, which = self._asked(user_id, days, window, which)
        with self._store.read() as connection:
            span = figures.answerable(connection, asked, "endpoint", which)
            endpoints = figures.sums(connection, span, "endpoint", which)
            total = sum(endpoints.values(), Sums())
            bins = _histograms(connection, span, "endpoint", which, total.requests)
        return {
            "window": answered(asked, span),
            "endpoints": [
                {
                    "endpoint": endpoint,
                    "requests": sums.requests,
                    "avg_duration": sums.avg_duration,
                    "errors": sums.errors,
                    "unpriced_requests": sums.unpriced_requests,
                    "unpriced_tokens": sums.unpriced_tokens,
                    "percentiles": _percentiles(bins.get(endpoint)),
                }
                for endpoint, sums in _busiest_first(endpoints)
            ],
        }

    def get_distribution(
        self,
        user_id: int | None = None,
        days: int = 7,
        measure: str = "duration",
        *,
        window: Window | None = None,
        which: Filter = EVERYTHING,
    ) -> Distribution:
        """How a measure is spread over the requests of the last `days`, or of a window: some dozens of bars on a
        logarithmic scale, and percentiles. Answers from the cache are in none. Raises InvalidRequest.

        `bars` is None where only the ledger could tell, and would have to read more than `LEDGER_LIMIT` requests.
        """
        if measure not in DISTRIBUTED:
            raise InvalidRequest(f"measure must be one of {', '.join(DISTRIBUTED)}, got {measure!r:.40}.")
        unit = DISTRIBUTED[measure]
        asked, which = self._asked(user_id, days, window, which)
        with self._store.read() as connection:
            span = figures.answerable(connection, asked, "all", which)
            total = figures.sums(connection, span, "all", which, ("requests",)).get(None, Sums())
            found = _histograms(connection, span, "all", which, total.requests)
        lanes = together(found.values())[list(DISTRIBUTED).index(measure)]
        counted = bins_of(lanes)
        is_known = bool(found) or not total.requests or figures.histogram_source("all", which) is not None
        return {
            "window": answered(asked, span),
            "measure": measure,
            "requests": total.requests,
            "measured": sum(counted.values()),
            "percentiles": _quantiles(lanes, unit),
            "bars": [{"from": bar.low, "to": bar.high, "requests": bar.count} for bar in bars_of(counted, unit)]
            if is_known
            else None,
        }

    def get_usage_patterns(
        self,
        user_id: int | None = None,
        days: int = 28,
        *,
        window: Window | None = None,
        which: Filter = EVERYTHING,
        tz: str = "UTC",
    ) -> UsagePatterns:
        """When it is used: requests, tokens and errors by hour of the week (Monday 0 h is hour 0) in a time zone."""
        zone = time_zone(tz)
        asked, which = self._asked(user_id, days, window, which)
        with self._store.read() as connection:
            by: TimeBy = "hour" if has_whole_hours(zone, asked) else "quarter"
            span = figures.answerable(connection, asked, by, which)
            pieces = figures.sums(connection, span, by, which, SHOWN_IN_PATTERNS)
        hours = [Sums()] * (7 * 24)
        for second, sums in pieces.items():
            local = datetime.fromtimestamp(second, zone)
            hours[local.weekday() * 24 + local.hour] += sums
        return {
            "window": answered(asked, span),
            "tz": tz,
            "hours": [
                {
                    "weekday": place // 24,
                    "hour": place % 24,
                    "requests": sums.requests,
                    "total_tokens": sums.total_tokens,
                    "errors": sums.errors,
                }
                for place, sums in enumerate(hours)
            ],
        }

    def get_requests(
        self,
        *,
        window: Window | None = None,
        which: Filter = EVERYTHING,
        limit: int = 50,
        before: int | None = None,
        after: int | None = None,
        errors_only: bool = False,
        search: str | None = None,
    ) -> RequestLog:
        """One page of the ledger, the newest first; `next` is what `before` is for the page after, None at the end.

        `before` and `after` are metric ids, neither of them included. `search` is a metric id, a request id, or a part
        of a model, endpoint, user's name, error, upstream, end user or client's request id; a page of a search may be
        short and not be the last.
        """
        with self._store.read() as connection:
            if search is not None and _key(search) is None:
                rows, following = requests.search(
                    connection, window, which, limit, before, search, errors_only=errors_only
                )
                return {"requests": [_entry(row) for row in rows], "next": following}
            if search is not None:
                row = requests.one(connection, _key(search) or 0, which.user_id)
                return {"requests": [] if row is None else [_entry(row)], "next": None}
            rows = requests.page(connection, window, which, limit + 1, before, after=after, errors_only=errors_only)
        page = rows[:limit]
        return {
            "requests": [_entry(row) for row in page],
            "next": page[-1]["id"] if len(rows) > limit else None,
        }

    def get_request(
        self, metric_id: int | str, user_id: int | None = None, *, compare: Sequence[str] = ()
    ) -> RequestStory:
        """Everything that the ledger has of one request, by its metric id or request id, and the price that was used.

        With `user_id`, only that user's own. `compare` names hosted models (`PROVIDER/MODEL`): what it would have cost
        there. Raises NotFound, and InvalidRequest for a hosted model that is not known.
        """
        key = _key(metric_id)
        with self._store.read() as connection:
            row = None if key is None else requests.one(connection, key, user_id)
            if row is None:
                raise _not_yours(metric_id)
            price = None if row["price_id"] is None else prices.one(connection, row["price_id"])
            changes = adjustments.of_request(connection, row["id"])
        usage = Usage(row["prompt_tokens"], row["response_tokens"], row["cached_prompt_tokens"])
        known = usage.total_tokens is not None
        models = elsewhere.named(compare) if known else []
        return _story(row, price, changes, elsewhere.of_request(usage, row["created_at"], models))

    def _asked(self, user_id: int | None, days: int, window: Window | None, which: Filter) -> tuple[Window, Filter]:
        span = window or last_days(days, self._store.clock.now())
        return span, which if user_id is None else replace(which, user_id=user_id)


def _key(metric_id: int | str) -> int | bytes | None:
    """A metric id, the 16 bytes of a request id, or None where it is neither."""
    text = str(metric_id)
    is_number = text.isascii() and text.isdigit() and len(text) < 19  # what a column of 64 bits can hold
    return int(text) if is_number else parse_id(text)


def _not_yours(metric_id: int | str) -> NotFound:
    return NotFound(
        f"There is no request {str(metric_id)[:60]} of yours.",
        hint="Use the metric_id of an answer, or its X-Request-Id.",
    )


def _story(
    row: Mapping[str, Any],
    price: Mapping[str, Any] | None,
    changes: Sequence[Mapping[str, Any]],
    compared: list[ElsewhereCost],
) -> RequestStory:
    total, prompt, response = row["cost_nusd"], row["prompt_cost_nusd"], row["response_cost_nusd"]
    return RequestStory(
        **_entry(row),
        load_ms=row["load_ms"],
        prompt_ms=row["prompt_ms"],
        generation_ms=row["generation_ms"],
        attempts=row["attempts"],
        attempt_log=msgspec.json.decode(row["attempt_log"]) if row["attempt_log"] else [],
        prompt_cost=usd_or_none(prompt),
        response_cost=usd_or_none(response),
        other_cost=None if total is None else usd(total - (prompt or 0) - (response or 0)),
        price=None if price is None else _price_used(price),
        elsewhere=compared,
        adjustments=[
            {
                "repricing_id": change["repricing_id"],
                "created_at": change["created_at"],
                "reason": change["reason"],
                "difference": usd(change["total_nusd"]),
                "price_id": change["price_id"],
                "price_model": change["price_model"],
            }
            for change in changes
        ],
    )


def _price_used(price: Mapping[str, Any]) -> PriceUsed:
    return {
        "id": price["id"],
        "model": price["model"],
        "input_cost": usd(price["input_nusd_per_1k"]),
        "output_cost": usd(price["output_nusd_per_1k"]),
        "cached_input_cost": usd_or_none(price["cached_input_nusd_per_1k"]),
        "request_cost": usd(price["request_nusd"]),
        "compute_cost": usd(price["compute_nusd_per_second"]),
        "effective_at": price["effective_at"],
        "source": price["source"],
    }


def _entry(row: Mapping[str, Any]) -> RequestEntry:
    entry = {name: row[name] for name in RequestEntry.__annotations__ if name in row}
    return RequestEntry(
        **{
            **entry,
            "request_id": id_text(row["request_id"]),
            "cost": usd_or_none(row["cost_nusd"]),
            "recorded_cost": usd_or_none(row["recorded_cost_nusd"]),
            "saved": usd_or_none(row["saved_nusd"]),
        }  # pyright: ignore[reportArgumentType]
    )


def _busiest_first(groups: dict[str, Sums]) -> list[tuple[str, Sums]]:
    return sorted(groups.items(), key=lambda entry: (-entry[1].requests, entry[0]))


def _histograms(
    connection: Connection, span: Window, by: figures.HistogramBy, which: Filter, requests: int
) -> dict[Any, Lanes]:
    """Where only the ledger could tell, and would have to read very much of it, nothing: the percentiles are None."""
    if figures.histogram_source(by, which) is None and requests > LEDGER_LIMIT:
        return {}
    return figures.histograms(connection, span, by, which)


_SHARES = (0.5, 0.9, 0.95, 0.99)
_NOTHING_MEASURED: Percentiles = {
    "duration": {"p50": None, "p90": None, "p95": None, "p99": None},
    "ttft": {"p50": None, "p90": None, "p95": None, "p99": None},
    "tokens_per_sec": {"p50": None, "p90": None, "p95": None, "p99": None},
    "time_per_output_token": {"p50": None, "p90": None, "p95": None, "p99": None},
}


def _percentiles(lanes: Lanes | None) -> Percentiles:
    """Of one group. Milliseconds and tokens per second; None where nothing was measured."""
    if lanes is None:
        return _NOTHING_MEASURED
    duration, ttft, speed, tpot = lanes
    return {
        "duration": _quantiles(duration, 1),
        "ttft": _quantiles(ttft, 1),
        "tokens_per_sec": _quantiles(speed, 1000),
        "time_per_output_token": _quantiles(tpot, 1000),
    }


def _quantiles(lanes: int, unit: float) -> Quantiles:
    p50, p90, p95, p99 = (None if value is None else value / unit for value in percentiles(lanes, _SHARES))
    return {"p50": p50, "p90": p90, "p95": p95, "p99": p99}


def _ratings(sums: Sums) -> Ratings:
    return {
        "positive": sums.rated_positive,
        "negative": sums.rated_negative,
        "total_rated": sums.total_rated,
        "satisfaction_rate": sums.satisfaction_rate,
    }
