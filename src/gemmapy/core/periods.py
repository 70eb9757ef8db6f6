"""Periods and windows: what `days=7`, `period=month` and `interval=hour` mean."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from gemmapy.core.errors import InvalidRequest

PERIOD_DAYS = {"day": 1, "week": 7, "month": 30, "quarter": 90, "year": 365}
PROJECTION_DAYS = {"week": 7, "month": 30, "quarter": 90}
INTERVALS = ("hour", "day", "week")
MAX_DAYS = 3660


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of time: `start <= created_at < end`, aware UTC."""

    start: datetime
    end: datetime


def last_days(days: int, now: datetime) -> Window:
    """The sliding window of `days` times 24 hours that ends now.

    The end lies a second ahead, so that a row which another process stamps while we look is not missed.
    Raises InvalidRequest outside of 1 to 3660 days.
    """
    if not 1 <= days <= MAX_DAYS:
        raise InvalidRequest(f"days must be a whole number from 1 to {MAX_DAYS}, got {days}.")
    return Window(now - timedelta(days=days), now + timedelta(seconds=1))


def days_of(period: str, allowed: dict[str, int]) -> int:
    """The number of days in a named period. Raises InvalidRequest that lists the allowed names."""
    if period not in allowed:
        raise InvalidRequest(f"period must be one of {', '.join(allowed)}; got {period[:40]!r}.")
    return allowed[period]


def check_interval(interval: str) -> str:
    """`interval` itself. Raises InvalidRequest that lists the allowed names."""
    if interval not in INTERVALS:
        raise InvalidRequest(f"interval must be one of {', '.join(INTERVALS)}; got {interval[:40]!r}.")
    return interval


def bucket_text(moment: datetime, interval: str) -> str:
    """The name of the bucket that holds `moment`: `2026-11-23 14:00:00`, `2026-11-23`, `2026-W48` (ISO 8601 week)."""
    if interval == "hour":
        return moment.strftime("%Y-%m-%d %H:00:00")
    if interval == "day":
        return moment.strftime("%Y-%m-%d")
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02d}"
