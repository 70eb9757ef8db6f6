"""Cuts a window of time into whole rollup buckets and the broken edges that only the ledger can answer.

Whole UTC days come from day buckets, the rest from quarter-hours (which every time zone's hours and days are made of),
and what is left at both ends, less than a quarter of an hour each, from the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gemmapy.core.periods import Window

QUARTER_S = 900
DAY_S = 86_400
GRAINS = (QUARTER_S, DAY_S)


@dataclass(frozen=True, slots=True)
class Span:
    """Whole buckets of one grain: `start <= bucket < end`, in seconds since 1970."""

    grain: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A window in pieces that do not overlap and leave nothing out."""

    spans: tuple[Span, ...]
    edges: tuple[Window, ...]


def cut(window: Window, *, days: bool = True) -> Cut:
    """Cuts a window; without `days` everything whole is in quarter-hours, for series finer than a UTC day.

    Moments count to the millisecond, as the ledger keeps them.
    """
    first = -(-_seconds_up(window.start) // QUARTER_S) * QUARTER_S
    last = int(window.end.timestamp()) // QUARTER_S * QUARTER_S
    if first >= last:
        return Cut((), (window,) if window.start < window.end else ())
    edges = tuple(
        Window(start, end) for start, end in ((window.start, _at(first)), (_at(last), window.end)) if start < end
    )
    day_first, day_last = -(-first // DAY_S) * DAY_S, last // DAY_S * DAY_S
    if not days or day_first >= day_last:
        return Cut((Span(QUARTER_S, first, last),), edges)
    spans = (
        Span(QUARTER_S, first, day_first),
        Span(DAY_S, day_first, day_last),
        Span(QUARTER_S, day_last, last),
    )
    return Cut(tuple(span for span in spans if span.start < span.end), edges)


def _seconds_up(moment: datetime) -> int:
    seconds = int(moment.timestamp())
    return seconds + (1 if moment.microsecond >= 1000 else 0)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
