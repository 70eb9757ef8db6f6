"""Whether to try again, and after how long: pure rules, and the counters that say how it went.

Only what is safe to repeat is repeated, and only while nothing has been sent to the client: an upstream that could not
be reached, that hung up before it began to answer, or that said 429, 502, 503 or 504. After a time-out an engine may
still be at work, so that is repeated only where the operator says so; a 500 is never, since it may be the question's
own fault, but another model may take it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

REPEATED = frozenset({429, 502, 503, 504})
FAILED = frozenset({502, 504})
"""Statuses that speak against the upstream itself. 429 and 503 say that it is busy, 500 may be the question's fault."""
LONGEST_REST_S = 60


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What the operator allows."""

    retries: int = 2
    """Further attempts with the same model."""
    first_wait_s: float = 0.25
    longest_wait_s: float = 5
    total_s: float = 30
    """After so long since the request was read, no other attempt begins."""
    timeouts: bool = False
    """Whether a time-out is followed by another attempt."""

    def wait_s(self, number: int, asked_for_s: float | None, chance: float) -> float | None:
        """How long to wait before retry `number` (1 is the first); None where the upstream wants longer than we may.

        Exponential with full jitter: `chance` (0 to 1) of twice as long each time, so that many that failed together do
        not come back together. `asked_for_s` is the upstream's `Retry-After`, which is a minimum.
        """
        if asked_for_s is not None:
            return asked_for_s + chance * self.first_wait_s if asked_for_s <= self.longest_wait_s else None
        return chance * min(self.longest_wait_s, self.first_wait_s * 2 ** (number - 1))


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Reads `Retry-After`: seconds, or a date; None where it says neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now).total_seconds())


@dataclass(slots=True)
class RetryStats:
    """How it went since the start."""

    requests: int = 0
    """That were sent to an upstream."""
    attempts: int = 0
    retries: int = 0
    """Attempts with the same model after a failure."""
    fallbacks: int = 0
    """Times that another model took over."""
    recovered: int = 0
    """Requests that were answered after a retry or by another model."""
    exhausted: int = 0
    """Requests that failed after a retry or with another model too."""
