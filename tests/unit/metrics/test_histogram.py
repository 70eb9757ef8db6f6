"""Percentiles are within 1 %, also of merged histograms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmapy.metrics.histogram import (
    NOTHING,
    add,
    bin_of,
    combined,
    counts_of,
    lanes_of,
    merge,
    merge_packed,
    pack,
    pack_lanes,
    percentiles,
    place_of,
    together,
    value_of,
)

VALUES = st.lists(st.integers(0, 10**12), min_size=1, max_size=300)


@given(st.integers(0, 10**15))
def test_a_bin_stands_for_its_values_within_1_percent(value: int) -> None:
    assert value_of(bin_of(value)) == pytest.approx(value, rel=0.01 + 1e-9)


@given(st.integers(0, 10**12))
def test_bins_are_in_the_order_of_their_values(value: int) -> None:
    assert bin_of(value) <= bin_of(value + 1)


@given(VALUES, VALUES, st.sampled_from([0, 0.5, 0.9, 0.95, 0.99, 1]))
def test_a_percentile_of_merged_histograms_is_that_of_all_values_within_1_percent(
    one: list[int], other: list[int], share: float
) -> None:
    packed = [pack(Counter(place_of(2, value) for value in values)) for values in (one, other)]
    exact = sorted(one + other)[int(share * (len(one) + len(other) - 1))]
    assert percentiles(merge(packed)[2], (share,)) == [pytest.approx(exact, rel=0.01 + 1e-9)]


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentiles(NOTHING[0], (0.5, 0.99)) == [None, None]
    assert merge([pack({})]) == merge([]) == NOTHING
    assert together([]) == NOTHING


PLACES = st.tuples(st.integers(0, 3), st.integers(0, 2200)).map(lambda pair: pair[0] << 12 | pair[1])
COUNTS = st.dictionaries(PLACES, st.integers(0, 10**6), max_size=80) | st.dictionaries(
    PLACES, st.integers(0, 255), max_size=12
)


def whole(counts: Mapping[int, int]) -> dict[int, int]:
    return {place: count for place, count in counts.items() if count}


@given(st.lists(COUNTS, max_size=8))
def test_packed_histograms_add_up_to_the_same_counts(many: list[dict[int, int]]) -> None:
    expected: Counter[int] = Counter()
    for counts in many:
        expected.update(counts)
    merged = merge(map(pack, many))
    assert counts_of(merged) == whole(expected)
    assert pack_lanes(merged) == merge_packed([pack(counts) for counts in many]) == pack(expected)
    assert together([lanes_of(counts) for counts in many]) == merged


@given(COUNTS, COUNTS)
def test_adding_to_a_packed_histogram_is_packing_both(one: dict[int, int], other: dict[int, int]) -> None:
    assert add(pack(one), other) == pack(Counter(one) + Counter(other))


@settings(deadline=None)
@given(COUNTS, COUNTS, COUNTS)
def test_what_is_taken_away_is_gone_in_whatever_order(
    one: dict[int, int], other: dict[int, int], third: dict[int, int]
) -> None:
    first = combined(combined(NOTHING, lanes_of(other), -1), merge([pack(one), pack(other)]))
    assert counts_of(combined(first, lanes_of(third))) == whole(Counter(one) + Counter(third))
