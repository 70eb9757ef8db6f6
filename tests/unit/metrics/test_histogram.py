"""Percentiles are within 1 %, also of merged histograms."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.metrics.histogram import add, bin_of, merge, pack, percentile, value_of

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
    merged = Counter(map(bin_of, one)) + Counter(map(bin_of, other))
    exact = sorted(one + other)[int(share * (len(one) + len(other) - 1))]
    assert percentile(merged, share) == pytest.approx(exact, rel=0.01 + 1e-9)


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({3: 0}, 0.5) is None


BINS = st.dictionaries(st.integers(-1, 1700), st.integers(0, 10**6), max_size=40)


@given(st.lists(BINS, max_size=8))
def test_packed_histograms_add_up_to_the_same_counts(many: list[dict[int, int]]) -> None:
    expected: Counter[int] = Counter()
    for bins in many:
        expected.update(bins)
    assert merge(map(pack, many)) == {number: count for number, count in expected.items() if count}


COUNTS = st.dictionaries(st.integers(-1, 1700), st.integers(1, 10**6), max_size=60)


@given(COUNTS, COUNTS)
def test_adding_to_a_packed_histogram_is_packing_both(one: dict[int, int], other: dict[int, int]) -> None:
    assert add(pack(one), other) == pack(Counter(one) + Counter(other))
