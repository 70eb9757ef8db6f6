"""The contract's analytics: its shapes over HTTP, its numbers against a recount, its buckets and its periods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock
from tests.support.gateway import PASSWORD, RunningGateway
from tests.support.quick import few_or_many

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.storage import people
from gemmapy.storage.store import Store

DASHBOARD = {
    "total_requests": int,
    "errors": int,
    "error_rate": float,
    "avg_duration": float,
    "avg_tokens_per_sec": float,
    "cache_hits": int,
    "cache_hit_rate": float,
    "total_tokens": int,
    "by_model": list,
    "ratings": dict,
}
BY_MODEL = {"model", "requests", "avg_duration", "avg_tps", "total_tokens", "errors"}
RATINGS = {"positive", "negative", "total_rated", "satisfaction_rate"}
SUMMARY = {"user_id", "period", "period_days", "total_cost", "currency", "breakdown"}
COSTS = {
    "model",
    "request_count",
    "prompt_tokens",
    "response_tokens",
    "prompt_cost",
    "response_cost",
    "total_cost",
}
PROJECTION = {
    "user_id",
    "projection_period",
    "projection_days",
    "daily_avg_cost",
    "projected_total_cost",
    "currency",
    "based_on_days",
    "breakdown",
}
ALL_COSTS = {"period", "period_days", "total_cost", "currency", "user_count", "users"}

NUSD = {  # per 1K tokens, input and output; the last one's costs do not come out even
    "llama2": (100_000, 200_000),
    "llama3": (150_000, 300_000),
    "odd": (333, 777),
}


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Generator[Store]:
    """With the users 1, ada, and 2, bob; and a price that needs rounding."""
    with Store.open(tmp_path / "data", clock) as opened:
        for name in ("ada", "bob"):
            opened.write(lambda c, n=name: people.create_user(c, n, None, is_admin=False, now=clock.now()))
        CostCalculator(opened).update_pricing("odd", "0.000000333", "0.000000777")
        yield opened


def new_user(running: RunningGateway, name: str) -> tuple[int, str]:
    """A user's id and login token."""
    made = running.post("/api/admin/users", {"username": name, "password": PASSWORD}).json
    login = running.post("/api/login", {"username": name, "password": PASSWORD}, key=None)
    return made["id"], login.json["token"]


def test_an_empty_database_answers_every_route_with_zeros(running: RunningGateway) -> None:
    said = running.get("/api/metrics/dashboard?days=7").json
    assert set(DASHBOARD) <= set(said)
    for key, kind in DASHBOARD.items():
        assert isinstance(said[key], kind | int if kind is float else kind), key
        assert not said[key] or key == "ratings"
    assert said["ratings"] == {"positive": 0, "negative": 0, "total_rated": 0, "satisfaction_rate": 0}
    assert running.get("/api/metrics/timeseries").json["data"] == []
    assert running.get("/api/metrics/endpoints").json["endpoints"] == []
    summary = running.get("/api/costs/summary").json
    assert set(summary) >= SUMMARY
    assert (summary["total_cost"], summary["breakdown"]) == (0, [])
    projection = running.get("/api/costs/projection").json
    assert set(projection) >= PROJECTION
    assert (projection["projected_total_cost"], projection["breakdown"]) == (0, [])
    everyone = running.get("/api/admin/costs/all").json
    assert set(everyone) >= ALL_COSTS
    assert (everyone["user_count"], everyone["users"]) == (0, [])


