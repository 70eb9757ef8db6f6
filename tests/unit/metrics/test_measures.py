"""Formulas over sums: null-safe, additive, and exact where they share something out."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.metrics.measures import Sums, scaled

counts = st.integers(0, 10**12)
some_sums = st.tuples(*(counts for _ in Sums._fields)).map(lambda values: Sums(*values))
amounts = st.lists(st.integers(0, 10**15), max_size=20)

MEASURES = ("avg_duration", "avg_tokens_per_sec", "error_rate", "cache_hit_rate", "satisfaction_rate")


@pytest.mark.parametrize("measure", MEASURES)
def test_of_nothing_every_measure_is_zero(measure: str) -> None:
    assert getattr(Sums(), measure) == 0


@given(some_sums)
def test_no_measure_is_ever_nan_or_infinite(sums: Sums) -> None:
    assert all(math.isfinite(getattr(sums, measure)) for measure in MEASURES)


def test_rates_and_averages_are_part_over_whole() -> None:
    sums = Sums(
        requests=150,
        errors=3,
        cache_hits=45,
        timed=100,
        duration_ms=123_450,
        paced=50,
        speed_mtps=50 * 45_200,
        rated_positive=80,
        rated_negative=5,
    )
    assert (sums.error_rate, sums.cache_hit_rate) == (3 / 150, 45 / 150)
    assert (sums.avg_duration, sums.avg_tokens_per_sec) == (1234.5, 45.2)
    assert (sums.total_rated, sums.satisfaction_rate) == (80 + 5, 80 / 85)


@given(some_sums, some_sums)
def test_sums_add_up_column_by_column(one: Sums, other: Sums) -> None:
    assert tuple(one + other) == tuple(a + b for a, b in zip(one, other, strict=True))
    assert one + Sums() == one
    assert (one + other).less(other) == one


def test_spending_adds_up_column_by_column() -> None:
    one, other = Sums(1, 2, 3, 4, 5, 6, 7, 8), Sums(10, 20, 30, 40, 50, 60, 70, 80)
    assert one + other == Sums(11, 22, 33, 44, 55, 66, 77, 88)


def test_what_is_shared_out_rounds_once_and_not_in_each_part() -> None:
    assert scaled([1, 1, 1], 1, 2) == [1, 1, 0]  # 1.5 is 2 by half-even; each half by itself would be 0
    assert scaled([10, 20], 30, 7) == [43, 86]  # 42.86 and 85.71 are 128.57 together
    assert scaled([], 30, 7) == []


@given(amounts, st.integers(0, 100), st.integers(1, 100))
def test_shares_add_up_to_the_total_and_none_is_a_unit_off(
    amounts: list[int], numerator: int, denominator: int
) -> None:
    shares = scaled(amounts, numerator, denominator)
    assert sum(shares) == round(Fraction(sum(amounts) * numerator, denominator))  # Fraction rounds half-even
    for amount, share in zip(amounts, shares, strict=True):
        assert abs(share - Fraction(amount * numerator, denominator)) < 1
