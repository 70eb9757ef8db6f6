"""A histogram as people look at it: some dozens of bars on a logarithmic scale, whose edges are round numbers.

The bins of `histogram.py` are 2 % wide, far too narrow to be drawn. Bars are made of whole bins, so each value is in
one bar, and one that lies within 1 % of an edge may be on its other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log10

from gemmapy.metrics.histogram import value_of

_FINE = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
_COARSE = (1.0, 1.6, 2.5, 4.0, 6.3)
"""Ten and five steps for each power of ten, of nearly equal ratio (the preferred numbers R10 and R5 of ISO 3)."""
MOST_FINE = 36


@dataclass(frozen=True, slots=True)
class Bar:
    """How many values lie above `low` and up to `high`. The first may begin at zero, and then holds zero, too."""

    low: float
    high: float
    count: int


def bars_of(bins: Mapping[int, int], unit: float = 1) -> list[Bar]:
    """The bars from the first that holds anything to the last, those between them included, in multiples of `unit`.

    Their counts add up to the counted values. Finer where they are at most `MOST_FINE` then, coarser otherwise.
    """
    counted = {value_of(number) / unit: count for number, count in bins.items() if count > 0}
    if not counted:
        return []
    fine = _bars(counted, _FINE)
    return fine if len(fine) <= MOST_FINE else _bars(counted, _COARSE)


def _bars(counted: Mapping[float, int], steps: tuple[float, ...]) -> list[Bar]:
    places: dict[int, int] = {}
    for value, count in counted.items():
        if value > 0:
            place = _place(value, steps)
            places[place] = places.get(place, 0) + count
    zeros = counted.get(0.0, 0)
    if not places:
        return [Bar(0.0, _edge(0, steps), zeros)]
    first, last = min(places), max(places)
    found = [
        Bar(_edge(place, steps), _edge(place + 1, steps), places.get(place, 0)) for place in range(first, last + 1)
    ]
    if zeros:
        # A scale of ratios never reaches zero: what is zero has the bar before all others.
        found.insert(0, Bar(0.0, found[0].low, zeros))
    return found


def _place(value: float, steps: tuple[float, ...]) -> int:
    """The number of the bar that holds a positive value: `len(steps)` of them for each power of ten."""
    decade = floor(log10(value))
    place = decade * len(steps) + sum(step * 10.0**decade <= value for step in steps) - 1
    # Where the logarithm rounds over a power of ten, or the value is an edge, which belongs to the bar below it.
    while _edge(place, steps) >= value:
        place -= 1
    while _edge(place + 1, steps) < value:
        place += 1
    return place


def _edge(place: int, steps: tuple[float, ...]) -> float:
    decade, step = divmod(place, len(steps))
    return float(f"{steps[step]}e{decade}")