def test_the_contracts_example_of_costs(running: RunningGateway) -> None:
    user_id, token = new_user(running, "ada")
    for _ in range(100):
        running.services.collector.record(
            user_id, "llama2", "/api/ollama/generate", prompt_tokens=250, response_tokens=500, duration_ms=1200
        )
    prompt, response = 25_000 / 1000 * 0.0001, 50_000 / 1000 * 0.0002
    summary = running.get("/api/costs/summary?period=month", key=token).json
    assert {key: summary[key] for key in SUMMARY - {"breakdown"}} == {
        "user_id": user_id,
        "period": "month",
        "period_days": 30,
        "total_cost": prompt + response,
        "currency": "USD",
    }
    (entry,) = summary["breakdown"]
    assert {key: entry[key] for key in COSTS} == {
        "model": "llama2",
        "request_count": 100,
        "prompt_tokens": 25_000,
        "response_tokens": 50_000,
        "prompt_cost": prompt,
        "response_cost": response,
        "total_cost": prompt + response,
    }
    projection = running.get("/api/costs/projection?period=month", key=token).json
    assert (projection["projection_period"], projection["projection_days"]) == ("month", 30)
    assert (projection["based_on_days"], projection["currency"]) == (7, "USD")
    assert projection["daily_avg_cost"] == pytest.approx((prompt + response) / 7, abs=1e-9)
    assert projection["projected_total_cost"] == pytest.approx((prompt + response) * 30 / 7, abs=1e-9)
    (part,) = projection["breakdown"]
    assert part == {
        "model": "llama2",
        "daily_avg_cost": projection["daily_avg_cost"],
        "projected_cost": projection["projected_total_cost"],
    }
    everyone = running.get("/api/admin/costs/all?period=month").json
    (ranked,) = everyone["users"]
    assert (ranked["user_id"], ranked["username"], ranked["total_cost"]) == (user_id, "ada", prompt + response)
    assert ranked["breakdown"] == summary["breakdown"]


def test_the_dashboard_adds_up_several_models(running: RunningGateway) -> None:
    user_id, token = new_user(running, "ada")
    record = running.services.collector.record
    record(user_id, "llama2", "/a", prompt_tokens=10, response_tokens=100, duration_ms=1000)
    record(user_id, "llama2", "/a", prompt_tokens=10, response_tokens=100, duration_ms=4000)
    record(user_id, "llama3", "/b", prompt_tokens=5, response_tokens=5, duration_ms=1, cached=True)
    record(user_id, "llama3", "/b", duration_ms=1000, error="it broke")
    said = running.get("/api/metrics/dashboard", key=token).json
    assert (said["total_requests"], said["errors"], said["error_rate"]) == (4, 1, 1 / 4)
    assert (said["cache_hits"], said["cache_hit_rate"], said["total_tokens"]) == (1, 1 / 4, 110 + 110 + 10)
    assert said["avg_duration"] == (1000 + 4000 + 1000) / 3
    assert said["avg_tokens_per_sec"] == (100 / 1 + 100 / 4) / 2
    assert all(set(entry) >= BY_MODEL for entry in said["by_model"])
    assert [(entry["model"], entry["errors"]) for entry in said["by_model"]] == [("llama2", 0), ("llama3", 1)]
    endpoints = running.get("/api/metrics/endpoints", key=token).json["endpoints"]
    assert [(entry["endpoint"], entry["requests"]) for entry in endpoints] == [("/a", 2), ("/b", 2)]
    (bucket,) = running.get("/api/metrics/timeseries?interval=week", key=token).json["data"]
    assert set(bucket) >= {"time_bucket", "requests", "avg_duration", "total_tokens", "errors"}
    assert (bucket["requests"], bucket["errors"]) == (4, 1)


def test_a_rating_is_ones_own_and_the_last_one_counts(running: RunningGateway) -> None:
    user_id, token = new_user(running, "ada")
    _, other = new_user(running, "bob")
    record = running.services.collector.record
    good, bad = record(user_id, "llama2", "/a"), record(user_id, "llama2", "/a")
    for metric_id, rating in ((good, -1), (good, 1), (bad, -1)):
        answer = running.post(f"/api/metrics/{metric_id}/rate", {"rating": rating}, key=token)
        assert (answer.status, list(answer.json)) == (200, ["message"])
    for key in (other, ""):  # not another user, and not an admin either
        assert running.post(f"/api/metrics/{good}/rate", {"rating": -1}, key=key).status == 404
    ratings = running.get("/api/metrics/dashboard", key=token).json["ratings"]
    assert ratings == {"positive": 1, "negative": 1, "total_rated": 2, "satisfaction_rate": 1 / 2}
    assert set(ratings) == RATINGS
    running.post(f"/api/metrics/{bad}/rate", {"rating": 0}, key=token)
    ratings = running.get("/api/metrics/dashboard", key=token).json["ratings"]
    assert (ratings["total_rated"], ratings["satisfaction_rate"]) == (1, 1.0)


