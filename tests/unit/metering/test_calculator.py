"""CostCalculator: what was spent and what it will be, to the nano-dollar."""

from __future__ import annotations

from fractions import Fraction

import pytest
from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.core.errors import InvalidRequest
from gemmapy.storage.store import Store


@pytest.fixture
def costs(store: Store) -> CostCalculator:
    return CostCalculator(store)


@pytest.fixture
def used(store: Store) -> MetricsCollector:
    """What was used: ada 25,000 and 50,000 tokens of llama2; bob 1,000 of llama3, and some of one without a price."""
    collector = MetricsCollector(store)
    collector.record(1, "llama2", "/x", prompt_tokens=25_000, response_tokens=50_000)
    collector.record(2, "llama3:8b", "/x", prompt_tokens=1_000, response_tokens=0)
    collector.record(2, "phi", "/x", prompt_tokens=7, response_tokens=3)
    return collector


LLAMA2 = 25 * 0.0001 + 50 * 0.0002
LLAMA3 = 1 * 0.00015


def test_a_cost_is_tokens_over_1000_times_the_price(costs: CostCalculator) -> None:
    assert costs.calculate_cost("llama2", 25_000, 50_000) == {
        "prompt_cost": 25 * 0.0001,
        "response_cost": 50 * 0.0002,
        "total_cost": LLAMA2,
        "currency": "USD",
    }


def test_an_unknown_model_has_no_cost_and_not_a_cost_of_nothing(costs: CostCalculator) -> None:
    assert costs.calculate_cost("phi", 10, 10) == {
        "prompt_cost": None,
        "response_cost": None,
        "total_cost": None,
        "currency": "USD",
    }


def test_negative_tokens_are_refused(costs: CostCalculator) -> None:
    with pytest.raises(InvalidRequest, match="0 or more"):
        costs.calculate_cost("llama2", -1, 0)


def test_a_users_summary(costs: CostCalculator, used: MetricsCollector) -> None:
    assert costs.get_user_costs(2, "month") == {
        "window": {"from": "2026-10-25T10:00:00+00:00", "to": "2026-11-24T10:00:01+00:00", "snapped": False},
        "user_id": 2,
        "period": "month",
        "period_days": 30,
        "total_cost": LLAMA3,
        "currency": "USD",
        "breakdown": [
            {
                "model": "llama3:8b",
                "request_count": 1,
                "prompt_tokens": 1000,
                "response_tokens": 0,
                "prompt_cost": LLAMA3,
                "response_cost": 0,
                "total_cost": LLAMA3,
                "unpriced_requests": 0,
                "unpriced_tokens": 0,
            },
            {
                "model": "phi",
                "request_count": 1,
                "prompt_tokens": 7,
                "response_tokens": 3,
                "prompt_cost": 0,
                "response_cost": 0,
                "total_cost": 0,
                "unpriced_requests": 1,
                "unpriced_tokens": 10,
            },
        ],
        "unpriced_requests": 1,
        "unpriced_tokens": 10,
    }


@pytest.mark.parametrize(("period", "days"), [("day", 1), ("week", 7), ("month", 30), ("quarter", 90), ("year", 365)])
def test_periods_are_the_contracts(
    costs: CostCalculator, used: MetricsCollector, clock: FixedClock, period: str, days: int
) -> None:
    assert costs.get_user_costs(1, period)["period_days"] == days
    clock.go_on(days=days, seconds=-1)
    assert costs.get_user_costs(1, period)["total_cost"] == LLAMA2
    clock.go_on(seconds=2)
    assert costs.get_user_costs(1, period)["total_cost"] == 0


def test_everyones_costs_add_up_and_come_dearest_first(costs: CostCalculator, used: MetricsCollector) -> None:
    everyone = costs.get_all_users_costs("month")
    assert [(user["username"], user["total_cost"]) for user in everyone["users"]] == [("ada", LLAMA2), ("bob", LLAMA3)]
    assert everyone["user_count"] == 2
    assert everyone["total_cost"] == pytest.approx(LLAMA2 + LLAMA3, abs=1e-12)
    assert costs.get_user_costs(None, "month")["total_cost"] == everyone["total_cost"]


def test_an_empty_database_costs_nothing(costs: CostCalculator) -> None:
    assert costs.get_user_costs(1)["total_cost"] == 0
    assert costs.get_all_users_costs()["users"] == []
    projection = costs.get_cost_projection(1)
    assert (projection["projected_total_cost"], projection["daily_avg_cost"], projection["breakdown"]) == (0, 0, [])


