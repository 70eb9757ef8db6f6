"""Sums that can be added to each other, and the measures that are computed of them.

`Sums` is what a rollup's row holds and what a scan of the ledger yields: whole numbers only, each a sum over requests,
so that totals of totals are exact. An average is over the rows that have the value and were not answered from the
cache; of no rows it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add, sub
from typing import NamedTuple

from gemmapy.core.money import divide_half_even
from gemmapy.core.records import Outcome
from gemmapy.metrics.histogram import place_of

ERROR_KINDS = {
    "upstream_error": "errors_upstream",
    "upstream_unreachable": "errors_upstream",
    "upstream_timeout": "errors_timeout",
    "interrupted": "errors_interrupted",
    "forbidden": "errors_refused",
    "model_not_found": "errors_refused",
    "too_many_requests": "errors_refused",
}
"""Which column counts an error's code; every other code is in `errors` alone."""
CLIENT_LEFT = 499


class Sums(NamedTuple):
    """Additive columns over any set of requests. A tuple, since a question can make many thousands."""

    requests: int = 0
    errors: int = 0
    errors_upstream: int = 0
    errors_timeout: int = 0
    errors_refused: int = 0
    errors_interrupted: int = 0
    left: int = 0
    """Requests whose client left before its answer was complete."""
    cache_hits: int = 0
    estimated: int = 0
    """Requests whose tokens are not the engine's own count."""
    prompt_tokens: int = 0
    response_tokens: int = 0
    cached_prompt_tokens: int = 0
    total_tokens: int = 0
    prompt_nusd: int = 0
    response_nusd: int = 0
    total_nusd: int = 0
    saved_nusd: int = 0
    """What answers from the cache would have cost."""
    unpriced_requests: int = 0
    """Requests that used tokens of a model without a price; they are in no sum of money."""
    unpriced_tokens: int = 0
    timed: int = 0
    """Requests that have a duration and did not come from the cache; `duration_ms` is their sum."""
    duration_ms: int = 0
    paced: int = 0
    """Requests that have a speed; `speed_mtps` is the sum of their milli-tokens per second."""
    speed_mtps: int = 0
    begun: int = 0
    """Requests that have a time to first token; `ttft_ms` is their sum."""
    ttft_ms: int = 0
    rated_positive: int = 0
    rated_negative: int = 0
    rated_neutral: int = 0

    def __add__(self, other: Sums) -> Sums:  # pyright: ignore[reportIncompatibleMethodOverride] - sums, no longer tuple
        return Sums._make(map(add, self, other))

    def less(self, other: Sums) -> Sums:
        """What is left without `other`."""
        return Sums._make(map(sub, self, other))

    @property
    def avg_duration(self) -> float:
        """Milliseconds."""
        return _ratio(self.duration_ms, self.timed)

    @property
    def avg_tokens_per_sec(self) -> float:
        return _ratio(self.speed_mtps, self.paced) / 1000

    @property
    def avg_ttft(self) -> float:
        """Milliseconds."""
        return _ratio(self.ttft_ms, self.begun)

    @property
    def error_rate(self) -> float:
        """0 to 1."""
        return _ratio(self.errors, self.requests)

    @property
    def cache_hit_rate(self) -> float:
        """0 to 1."""
        return _ratio(self.cache_hits, self.requests)

    @property
    def total_rated(self) -> int:
        """Rating 0 says neither, and is not counted."""
        return self.rated_positive + self.rated_negative

    @property
    def satisfaction_rate(self) -> float:
        """0 to 1."""
        return _ratio(self.rated_positive, self.total_rated)


COLUMNS = Sums._fields
SPENDING = (
    *("requests", "prompt_tokens", "response_tokens", "prompt_nusd", "response_nusd", "total_nusd"),
    *("unpriced_requests", "unpriced_tokens"),
)
"""The columns that say what was spent."""
ADJUSTABLE = ("prompt_nusd", "response_nusd", "total_nusd", "saved_nusd", "unpriced_requests", "unpriced_tokens")
"""What pricing a request anew can change."""
_PLACE = {name: place for place, name in enumerate(COLUMNS)}
_KIND_PLACES = {code: _PLACE[column] for code, column in ERROR_KINDS.items()}