@pytest.mark.parametrize("rating", [2, "1", True, None, 1.0, [1]])
def test_another_rating_is_400_and_names_the_three(running: RunningGateway, rating: Any) -> None:
    metric_id = running.services.collector.record(1, "llama2", "/a")
    answer = running.post(f"/api/metrics/{metric_id}/rate", {"rating": rating})
    assert answer.status == 400
    assert "-1, 0 or 1" in answer.json["error"]


def test_a_deleted_users_costs_stay_without_the_name(running: RunningGateway) -> None:
    user_id, _ = new_user(running, "ada")
    running.services.collector.record(user_id, "llama2", "/a", prompt_tokens=1_000)
    assert running.request("DELETE", f"/api/admin/users/{user_id}").status == 200
    (ranked,) = running.get("/api/admin/costs/all").json["users"]
    assert (ranked["username"], ranked["total_cost"]) == (f"deleted user {user_id}", 1 * 0.0001)


def test_a_price_that_cannot_be_is_400_in_one_sentence(running: RunningGateway) -> None:
    price = {"model": "phi", "input_cost": 0.1, "output_cost": "0.2"}
    for wrong, says in (
        ({"input_cost": None}, "input_cost must be a number of dollars"),
        ({"input_cost": True}, "input_cost must be a number of dollars"),
        ({"output_cost": [1]}, "output_cost must be a number of dollars"),
        ({"output_cost": "cheap"}, "output_cost must be a number of dollars"),
        ({"output_cost": -0.1}, "output_cost must be zero or more dollars"),
        ({"model": " "}, "model must have 1 to 200 characters"),
        ({"model": "a\nb"}, "control characters"),
        ({"unit": "USD"}, "unit: there is no such field"),
    ):
        answer = running.request("PUT", "/api/admin/costs/pricing", {**price, **wrong})
        assert answer.status == 400
        assert says in answer.json["error"]
        assert ";" not in answer.json["error"]
    assert "phi" not in running.get("/api/admin/costs/pricing").json["models"]


def test_the_reference_says_what_a_rating_and_a_price_may_be(running: RunningGateway) -> None:
    schemas = running.get("/openapi.json", key=None).json["components"]["schemas"]
    assert schemas["Rating"]["properties"]["rating"]["enum"] == [-1, 0, 1]
    kinds = schemas["NewPrice"]["properties"]["input_cost"]["anyOf"]
    assert [kind["type"] for kind in kinds] == ["number", "string"]


def test_weeks_are_iso_weeks_also_where_the_year_ends(tmp_path: Path) -> None:
    clock = FixedClock(datetime(2026, 12, 31, 23, 30, tzinfo=UTC))  # a Thursday
    with Store.open(tmp_path / "data", clock) as store:
        store.write(lambda c: people.create_user(c, "ada", None, is_admin=False, now=clock.now()))
        collector = MetricsCollector(store)
        for hours in (0, 1, 48, 24):  # Thursday, Friday, Sunday, Monday
            clock.go_on(hours=hours)
            collector.record(1, "llama2", "/a")
        for interval, expected in {
            "hour": ["2026-12-31 23:00:00", "2027-01-01 00:00:00", "2027-01-03 00:00:00", "2027-01-04 00:00:00"],
            "day": ["2026-12-31", "2027-01-01", "2027-01-03", "2027-01-04"],
            "week": ["2026-W53", "2027-W01"],
        }.items():
            data = collector.get_time_series(days=30, interval=interval)["data"]
            assert [bucket["time_bucket"] for bucket in data] == expected
        assert [bucket["requests"] for bucket in data] == [3, 1]


