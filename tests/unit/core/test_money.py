"""Money: exact in, exact out, and clear about what is none."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import MOST_PRICE_USD, divide_half_even, parse_price, parse_usd, usd, usd_or_none
from gemmapy.core.records import Usage
from gemmapy.gateway.tally import MOST_TOKENS
from gemmapy.pricing.book import Price, cost_of


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


def test_the_dearest_request_there_can_be_has_a_cost_that_fits() -> None:
    dearest = parse_price(MOST_PRICE_USD, "input_cost")
    now = datetime(2026, 11, 24, tzinfo=UTC)
    price = Price(1, "m", dearest, dearest, now, request_nusd=dearest, compute_nusd_per_second=dearest)
    cost = cost_of(price, Usage(MOST_TOKENS, MOST_TOKENS), compute_ms=30 * 86_400 * 1000)
    assert 0 < cost.total_nusd < 2**63
    for amount in (MOST_PRICE_USD + 1, "1000.000000001"):
        with pytest.raises(InvalidRequest, match="at most 1000 dollars"):
            parse_price(amount, "input_cost")
