"""Cuts a window of time into whole rollup buckets and the broken edges that only the ledger can answer.

Sums can be taken away as well as added, so a boundary is rounded to the nearest bucket at every grain: of a window that
begins at five in the afternoon, the day counts whole and seventeen hours are taken away, or seven are added and the day
is left out, whichever is less. Beyond the first and the last request there is nothing, so there a boundary is rounded
outwards for free. Buckets above the finest grain hold what is folded: everything before `Extent.folded_until`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gemmapy.core.periods import Window

QUARTER_S = 900
HOUR_S = 3_600
DAY_S = 86_400
SPELL_S = 16 * DAY_S
"""For questions over months: sixteen days, counted from 1970."""
GRAINS = (QUARTER_S, HOUR_S, DAY_S, SPELL_S)


@dataclass(frozen=True, slots=True)
class Span:
    """Whole buckets of one grain, `start <= bucket < end` in seconds since 1970, to be added (1) or taken away (-1)."""

    grain: int
    start: int
    end: int
    sign: int = 1


@dataclass(frozen=True, slots=True)
class Edge:
    """A piece of time that the ledger answers, to be added (1) or taken away (-1)."""

    window: Window
    sign: int = 1


@dataclass(frozen=True, slots=True)
class Cut:
    """Pieces that add up to a window: every moment in it counts once, every other not at all."""

    spans: tuple[Span, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Extent:
    """Where requests lie, in seconds since 1970."""

    folded_until: int = 0
    """Coarse buckets hold what lies before; a whole hour."""
    first: int | None = None
    """A moment before which there is none; None: there is none at all."""
    last: int = 0
    """The bucket of the finest grain that the last one is in."""
    last_at: datetime | None = None
    """The last one's moment, where the ledger still has it."""


def cut(window: Window, grains: tuple[int, ...], known: Extent) -> Cut:
    """Cuts a window into buckets of the given grains, the finest first, with as few pieces as there can be.

    Moments count to the millisecond, as the ledger keeps them.
    """
    base = grains[0]
    if known.first is None or window.start >= window.end:
        return Cut((), ())
    start_is_free = window.start <= _at(known.first)
    end_is_free = window.end >= _at(known.last + QUARTER_S) or (
        known.last_at is not None and _at(known.last) <= known.last_at < window.end
    )
    first = known.first // base * base if start_is_free else _nearest(window.start, base)
    last = -(-(known.last + 1) // base) * base if end_is_free else _nearest(window.end, base)
    edges: list[Edge] = []
    if not start_is_free:
        edges += _edge(window.start, _at(first))
    if not end_is_free:
        edges += [Edge(edge.window, -edge.sign) for edge in _edge(window.end, _at(last))]
    broken = sum((edge.window.end - edge.window.start).total_seconds() for edge in edges)
    if first >= last or broken >= (window.end - window.start).total_seconds():
        return Cut((), (Edge(window),))
    spans: list[Span] = []
    fold = known.folded_until
    if first < fold:
        end = min(last, fold)
        spans += _cheapest(first, end, grains, fold, (start_is_free, end_is_free or end == fold))
    if last > fold:
        spans.append(Span(base, max(first, fold), last))
    return Cut(tuple(spans), tuple(edges))


def _edge(moment: datetime, boundary: datetime) -> list[Edge]:
    """What lies between a window's start and the boundary it was rounded to."""
    if moment < boundary:
        return [Edge(Window(moment, boundary))]
    return [Edge(Window(boundary, moment), -1)] if boundary < moment else []


def _cheapest(first: int, end: int, grains: tuple[int, ...], fold: int, free: tuple[bool, bool]) -> list[Span]:
    """Whole buckets of what is folded, between two boundaries of the finest grain; each may be free to move outwards.

    Tries each grain as the coarsest.
    """
    best: list[Span] = []
    least: int | None = None
    spans: list[Span] = []
    for place, grain in enumerate(grains):
        if place:
            finer = grains[place - 1]
            new_first = first // grain * grain if free[0] else _round(first, grain)
            new_end = -(-end // grain) * grain if free[1] else _round(end, grain)
            if not free[0]:
                spans += _between(finer, first, new_first, 1, fold)
            if not free[1]:
                spans += _between(finer, end, new_end, -1, fold)
            first, end = new_first, new_end
        whole = [*spans, *_between(grain, first, end, 1, fold)]
        count = sum((span.end - span.start) // span.grain for span in whole)
        if least is None or count <= least:
            best, least = whole, count
    return best


def _between(grain: int, start: int, end: int, sign: int, fold: int) -> list[Span]:
    """The buckets from `start` to `end`, with the other sign where that is backwards; none holds what is not folded."""
    if end < start:
        start, end, sign = end, start, -sign
    end = min(end, -(-fold // grain) * grain)
    return [Span(grain, start, end, sign)] if start < end else []


def _round(second: int, grain: int) -> int:
    return (second + grain // 2) // grain * grain


def _nearest(moment: datetime, grain: int) -> int:
    return _round(int(moment.timestamp()), grain)


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
