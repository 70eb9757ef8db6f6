"""Old days leave the ledger; what they added up to stays, and stays right."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.core.errors import Conflict, InvalidRequest
from gemmapy.core.periods import Window
from gemmapy.metering.audit import Audit, audit
from gemmapy.metering.reprice import Repricer, Repricing
from gemmapy.metering.retention import due, retire, state
from gemmapy.metering.statements import close_month
from gemmapy.storage import recount, retention
from gemmapy.storage.figures import Filter
from gemmapy.storage.store import Store


@pytest.fixture
def used(store: Store, clock: FixedClock) -> MetricsCollector:
    """Forty requests over ten days, which end at 2026-12-04 10:00."""
    collector = MetricsCollector(store)
    for number in range(40):
        collector.record(
            1 + number % 2, "llama3", "/x", prompt_tokens=100 + number, response_tokens=10, duration_ms=50 + number
        )
        clock.go_on(hours=6)
    return collector


def test_what_retires_is_gone_from_the_ledger_and_in_every_figure(
    used: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    before = (used.get_dashboard_stats(days=30), CostCalculator(store).get_all_users_costs("month"))
    retired = list(retire(store, 3))
    assert [day.day for day in retired] == [f"2026-11-{day}" for day in range(24, 31)]
    assert sum(day.requests for day in retired) == 27
    with store.read() as connection:
        left = connection.exec_driver_sql("SELECT count(*), min(created_at) FROM llm_metrics").one()
    assert tuple(left) == (40 - 27, "2026-12-01 04:00:00.000")
    after = (used.get_dashboard_stats(days=30), CostCalculator(store).get_all_users_costs("month"))
    assert after == before
    assert list(audit(store, Audit())) == []
    assert list(retire(store, 3)) == []


def test_a_window_that_breaks_a_retired_quarter_snaps_and_says_so(
    used: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    list(retire(store, 3))
    start = clock.now() - timedelta(days=9, minutes=5)  # 2026-11-25 09:55
    stats = used.get_dashboard_stats(window=Window(start, start + timedelta(minutes=6)))
    assert stats["window"] == {
        "from": "2026-11-25T09:45:00+00:00",
        "to": "2026-11-25T10:15:00+00:00",
        "snapped": True,
    }
    assert stats["total_requests"] == 1
    whole = used.get_dashboard_stats(window=Window(clock.now() - timedelta(days=2), clock.now()))
    assert not whole["window"]["snapped"]


def test_everyones_costs_of_a_retired_day_are_those_of_the_window_that_they_name(
    used: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    list(retire(store, 3))
    start = clock.now() - timedelta(days=9) + timedelta(minutes=20)  # 2026-11-25 10:20, of a request at 10:00
    costs = CostCalculator(store).get_all_users_costs(window=Window(start, start + timedelta(days=1)))
    assert (costs["window"]["from"], costs["window"]["to"]) == (
        "2026-11-25T10:00:00+00:00",
        "2026-11-26T11:00:00+00:00",
    )
    assert sum(line["request_count"] for user in costs["users"] for line in user["breakdown"]) == 5


def test_what_only_the_ledger_knows_begins_where_it_does(
    used: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    list(retire(store, 3))
    stats = used.get_dashboard_stats(days=30, which=Filter(status=200))
    assert (stats["window"]["from"], stats["window"]["snapped"]) == ("2026-12-01T00:00:00+00:00", True)
    assert stats["total_requests"] == 13


def test_a_retired_request_can_be_neither_rated_nor_priced_anew(
    used: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    old, new = used.get_request(1)["request_id"], used.get_request(40)["request_id"]
    list(retire(store, 3))
    with pytest.raises(Conflict, match="retired"):
        used.update_rating(1, 1)
    used.update_rating(40, 1)
    used.update_rating(new, -1)
    assert old != new
    with pytest.raises(Conflict, match="2026-12-01"):
        Repricer(store).preview(Repricing(Window(clock.now() - timedelta(days=30), clock.now())))


def test_a_day_that_does_not_add_up_does_not_retire(used: MetricsCollector, store: Store) -> None:
    store.write(lambda c: c.exec_driver_sql("UPDATE rollup_totals SET total_nusd = total_nusd + 1"))
    with pytest.raises(Conflict, match="2026-11-24 cannot retire"):
        list(retire(store, 3))
    store.write(recount.rebuild)
    assert len(list(retire(store, 3))) == 7


def test_a_rating_in_between_is_counted_before_the_day_is_final(
    used: MetricsCollector, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, rated = retention.checksum_of, False

    def rates_meanwhile(connection: retention.Connection, day: int) -> str:
        nonlocal rated
        made = original(connection, day)
        if not rated:
            rated = True
            used.update_rating(1, 1)
        return made

    monkeypatch.setattr(retention, "checksum_of", rates_meanwhile)
    list(retire(store, 3))
    assert used.get_dashboard_stats(days=30)["ratings"]["positive"] == 1
    assert list(audit(store, Audit())) == []


def test_a_retired_day_that_was_tampered_with_is_found_and_never_repaired(used: MetricsCollector, store: Store) -> None:
    list(retire(store, 3))
    store.write(lambda c: c.exec_driver_sql("UPDATE rollup_users SET errors = errors + 1 WHERE bucket < 1795700000"))
    assert list(audit(store, Audit(), repair=True))
    findings = list(audit(store, Audit()))
    assert any("not what they were" in finding.what for finding in findings)


def test_deleting_that_was_broken_off_goes_on(
    used: MetricsCollector, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemmapy.metering.retention.AT_ONCE", 2)
    with monkeypatch.context() as patched:
        patched.setattr(retention, "delete_some", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(retire(store, 3))
    list(retire(store, 3))
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM llm_metrics").scalar() == 13
        assert connection.exec_driver_sql("SELECT count(*) FROM retired_days WHERE deleted_at IS NULL").scalar() == 0


def test_months_that_are_to_be_closed_wait_for_it(used: MetricsCollector, store: Store) -> None:
    close_month(store, "2026-10")
    assert due(store, 3) == []
    close_month(store, "2026-11")
    assert len(due(store, 1)) == 7  # November's days; December is not closed


def test_the_days_to_keep_are_checked(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="1 or more"):
        due(store, 0)
    assert due(store, 5) == []
    assert state(store, 5) == {
        "retention_days": 5,
        "whole_from": None,
        "retired_days": 0,
        "retired_requests": 0,
        "due": [],
    }
