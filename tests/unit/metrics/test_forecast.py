"""The forecast: weekdays, trust, and no surprises at the edges."""

from __future__ import annotations

import random
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.metrics.forecast import forecast, remaining_in_month

DAY = 1_000_000
MONDAY, FRIDAY, SATURDAY = 0, 4, 5


def test_without_a_history_nothing_is_promised() -> None:
    made = forecast([], MONDAY, 10, 7 * DAY)
    assert (made.expected_nusd, made.low_nusd, made.high_nusd) == (7 * DAY, 7 * DAY, 7 * DAY)
    assert (made.method, made.coverage) == ("no history", None)


def test_a_month_that_is_over_costs_what_it_cost() -> None:
    assert forecast([DAY] * 30, MONDAY, 0, 5 * DAY).expected_nusd == 5 * DAY


def test_constant_use_goes_on_and_the_interval_is_tight() -> None:
    made = forecast([DAY] * 60, MONDAY, 10, 20 * DAY)
    assert made.expected_nusd == pytest.approx(30 * DAY, rel=1e-6)
    assert made.high_nusd - made.low_nusd <= 2
    assert made.method == "weekday pattern"
    assert made.coverage == 1


def test_who_works_on_weekdays_pays_little_at_weekends() -> None:
    history = [DAY if place % 7 < SATURDAY else 0 for place in range(70)]
    weekend = forecast(history, MONDAY, 7, 0).expected_nusd - forecast(history, MONDAY, 5, 0).expected_nusd
    assert forecast(history, MONDAY, 5, 0).expected_nusd == pytest.approx(5 * DAY, rel=0.1)
    assert weekend < 0.4 * DAY


def test_a_level_that_has_changed_is_followed() -> None:
    made = forecast([DAY] * 60 + [3 * DAY] * 42, MONDAY, 10, 0)
    assert made.expected_nusd == pytest.approx(30 * DAY, rel=0.25)


def test_one_day_of_much_does_not_become_every_day() -> None:
    history = [DAY] * 60
    history[50] = 100 * DAY
    assert forecast(history, MONDAY, 10, 0).expected_nusd < 60 * DAY


def test_one_day_of_history_is_an_average_with_a_wide_interval() -> None:
    made = forecast([DAY], MONDAY, 9, DAY)
    assert made.expected_nusd == 10 * DAY
    assert made.high_nusd > 15 * DAY
    assert made.low_nusd == DAY
    assert made.method == "daily average"


@given(
    st.lists(st.integers(0, 10**12), max_size=150),
    st.integers(0, 6),
    st.integers(0, 31),
    st.integers(0, 10**12),
)
def test_the_bounds_are_in_order_and_nothing_spent_is_taken_back(
    history: list[int], weekday: int, remaining: int, spent: int
) -> None:
    made = forecast(history, weekday, remaining, spent)
    assert spent <= made.low_nusd <= made.expected_nusd <= made.high_nusd
    assert made.coverage is None or 0 <= made.coverage <= 1


def test_the_interval_holds_about_as_often_as_it_says() -> None:
    chance = random.Random(11)
    held = 0
    for _ in range(150):
        pattern = [chance.uniform(0.5, 2) for _ in range(7)]
        days = [int(DAY * pattern[place % 7] * chance.lognormvariate(0, 0.4)) for place in range(110)]
        made = forecast(days[:100], MONDAY, 10, 0)
        held += made.low_nusd <= sum(days[100:]) <= made.high_nusd
    assert 0.68 <= held / 150 <= 0.95


@pytest.mark.parametrize(
    ("today", "days"),
    [(date(2026, 11, 24), 7), (date(2026, 12, 1), 31), (date(2026, 12, 31), 1), (date(2028, 2, 1), 29)],
)
def test_what_is_left_of_a_month(today: date, days: int) -> None:
    assert remaining_in_month(today) == days
