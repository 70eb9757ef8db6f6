"""The clock is set back, or ahead and back: nothing is lost, nothing is negative, and what is final stays so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.core.periods import Window
from gemmapy.metering.audit import Audit, audit
from gemmapy.metering.retention import retire
from gemmapy.metering.statements import close_month, find
from gemmapy.storage import people
from gemmapy.storage.store import Store


def _record(store: Store, tokens: int = 1000) -> int:
    return MetricsCollector(store).record(1, "llama3", "/x", prompt_tokens=tokens, duration_ms=5)


def test_a_request_of_a_clock_that_was_set_back_into_a_retired_day_is_counted_after_it(
    store: Store, clock: FixedClock
) -> None:
    _record(store)
    clock.go_on(days=5)
    assert [day.requests for day in retire(store, 2)] == [1, 0, 0]
    clock.step(days=-4)  # a machine without a battery, until it has asked for the time
    metric_id = _record(store)
    assert list(audit(store, Audit())) == []
    entry = MetricsCollector(store).get_request(metric_id)
    assert entry["created_at"] == datetime(2026, 11, 27, tzinfo=UTC)
    clock.step(days=4)
    assert MetricsCollector(store).get_dashboard_stats(days=30)["total_requests"] == 2


def test_a_request_of_a_clock_that_was_set_back_into_a_closed_month_is_billed_in_the_next(
    store: Store, clock: FixedClock
) -> None:
    _record(store, 1000)
    clock.go_on(days=8)
    november = close_month(store, "2026-11")
    clock.step(days=-6)
    _record(store, 3000)
    clock.step(days=40)
    december = close_month(store, "2026-12")
    billed = [find(store, month["statements"][0]["number"])["prompt_tokens"] for month in (november, december)]
    assert billed == [1000, 3000]
    assert list(audit(store, Audit())) == []


@pytest.fixture(scope="module")
def ever(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, FixedClock]:
    clock = FixedClock()
    store = Store.open(tmp_path_factory.mktemp("ever") / "data", clock)
    store.write(lambda c: people.create_user(c, "ada", None, is_admin=True, now=clock.now()))
    _record(store)  # and the prices that come with GemmaPy are in force
    clock.go_on(days=30)  # set back before a price's moment, a request has none, which is another story
    return store, clock


@settings(max_examples=8, deadline=None)
@given(steps=st.lists(st.integers(-200_000, 200_000), min_size=1, max_size=6))
def test_whatever_the_clock_does_every_request_is_in_every_sum(
    ever: tuple[Store, FixedClock], steps: list[int]
) -> None:
    store, clock = ever
    everything = Window(clock.now() - timedelta(days=100), clock.now() + timedelta(days=100))
    collector, calculator = MetricsCollector(store), CostCalculator(store)
    before = collector.get_dashboard_stats(window=everything)
    spent = calculator.get_user_costs(1, window=everything)["total_cost"]
    for seconds in steps:
        clock.step(seconds=seconds)
        _record(store)
    clock.step(seconds=-sum(steps))
    after = collector.get_dashboard_stats(window=everything)
    assert after["total_requests"] - before["total_requests"] == len(steps)
    assert after["total_tokens"] - before["total_tokens"] == 1000 * len(steps)
    assert after["avg_duration"] == 5
    cost = calculator.get_user_costs(1, window=everything)["total_cost"] - spent
    assert round(cost * 1e9) == 1000 * 150 * len(steps)
    assert list(audit(store, Audit())) == []
