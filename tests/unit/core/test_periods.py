"""Periods, windows and buckets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.periods import PERIOD_DAYS, bucket_text, check_interval, days_of, last_days

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)


def test_a_window_ends_now_and_holds_whole_days() -> None:
    window = last_days(7, NOW)
    assert window.start == NOW - timedelta(days=7)
    assert window.start <= NOW < window.end


@pytest.mark.parametrize("days", [0, -1, 3661])
def test_days_out_of_range_are_refused_with_the_range(days: int) -> None:
    with pytest.raises(InvalidRequest, match=f"1 to 3660, got {days}"):
        last_days(days, NOW)


@pytest.mark.parametrize(
    ("moment", "interval", "text"),
    [
        (datetime(2026, 11, 23, 14, 59, tzinfo=UTC), "hour", "2026-11-23 14:00:00"),
        (datetime(2026, 11, 23, 14, 59, tzinfo=UTC), "day", "2026-11-23"),
        (datetime(2026, 11, 23, tzinfo=UTC), "week", "2026-W48"),
        (datetime(2027, 1, 1, tzinfo=UTC), "week", "2026-W53"),
        (datetime(2024, 12, 30, tzinfo=UTC), "week", "2025-W01"),
        (datetime(2026, 1, 4, tzinfo=UTC), "week", "2026-W01"),
    ],
)
def test_buckets_are_named_as_the_contract_names_them(moment: datetime, interval: str, text: str) -> None:
    assert bucket_text(moment, interval) == text


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="day, week, month, quarter, year; got 'decade'"):
        days_of("decade", PERIOD_DAYS)
    with pytest.raises(InvalidRequest, match="hour, day, week; got 'minute'"):
        check_interval("minute")
