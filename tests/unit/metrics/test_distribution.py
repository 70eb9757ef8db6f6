"""Bars hold every value once, where it belongs, between round numbers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.metrics.distribution import MOST_FINE, Bar, bars_of
from gemmapy.metrics.histogram import bin_of

VALUES = st.lists(st.integers(0, 10**10), min_size=1, max_size=200)


@given(VALUES, st.sampled_from([1, 1000]))
def test_every_value_is_in_one_bar_within_1_percent_of_its_edges(values: list[int], unit: int) -> None:
    bars = bars_of(Counter(map(bin_of, values)), unit)
    assert sum(bar.count for bar in bars) == len(values)
    left = Counter({place: bar.count for place, bar in enumerate(bars)})
    for value in sorted(values):
        place = next(place for place, count in left.items() if count > 0)  # in order, as bars and values are
        left[place] -= 1
        low, high = bars[place].low * unit, bars[place].high * unit
        assert low * 0.98 <= value <= high * 1.02


@given(VALUES)
def test_bars_touch_each_other_and_end_where_the_values_do(values: list[int]) -> None:
    bars = bars_of(Counter(map(bin_of, values)))
    assert [bar.high for bar in bars[:-1]] == [bar.low for bar in bars[1:]]
    assert bars[0].count > 0
    assert bars[-1].count > 0
    assert all(bar.low < bar.high for bar in bars)


def test_edges_are_round_numbers() -> None:
    bars = bars_of({bin_of(130): 2, bin_of(190): 1, bin_of(900): 4})
    assert bars == [
        Bar(125, 160, 2),
        Bar(160, 200, 1),
        *(Bar(low, high, 0) for low, high in ((200, 250), (250, 315), (315, 400), (400, 500), (500, 630), (630, 800))),
        Bar(800, 1000, 4),
    ]


def test_a_range_of_many_powers_of_ten_has_fewer_bars_for_each() -> None:
    bars = bars_of({bin_of(1): 1, bin_of(10**9): 1})
    assert MOST_FINE < len(bars) <= 48
    assert (bars[1].low, bars[1].high) == (1.0, 1.6)


@pytest.mark.parametrize(("bins", "expected"), [({}, []), ({5: 0}, []), ({-1: 3}, [Bar(0, 1, 3)])])
def test_nothing_has_no_bars_and_zeros_have_one(bins: dict[int, int], expected: list[Bar]) -> None:
    assert bars_of(bins) == expected


def test_zeros_stand_before_the_first_bar() -> None:
    assert bars_of({-1: 3, bin_of(105): 1}) == [Bar(0, 100, 3), Bar(100, 125, 1)]