@pytest.mark.parametrize(("period", "days"), [("week", 7), ("month", 30), ("quarter", 90)])
def test_a_projection_goes_on_as_the_last_seven_days(
    costs: CostCalculator, used: MetricsCollector, clock: FixedClock, period: str, days: int
) -> None:
    projection = costs.get_cost_projection(1, period)
    assert projection["projected_total_cost"] == pytest.approx(LLAMA2 / 7 * days, abs=1e-9)
    assert projection["daily_avg_cost"] == pytest.approx(LLAMA2 / 7, abs=1e-9)
    assert (projection["projection_period"], projection["projection_days"]) == (period, days)
    assert (projection["based_on_days"], projection["currency"], projection["user_id"]) == (7, "USD", 1)
    assert sum(entry["projected_cost"] for entry in projection["breakdown"]) == projection["projected_total_cost"]
    clock.go_on(days=8)
    assert costs.get_cost_projection(1, period)["projected_total_cost"] == 0


def test_a_projection_rounds_its_total_once_and_its_models_add_up_to_it(costs: CostCalculator, store: Store) -> None:
    collector = MetricsCollector(store)
    models = ("llama2", "llama3", "mistral")
    for model in models:
        collector.record(1, model, "/x", prompt_tokens=1)
    spent_nusd = sum((100_000 * 1 // 1000, 150_000 * 1 // 1000, 100_000 * 1 // 1000))
    projection = costs.get_cost_projection(1, "month")
    assert round(projection["daily_avg_cost"] * 10**9) == round(Fraction(spent_nusd, 7))
    assert round(projection["projected_total_cost"] * 10**9) == round(Fraction(spent_nusd * 30, 7))
    parts = [round(entry["projected_cost"] * 10**9) for entry in projection["breakdown"]]
    assert len(parts) == len(models)
    assert sum(parts) == round(Fraction(spent_nusd * 30, 7))


@pytest.mark.parametrize("period", ["year", "day", "", "MONTH"])
def test_a_projection_over_another_period_is_refused(costs: CostCalculator, period: str) -> None:
    with pytest.raises(InvalidRequest, match="week, month, quarter"):
        costs.get_cost_projection(1, period)


def test_a_new_price_leaves_what_was_recorded_alone(
    costs: CostCalculator, used: MetricsCollector, clock: FixedClock
) -> None:
    clock.go_on(seconds=1)
    costs.update_pricing("llama2", 1, "2.5")
    assert costs.get_pricing()["models"]["llama2"] == {"input": 1, "output": 2.5}
    assert costs.calculate_cost("llama2", 1000, 1000)["total_cost"] == 3.5
    assert costs.get_user_costs(1)["total_cost"] == LLAMA2


def test_prices_persist_and_are_seeded_once(costs: CostCalculator, store: Store, clock: FixedClock) -> None:
    assert costs.get_pricing() == {
        "models": {
            "llama2": {"input": 0.0001, "output": 0.0002},
            "llama3": {"input": 0.00015, "output": 0.0003},
            "mistral": {"input": 0.0001, "output": 0.0002},
        },
        "currency": "USD",
        "unit": "per 1K tokens",
    }
    clock.go_on(seconds=1)
    costs.update_pricing("phi", 0.1, 0.2)
    again = CostCalculator(store).get_pricing()["models"]
    assert len(again) == 4
    assert again["phi"] == {"input": 0.1, "output": 0.2}


@pytest.mark.parametrize(
    ("model", "cost", "says"), [("", 1, "1 to 200 characters"), ("a*b", 1, r"\* at its end"), ("m", -1, "input_cost")]
)
def test_a_price_that_makes_no_sense_is_refused(costs: CostCalculator, model: str, cost: float, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        costs.update_pricing(model, cost, 1)


def test_the_month_is_forecast_beside_the_contracts_projection(store: Store, clock: FixedClock) -> None:
    clock.go_on(days=-60)
    costs, collector = CostCalculator(store), MetricsCollector(store)
    for _ in range(60):
        collector.record(1, "llama3", "/x", prompt_tokens=1_000_000)
        clock.go_on(days=1)
    # Now it is 10:00 on the 24th: 23 days are over, today has cost nothing yet, 7 days are to come with today.
    daily = 1000 * 0.00015
    month = costs.get_cost_projection(1, "month")["forecast"]
    assert month["month"] == "2026-11"
    assert month["spent"] == pytest.approx(23 * daily)
    assert month["expected"] == pytest.approx(30 * daily, rel=1e-6)
    assert month["low"] <= month["expected"] <= month["high"]
    assert (month["method"], month["history_days"], month["coverage"]) == ("weekday pattern", 60, 1)
    collector.record(1, "llama3", "/x", prompt_tokens=1_000_000)
    again = costs.get_cost_projection(1, "month")["forecast"]
    assert again["spent"] == pytest.approx(24 * daily)
    assert again["expected"] == pytest.approx(30 * daily, rel=1e-6)  # today was in the forecast already
    assert costs.get_cost_projection(2, "month")["forecast"]["method"] == "no history"