@dataclass(frozen=True)
class Asked:
    """A request as the recount sees it."""

    user_id: int
    model: str
    prompt: int | None
    response: int | None
    duration_ms: int | None
    cached: bool
    failed: bool
    rating: int | None
    minutes_later: int

    @property
    def tokens(self) -> int:
        return (self.prompt or 0) + (self.response or 0)

    @property
    def nusd(self) -> tuple[int, int] | None:
        """What the prompt and the response cost; None where that is not known."""
        if self.model not in NUSD or (self.prompt is None and self.response is None):
            return None
        if self.cached:
            return 0, 0
        into, out = NUSD[self.model]
        # Fraction rounds half-even
        return round(Fraction((self.prompt or 0) * into, 1000)), round(Fraction((self.response or 0) * out, 1000))


tokens = st.none() | st.integers(0, 5_000)
requests = st.builds(
    Asked,
    user_id=st.sampled_from([1, 2]),
    model=st.sampled_from([*NUSD, "unpriced"]),
    prompt=tokens,
    response=tokens,
    duration_ms=st.none() | st.integers(0, 60_000),
    cached=st.booleans(),
    failed=st.booleans(),
    rating=st.sampled_from([None, -1, 0, 1]),
    minutes_later=st.integers(0, 3 * 24 * 60),
)


def mean(values: Iterable[Fraction | int]) -> float:
    counted = list(values)
    return float(sum(counted) / Fraction(len(counted))) if counted else 0.0


def usd(nusd: int) -> float:
    return nusd / 10**9


def spent(asked: Iterable[Asked]) -> int:
    return sum(sum(entry.nusd or (0, 0)) for entry in asked)


def check_dashboard(said: Any, asked: list[Asked]) -> None:
    own = [entry for entry in asked if not entry.cached]
    speeds = [Fraction(e.response * 1000, e.duration_ms) for e in own if e.response and e.duration_ms]
    rated = [entry.rating for entry in asked if entry.rating]
    unpriced = [entry for entry in asked if entry.nusd is None and entry.tokens]
    assert said["total_requests"] == len(asked)
    assert said["errors"] == sum(entry.failed for entry in asked)
    assert said["error_rate"] == mean(int(entry.failed) for entry in asked)
    assert said["cache_hit_rate"] == mean(int(entry.cached) for entry in asked)
    assert said["total_tokens"] == sum(entry.tokens for entry in asked)
    assert said["avg_duration"] == pytest.approx(mean(e.duration_ms for e in own if e.duration_ms is not None))
    assert said["avg_tokens_per_sec"] == pytest.approx(mean(speeds), abs=0.0005)  # kept in milli-tokens a second
    assert said["ratings"]["positive"] == rated.count(1)
    assert said["ratings"]["negative"] == rated.count(-1)
    assert said["ratings"]["satisfaction_rate"] == mean(int(rating == 1) for rating in rated)
    assert said["unpriced_requests"] == len(unpriced)
    assert said["unpriced_tokens"] == sum(entry.tokens for entry in unpriced)
    assert {entry["model"] for entry in said["by_model"]} == {entry.model for entry in asked}
    assert sum(entry["total_tokens"] for entry in said["by_model"]) == said["total_tokens"]


def check_costs(said: Any, asked: list[Asked]) -> None:
    assert said["total_cost"] == usd(spent(asked))
    assert said["unpriced_requests"] == sum(entry.nusd is None and entry.tokens > 0 for entry in asked)
    for row in said["breakdown"]:
        mine = [entry for entry in asked if entry.model == row["model"]]
        assert row["request_count"] == len(mine)
        assert row["prompt_tokens"] == sum(entry.prompt or 0 for entry in mine)
        assert row["response_tokens"] == sum(entry.response or 0 for entry in mine)
        assert row["prompt_cost"] == usd(sum((entry.nusd or (0, 0))[0] for entry in mine))
        assert row["response_cost"] == usd(sum((entry.nusd or (0, 0))[1] for entry in mine))
        assert row["total_cost"] == usd(spent(mine))
    assert [row["model"] for row in said["breakdown"]] == [
        row["model"] for row in sorted(said["breakdown"], key=lambda row: (-row["total_cost"], row["model"]))
    ]
    assert {row["model"] for row in said["breakdown"]} == {entry.model for entry in asked}


