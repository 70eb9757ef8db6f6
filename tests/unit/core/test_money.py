"""Money: exact in, exact out, and clear about what is none."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import divide_half_even, parse_usd, usd, usd_or_none


@pytest.mark.parametrize(
    ("amount", "nusd"),
    [(0, 0), (1, 10**9), (0.00015, 150_000), ("0.000000001", 1), (Decimal("2.5"), 2_500_000_000), ("1e-4", 100_000)],
)
def test_dollars_become_nano_dollars(amount: Any, nusd: int) -> None:
    assert parse_usd(amount, "x") == nusd


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        (-1, "zero or more"),
        ("0.0000000001", "at most 9 decimals"),
        ("abc", "a number of dollars"),
        (True, "got bool"),
        (None, "got NoneType"),
        (float("nan"), "zero or more"),
        (float("inf"), "zero or more"),
        ("1e30", "at most"),
        ("0.1234567890123456789012345678901", "at most 25 characters"),
        ("9" * 5000, "at most"),
    ],
)
def test_what_is_no_price_is_refused_by_name(amount: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input_cost.*{says}"):
        parse_usd(amount, "input_cost")


@given(st.integers(0, 10**15))
def test_a_sum_survives_the_edge(nusd: int) -> None:
    assert parse_usd(usd(nusd), "x") == nusd


def test_unpriced_stays_unknown() -> None:
    assert usd_or_none(None) is None


@given(st.integers(0, 10**18), st.integers(1, 10**6))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    with_decimal = (Decimal(numerator) / Decimal(denominator)).quantize(Decimal(1), ROUND_HALF_EVEN)
    if numerator < 10**15:  # past that, Decimal's own precision of 28 digits rounds first
        assert divide_half_even(numerator, denominator) == int(with_decimal)
    assert abs(divide_half_even(numerator, denominator) * denominator - numerator) * 2 <= denominator
