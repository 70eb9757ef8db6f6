"""When it is tried again, and after how long."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.gateway.retrying import RetryPolicy, retry_after_s

POLICY = RetryPolicy(first_wait_s=0.5, longest_wait_s=4)
NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)


@given(st.integers(1, 30), st.floats(0, 1))
def test_a_wait_is_any_part_of_twice_as_long_each_time_and_never_more_than_the_longest(n: int, chance: float) -> None:
    wait = POLICY.wait_s(n, None, chance)
    assert wait == pytest.approx(chance * min(4, 0.5 * 2 ** (n - 1)))
    assert wait is not None
    assert 0 <= wait <= 4


def test_what_the_upstream_asks_for_is_the_least_and_too_long_is_not_waited_for() -> None:
    assert POLICY.wait_s(1, 3, 0) == 3
    assert POLICY.wait_s(1, 3, 1) == 3.5  # not all at the same moment
    assert POLICY.wait_s(1, 4.5, 0) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("0", 0),
        ("7", 7),
        ("Wed, 25 Nov 2026 10:00:05 GMT", 5),
        ("Wed, 25 Nov 2026 09:00:00 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == seconds