@few_or_many(10, 100)
def test_every_figure_is_a_recount_of_the_ledger(store: Store, clock: FixedClock, examples: int) -> None:
    def check(asked: list[Asked]) -> None:
        figures_are_a_recount(store, clock, asked)

    settings(max_examples=examples, deadline=None)(given(st.lists(requests, max_size=12))(check))()


def figures_are_a_recount(store: Store, clock: FixedClock, asked: list[Asked]) -> None:
    clock.go_on(days=400)  # what earlier examples wrote is out of every window
    collector, costs = MetricsCollector(store), CostCalculator(store)
    written: list[tuple[datetime, Asked]] = []
    for entry in asked:
        clock.go_on(minutes=entry.minutes_later)
        metric_id = collector.record(
            entry.user_id,
            entry.model,
            "/a",
            prompt_tokens=entry.prompt,
            response_tokens=entry.response,
            duration_ms=entry.duration_ms,
            cached=entry.cached,
            error="it broke" if entry.failed else None,
        )
        if entry.rating is not None:
            collector.update_rating(metric_id, entry.rating)
        written.append((clock.now(), entry))

    def of(user_id: int | None, days: int) -> list[tuple[datetime, Asked]]:
        since = clock.now() - timedelta(days=days)
        return [(at, entry) for at, entry in written if at >= since and user_id in (None, entry.user_id)]

    for user_id in (None, 1, 2):
        week = [entry for _, entry in of(user_id, 7)]
        check_dashboard(collector.get_dashboard_stats(user_id, days=7), week)
        check_costs(costs.get_user_costs(user_id, "week"), week)
        check_costs(costs.get_user_costs(user_id, "month"), [entry for _, entry in of(user_id, 30)])
        projection = costs.get_cost_projection(user_id, "quarter")
        assert projection["projected_total_cost"] == usd(round(Fraction(spent(week) * 90, 7)))
        assert projection["daily_avg_cost"] == usd(round(Fraction(spent(week), 7)))
        parts = [round(part["projected_cost"] * 10**9) for part in projection["breakdown"]]
        assert sum(parts) == round(Fraction(spent(week) * 90, 7))
        for interval, name in (("hour", "%Y-%m-%d %H:00:00"), ("day", "%Y-%m-%d"), ("week", "%G-W%V")):
            buckets: dict[str, list[Asked]] = defaultdict(list)
            for at, entry in of(user_id, 30):
                buckets[at.strftime(name)].append(entry)
            data = collector.get_time_series(user_id, 30, interval)["data"]
            assert [bucket["time_bucket"] for bucket in data] == sorted(buckets)
            for bucket in data:
                inside = buckets[bucket["time_bucket"]]
                assert bucket["requests"] == len(inside)
                assert bucket["total_tokens"] == sum(entry.tokens for entry in inside)
                assert bucket["errors"] == sum(entry.failed for entry in inside)
                timed = [e.duration_ms for e in inside if e.duration_ms is not None and not e.cached]
                assert bucket["avg_duration"] == pytest.approx(mean(timed))
    everyone = costs.get_all_users_costs("year")
    assert everyone["user_count"] == len({entry.user_id for entry in asked})
    assert everyone["total_cost"] == usd(spent(asked))
    for ranked in everyone["users"]:
        mine = [entry for entry in asked if entry.user_id == ranked["user_id"]]
        check_costs(ranked, mine)
    paid = [ranked["total_cost"] for ranked in everyone["users"]]
    assert paid == sorted(paid, reverse=True)
