"""Pricing the past anew: shown first, then applied beside what was recorded."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.periods import Window
from gemmapy.metering.audit import Audit, audit
from gemmapy.metering.reprice import Repricer, Repricing
from gemmapy.storage import adjustments
from gemmapy.storage.figures import Filter
from gemmapy.storage.store import Store

PHI = 1000 / 1000 * 0.5 + 500 / 1000 * 2  # tokens / 1000 x price


@pytest.fixture
def used(store: Store, clock: FixedClock) -> MetricsCollector:
    """Three days of phi, which had no price, and of llama3, which had."""
    collector = MetricsCollector(store)
    for number in range(6):
        for user, model in ((1, "phi"), (2, "llama3")):
            collector.record(
                user, model, "/x", prompt_tokens=1000, response_tokens=500, generation_ms=250, api_key_id=number
            )
        clock.go_on(hours=12)
    CostCalculator(store).update_pricing("phi", 0.5, 2)
    return collector


def asked(clock: FixedClock, **what: object) -> Repricing:
    return Repricing(Window(clock.now() - timedelta(days=30), clock.now()), **what)  # pyright: ignore[reportArgumentType]


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    used: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    told = Repricer(store).preview(asked(clock, unpriced_only=True))
    assert (told["applied"], told["requests"], told["changed"], told["no_longer_unpriced"]) == (False, 12, 6, 6)
    assert told["difference"] == 6 * PHI
    assert told["breakdown"] == [
        {
            "user_id": 1,
            "username": "ada",
            "model": "phi",
            "requests": 6,
            "cost_before": 0,
            "cost_after": 6 * PHI,
            "difference": 6 * PHI,
        }
    ]
    assert CostCalculator(store).get_user_costs(1)["total_cost"] == 0


def test_it_is_applied_to_every_figure_and_leaves_a_trail(
    used: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    told = Repricer(store).apply(asked(clock, unpriced_only=True, reason="phi has a price now"), by=1)
    assert told["applied"]
    summary = CostCalculator(store).get_user_costs(1)
    assert (summary["total_cost"], summary["unpriced_requests"], summary["unpriced_tokens"]) == (6 * PHI, 0, 0)
    assert used.get_dashboard_stats()["unpriced_requests"] == 0
    # A window that breaks a quarter of an hour, and a filter that only the ledger knows, see it too.
    window = Window(clock.now() - timedelta(hours=36, minutes=-1), clock.now() - timedelta(minutes=7))
    assert CostCalculator(store).get_user_costs(1, window=window)["total_cost"] == 2 * PHI
    by_key = CostCalculator(store).get_user_costs(1, which=Filter(api_key_id=3))
    assert by_key["total_cost"] == PHI
    assert list(audit(store, Audit())) == []
    entry = used.get_requests(which=Filter(model="phi"), limit=1)["requests"][0]
    assert (entry["cost"], entry["recorded_cost"]) == (PHI, None)
    story = used.get_request(entry["id"])
    assert [(a["reason"], a["difference"], a["price_model"]) for a in story["adjustments"]] == [
        ("phi has a price now", PHI, "phi")
    ]
    with store.read() as connection:
        [trail] = adjustments.trail(connection, 10)
        recorded = connection.exec_driver_sql("SELECT count(*) FROM llm_metrics WHERE cost_nusd IS NULL").scalar()
    assert (trail["by"], trail["requests"], trail["finished_at"]) == ("ada", 6, clock.now())
    assert recorded == 6, "what was recorded is never overwritten"


def test_the_same_again_changes_nothing_and_as_recorded_takes_it_back(
    used: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    repricer = Repricer(store)
    repricer.apply(asked(clock, reason="once"))
    assert repricer.apply(asked(clock, reason="twice"))["changed"] == 0
    back = repricer.apply(asked(clock, reason="no, after all", as_recorded=True))
    assert (back["changed"], back["difference"], back["no_longer_unpriced"]) == (6, -6 * PHI, -6)
    assert CostCalculator(store).get_user_costs(1)["unpriced_requests"] == 6
    assert list(audit(store, Audit())) == []


def test_a_model_without_a_price_stays_as_it_is(used: MetricsCollector, store: Store, clock: FixedClock) -> None:
    before_phi = clock.now() - timedelta(minutes=1)
    told = Repricer(store).preview(asked(clock, prices_at=before_phi))
    assert (told["without_price"], told["changed"]) == (6, 0)


def test_an_answer_from_the_cache_saves_anew_and_costs_nothing(store: Store, clock: FixedClock) -> None:
    collector = MetricsCollector(store)
    collector.record(1, "phi", "/x", prompt_tokens=1000, response_tokens=500, cached=True)
    clock.go_on(seconds=5)
    CostCalculator(store).update_pricing("phi", 0.5, 2)
    clock.go_on(seconds=5)
    Repricer(store).apply(asked(clock, reason="x"))
    entry = collector.get_requests()["requests"][0]
    assert (entry["cost"], entry["saved"]) == (0, PHI)


def test_one_that_broke_off_is_finished_by_the_same_again(
    used: MetricsCollector, store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemmapy.metering.reprice.PAGE", 3)
    original, calls = adjustments.append, 0

    def fails_at_the_third(*what: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise InvalidRequest("the power went")
        original(*what)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patched:
        patched.setattr(adjustments, "append", fails_at_the_third)
        with pytest.raises(InvalidRequest):
            Repricer(store).apply(asked(clock, reason="half"))
    with store.read() as connection:
        assert adjustments.trail(connection, 10)[0]["finished_at"] is None
    assert list(audit(store, Audit())) == []
    Repricer(store).apply(asked(clock, reason="the rest"))
    assert CostCalculator(store).get_user_costs(1)["total_cost"] == 6 * PHI


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"reason": ""}, "reason is required"),
        ({"reason": "x" * 501}, "at most 500"),
        ({"reason": "x", "prices_at": FixedClock().now() + timedelta(days=900)}, "prices_at must lie in the past"),
        ({"reason": "x", "prices_at": FixedClock().now(), "as_recorded": True}, "exclude each other"),
    ],
)
def test_what_cannot_be_asked_is_told(store: Store, clock: FixedClock, what: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Repricer(store).apply(asked(clock, **what))
