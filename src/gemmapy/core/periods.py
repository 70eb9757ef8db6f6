"""Periods and windows: what `days=7`, `period=month` and `interval=hour` mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gemmapy.core.errors import InvalidRequest

PERIOD_DAYS = {"day": 1, "week": 7, "month": 30, "quarter": 90, "year": 365}
PROJECTION_DAYS = {"week": 7, "month": 30, "quarter": 90}
INTERVALS = ("hour", "day", "week")
MAX_DAYS = 3660
_FIRST, _LAST = datetime(1970, 1, 1), datetime(9998, 12, 31)  # noqa: DTZ001 - days, in whatever zone


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


def between(start: datetime, end: datetime) -> Window:
    """The window from `start` up to `end`, both aware. Raises InvalidRequest where it is empty or over ten years."""
    if start.tzinfo is None or end.tzinfo is None:
        raise InvalidRequest("from and to must have a time zone, as in 2026-11-01T00:00:00Z.")
    check_moment(start)
    check_moment(end)
    if not start < end:
        raise InvalidRequest(f"from must be before to, got {start.isoformat()} and {end.isoformat()}.")
    if end - start > timedelta(days=MAX_DAYS):
        raise InvalidRequest(f"from and to may be at most {MAX_DAYS} days apart.")
    return Window(start.astimezone(UTC), end.astimezone(UTC))


def check_moment(moment: datetime) -> datetime:
    """`moment` itself. Raises InvalidRequest before 1970 and after 9998, where sums with it can leave the calendar."""
    if _FIRST <= moment.replace(tzinfo=None) <= _LAST:
        return moment
    raise InvalidRequest(f"A moment must lie in the years 1970 to 9998, got {moment.isoformat()}.")


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


def time_zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database. Raises InvalidRequest that shows what a name looks like."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest(f"tz must be a time zone such as Europe/Berlin, got {name[:60]!r}.") from None


def has_whole_hours(zone: tzinfo, window: Window) -> bool:
    """Whether a zone's clocks differ from UTC by whole hours all through a window."""
    moments = [window.start, window.end]
    while moments[-2] + timedelta(days=7) < window.end:  # no zone keeps a time for less than some weeks
        moments.insert(-1, moments[-2] + timedelta(days=7))
    offsets = (moment.astimezone(zone).utcoffset() for moment in moments)
    return all(offset is not None and not offset % timedelta(hours=1) for offset in offsets)


def bucket_start(moment: datetime, interval: str, zone: tzinfo) -> datetime:
    """The first moment, in `zone`, of the hour, day or ISO week that holds `moment`."""
    local = moment.astimezone(zone)
    if interval == "hour":
        return local.replace(minute=0, second=0, microsecond=0)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return day if interval == "day" else day - timedelta(days=day.weekday())


def bucket_starts(window: Window, interval: str, zone: tzinfo) -> Iterator[datetime]:
    """The first moment of every bucket that the window touches, each once, in order.

    Steps by quarters of an hour, which every zone's hours and days begin at, so that days of 23 and 25 hours come out
    right. Raises InvalidRequest for more than a year of hours.
    """
    if interval == "hour" and window.end - window.start > timedelta(days=366):
        raise InvalidRequest("A series that is filled by the hour may span at most 366 days.")
    moment, last = window.start, None
    while moment < window.end:
        start = bucket_start(moment, interval, zone)
        if last is None or start.astimezone(UTC) != last.astimezone(UTC):
            yield start
            last = start
        moment += timedelta(minutes=15)