def sums_of(outcome: Outcome) -> list[int]:
    """What one request adds to each column, in the order of `COLUMNS`. `storage/figures.py` says the same in SQL."""
    usage, timings, cost = outcome.usage, outcome.timings, outcome.cost
    total_tokens = usage.total_tokens or 0
    is_unpriced = cost is None and total_tokens > 0
    own = not outcome.cached
    duration_ms = timings.duration_ms if own else None
    ttft_ms = timings.ttft_ms if own else None
    speed = outcome.speed_mtps if own else None
    failed = outcome.error_code is not None
    sums = [
        1,
        failed,
        0,
        0,
        0,
        0,
        outcome.status == CLIENT_LEFT,
        outcome.cached,
        usage.estimated,
        usage.prompt_tokens or 0,
        usage.response_tokens or 0,
        usage.cached_prompt_tokens or 0,
        total_tokens,
        cost.prompt_nusd if cost else 0,
        cost.response_nusd if cost else 0,
        cost.total_nusd if cost else 0,
        outcome.saved_nusd or 0,
        is_unpriced,
        total_tokens if is_unpriced else 0,
        duration_ms is not None,
        duration_ms or 0,
        speed is not None,
        speed or 0,
        ttft_ms is not None,
        ttft_ms or 0,
        0,
        0,
        0,
    ]
    if failed:
        place = _KIND_PLACES.get(outcome.error_code or "")
        if place is not None:
            sums[place] = 1
    return sums


def tpot_us(speed_mtps: int) -> int:
    """The time per output token in microseconds, of a speed in milli-tokens per second."""
    return 1_000_000_000 // speed_mtps if speed_mtps else 0


def rating_column(rating: int) -> str:
    """The column that counts a rating of -1, 0 or 1."""
    return ("rated_neutral", "rated_positive", "rated_negative")[rating]


MEASURES = ("duration_ms", "ttft_ms", "speed_mtps", "tpot_us")
"""What has percentiles: duration, time to first token, tokens per second, time per output token."""


def places_of(outcome: Outcome) -> list[int]:
    """Where one request is counted in histograms, by measure and bin. Answers from the cache are in none."""
    if outcome.cached:
        return []
    timings = outcome.timings
    return places(timings.duration_ms, timings.ttft_ms, outcome.speed_mtps)


def places(duration_ms: int | None, ttft_ms: int | None, speed_mtps: int | None) -> list[int]:
    """The same of the values themselves."""
    found: list[int] = []
    if duration_ms is not None:
        found.append(place_of(0, duration_ms))
    if ttft_ms is not None:
        found.append(place_of(1, ttft_ms))
    if speed_mtps is not None:
        found.append(place_of(2, speed_mtps))
        # The two say the same of one request, yet their percentiles differ: a mean of rates is no rate of means.
        found.append(place_of(3, tpot_us(speed_mtps)))
    return found


def scaled(amounts: Sequence[int], numerator: int, denominator: int) -> list[int]:
    """Each amount times `numerator / denominator`, such that they add up to their sum scaled and rounded half-even.

    Rounding each by itself would leave the parts a few units beside their total. Here each is rounded down, and the
    units that are missing go to those that lost most (the largest-remainder method). No argument is negative.
    """
    parts = [divmod(amount * numerator, denominator) for amount in amounts]
    missing = divide_half_even(sum(amounts) * numerator, denominator) - sum(whole for whole, _ in parts)
    by_loss = sorted(range(len(parts)), key=lambda place: -parts[place][1])
    raised = set(by_loss[:missing])
    return [whole + (place in raised) for place, (whole, _) in enumerate(parts)]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
