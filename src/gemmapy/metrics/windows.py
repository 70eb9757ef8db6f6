"""Cuts a window of time into whole rollup buckets and the broken edges that only the ledger can answer.

Sixteen whole UTC days come from one bucket, whole days from day buckets, the rest from quarter-hours (which every time
zone's hours and days are made of), and what is left at both ends, less than a quarter of an hour each, from the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gemmapy.core.periods import Window

QUARTER_S = 900
DAY_S = 86_400
SPELL_S = 16 * DAY_S
"""For questions over months: sixteen days, counted from 1970."""
GRAINS = (QUARTER_S, DAY_S, SPELL_S)
QUARTERS_ONLY = (QUARTER_S,)


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


def cut(window: Window, grains: tuple[int, ...] = GRAINS) -> Cut:
    """Cuts a window into buckets of the given grains, as large ones as fit.

    Moments count to the millisecond, as the ledger keeps them.
    """
    first = -(-_seconds_up(window.start) // QUARTER_S) * QUARTER_S
    last = int(window.end.timestamp()) // QUARTER_S * QUARTER_S
    if first >= last:
        return Cut((), (window,) if window.start < window.end else ())
    spans: list[Span] = []
    rest = [(first, last)]
    for grain in sorted(grains, reverse=True):
        smaller: list[tuple[int, int]] = []
        for start, end in rest:
            whole_start, whole_end = -(-start // grain) * grain, end // grain * grain
            if whole_start < whole_end:
                spans.append(Span(grain, whole_start, whole_end))
                smaller += [(start, whole_start), (whole_end, end)]
            else:
                smaller.append((start, end))
        rest = [(start, end) for start, end in smaller if start < end]
    ends = ((window.start, _at(first)), (_at(last), window.end))
    return Cut(tuple(spans), tuple(Window(start, end) for start, end in ends if start < end))


def _seconds_up(moment: datetime) -> int:
    seconds = int(moment.timestamp())
    return seconds + (1 if moment.microsecond >= 1000 else 0)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
