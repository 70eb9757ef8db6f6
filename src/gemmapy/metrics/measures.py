"""Sums that can be added to each other, and the measures that are computed of them.

An average is over the rows that have the value and were not answered from the cache; of no rows it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from gemmapy.core.money import divide_half_even


@dataclass(frozen=True, slots=True)
class Sums:
    """Additive columns over any set of requests."""

    requests: int = 0
    errors: int = 0
    cache_hits: int = 0
    total_tokens: int = 0
    timed: int = 0
    """Requests that have a duration and did not come from the cache; `duration_ms` is their sum."""
    duration_ms: int = 0
    paced: int = 0
    """Requests that have a speed; `speed_mtps` is the sum of their milli-tokens per second."""
    speed_mtps: int = 0
    rated_positive: int = 0
    rated_negative: int = 0
    unpriced_requests: int = 0
    unpriced_tokens: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def avg_duration(self) -> float:
        """Milliseconds."""
        return _ratio(self.duration_ms, self.timed)

    @property
    def avg_tokens_per_sec(self) -> float:
        return _ratio(self.speed_mtps, self.paced) / 1000

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


@dataclass(frozen=True, slots=True)
class Spending:
    """What a set of requests cost, in nano-USD. Those without a price are counted apart, not as zero."""

    requests: int = 0
    prompt_tokens: int = 0
    response_tokens: int = 0
    prompt_nusd: int = 0
    response_nusd: int = 0
    total_nusd: int = 0
    unpriced_requests: int = 0
    unpriced_tokens: int = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


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
