"""MetricsCollector: what is recorded is what is read."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy import FinishedRequest, MetricsCollector
from gemmapy.core.errors import InvalidRequest, NotFound
from gemmapy.core.ids import RequestIds, id_text
from gemmapy.core.records import Intent, Outcome, Timings, Usage
from gemmapy.metering.prices import PriceDesk, PriceEntry
from gemmapy.pricing import cost_of
from gemmapy.storage.figures import Filter
from gemmapy.storage.store import Store


@pytest.fixture
def collector(store: Store) -> MetricsCollector:
    return MetricsCollector(store)


def rows(store: Store) -> list[Any]:
    with store.read() as connection:
        return list(connection.exec_driver_sql("SELECT * FROM llm_metrics ORDER BY id").mappings())


def test_an_empty_database_has_zeros_and_not_a_division_by_them(collector: MetricsCollector) -> None:
    stats = collector.get_dashboard_stats()
    assert stats["percentiles"]["duration"] == {"p50": None, "p90": None, "p95": None, "p99": None}
    contract = {
        "total_requests": 0,
        "errors": 0,
        "error_rate": 0,
        "avg_duration": 0,
        "avg_tokens_per_sec": 0,
        "cache_hits": 0,
        "cache_hit_rate": 0,
        "total_tokens": 0,
        "by_model": [],
        "ratings": {"positive": 0, "negative": 0, "total_rated": 0, "satisfaction_rate": 0},
        "unpriced_requests": 0,
        "unpriced_tokens": 0,
    }
    assert {name: stats[name] for name in contract} == contract
    assert collector.get_time_series()["data"] == []
    assert collector.get_endpoint_stats()["endpoints"] == []


def test_a_record_is_a_row_with_every_column_of_the_contract(collector: MetricsCollector, store: Store) -> None:
    metric_id = collector.record(
        1, "llama2", "/api/ollama/generate", prompt_tokens=10, response_tokens=20, duration_ms=500
    )
    row = rows(store)[0]
    assert row["id"] == metric_id
    assert (row["user_id"], row["model"], row["endpoint"]) == (1, "llama2", "/api/ollama/generate")
    assert (row["prompt_tokens"], row["response_tokens"], row["total_tokens"]) == (10, 20, 30)
    assert (row["duration_ms"], row["tokens_per_second"]) == (500, 20 / 0.5)
    assert (row["cached"], row["error"], row["error_message"], row["user_rating"]) == (0, 0, None, None)
    assert row["created_at"] == "2026-11-24 10:00:00.000"
    assert row["cost_nusd"] == 10 * 100_000 // 1000 + 20 * 200_000 // 1000


def test_many_at_once_are_rows_in_their_order(collector: MetricsCollector, store: Store) -> None:
    many = [FinishedRequest(1, "llama2", "/x", prompt_tokens=n, duration_ms=5, cached=n % 2 == 1) for n in range(1_500)]
    ids = collector.record_many(many)
    assert ids == sorted(set(ids))
    assert [(row["id"], row["prompt_tokens"], row["cached"]) for row in rows(store)] == [
        (metric_id, n, n % 2) for n, metric_id in enumerate(ids)
    ]
    one_by_one = [int(n * Decimal("0.0001") / 1000 * 10**9) for n in range(0, 1_500, 2)]
    assert sum(row["cost_nusd"] for row in rows(store)) == sum(one_by_one)
    assert collector.get_dashboard_stats()["total_requests"] == 1_500


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (FinishedRequest(1, "llama2", "/x", duration_ms=-1), "duration_ms must be 0 or more, got -1"),
        (FinishedRequest(1, "", "/x"), "model must have 1 to 200 characters, has 0"),
        (FinishedRequest(99, "llama2", "/x"), "There is no user 99"),
    ],
)
def test_of_many_with_a_bad_one_none_is_written(
    collector: MetricsCollector, store: Store, bad: FinishedRequest, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        collector.record_many([FinishedRequest(1, "llama2", "/x"), bad])
    assert rows(store) == []


def test_a_failed_request_is_recorded_with_its_message_and_duration(collector: MetricsCollector, store: Store) -> None:
    collector.record(1, "llama2", "/api/ollama/chat", duration_ms=77, error="connection refused")
    row = rows(store)[0]
    assert (row["error"], row["error_message"], row["duration_ms"]) == (1, "connection refused", 77)
    assert row["cost_nusd"] is None
    stats = collector.get_dashboard_stats()
    assert (stats["errors"], stats["error_rate"], stats["unpriced_requests"]) == (1, 1.0, 0)


def test_a_cached_answer_is_a_hit_that_costs_nothing_and_slows_no_average(
    collector: MetricsCollector, store: Store
) -> None:
    for cached, duration_ms in ((False, 1000), (True, 2)):
        collector.record(
            1, "llama2", "/x", prompt_tokens=1000, response_tokens=1000, duration_ms=duration_ms, cached=cached
        )
    hit = rows(store)[1]
    assert (hit["cost_nusd"], hit["saved_nusd"]) == (0, 100_000 + 200_000)
    stats = collector.get_dashboard_stats()
    assert (stats["cache_hits"], stats["cache_hit_rate"], stats["avg_duration"]) == (1, 0.5, 1000)
    assert stats["avg_tokens_per_sec"] == 1000


def test_averages_are_over_the_rows_that_have_the_value(collector: MetricsCollector) -> None:
    collector.record(1, "m", "/x", response_tokens=10, duration_ms=100)
    collector.record(1, "m", "/x", duration_ms=300)
    collector.record(1, "m", "/x")
    stats = collector.get_dashboard_stats()
    assert (stats["avg_duration"], stats["avg_tokens_per_sec"]) == (200, 100)


def test_models_and_endpoints_come_busiest_first(collector: MetricsCollector) -> None:
    for model, endpoint in (("a", "/x"), ("b", "/y"), ("b", "/y"), ("c", "/x")):
        collector.record(1, model, endpoint, response_tokens=4, duration_ms=200)
    assert [entry["model"] for entry in collector.get_dashboard_stats()["by_model"]] == ["b", "a", "c"]
    busiest = collector.get_dashboard_stats()["by_model"][0]
    assert busiest["percentiles"]["duration"]["p99"] == pytest.approx(200, rel=0.01)
    assert {name: value for name, value in busiest.items() if name not in ("percentiles", "ratings", "cache_hits")} == {
        "model": "b",
        "requests": 2,
        "avg_duration": 200,
        "avg_tps": 20,
        "total_tokens": 8,
        "errors": 0,
        "unpriced_requests": 2,
        "unpriced_tokens": 8,
    }
    endpoints = collector.get_endpoint_stats()["endpoints"]
    assert [(e["endpoint"], e["requests"], e["avg_duration"], e["errors"]) for e in endpoints] == [
        ("/x", 2, 200, 0),
        ("/y", 2, 200, 0),
    ]


def test_ratings_count_up_and_down_and_not_neither(collector: MetricsCollector) -> None:
    ids = [collector.record(1, "m", "/x") for _ in range(4)]
    for metric_id, rating in zip(ids, (1, 1, -1, 0), strict=True):
        collector.update_rating(metric_id, rating)
    assert collector.get_dashboard_stats()["ratings"] == {
        "positive": 2,
        "negative": 1,
        "total_rated": 3,
        "satisfaction_rate": 2 / 3,
    }
    collector.update_rating(ids[2], 1)
    assert collector.get_dashboard_stats()["ratings"]["positive"] == 3


def test_a_request_can_be_rated_by_either_id(collector: MetricsCollector, store: Store) -> None:
    metric_id = collector.record(1, "m", "/x")
    collector.update_rating(str(metric_id), -1, user_id=1)
    assert rows(store)[0]["user_rating"] == -1
    collector.update_rating(id_text(rows(store)[0]["request_id"]), 1, user_id=1)
    assert rows(store)[0]["user_rating"] == 1


@pytest.mark.parametrize("rating", [2, -2, True, None, "1", 0.5, 1.0])
def test_another_rating_is_a_value_error_that_names_the_three(collector: MetricsCollector, rating: Any) -> None:
    metric_id = collector.record(1, "m", "/x")
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        collector.update_rating(metric_id, rating)


@pytest.mark.parametrize(
    "metric_id",
    [99, 0, -1, 2**70, True, "99", "nonsense", "01890a5d-ac96-774b-bcce-b302099a8057", "9" * 30, "\u0661"],
)
def test_an_unknown_request_cannot_be_rated(collector: MetricsCollector, metric_id: Any) -> None:
    collector.record(1, "m", "/x")
    with pytest.raises(NotFound):
        collector.update_rating(metric_id, 1)


def test_nobody_rates_for_another(collector: MetricsCollector) -> None:
    metric_id = collector.record(1, "m", "/x")
    with pytest.raises(NotFound):
        collector.update_rating(metric_id, 1, user_id=2)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"user_id": 99}, "no user 99"),
        ({"prompt_tokens": -1}, "prompt_tokens must be 0 or more, got -1"),
        ({"duration_ms": -5}, "duration_ms"),
        ({"model": ""}, "model must have 1 to 200 characters, has 0"),
    ],
)
def test_what_cannot_be_is_not_recorded(
    collector: MetricsCollector, store: Store, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        collector.record(**{"user_id": 1, "model": "m", "endpoint": "/x", **wrong})
    assert rows(store) == []


def test_a_window_begins_where_it_says(collector: MetricsCollector, clock: FixedClock) -> None:
    collector.record(1, "m", "/x")
    clock.go_on(days=1, seconds=-1)
    assert collector.get_dashboard_stats(days=1)["total_requests"] == 1
    clock.go_on(seconds=2)
    assert collector.get_dashboard_stats(days=1)["total_requests"] == 0
    assert collector.get_dashboard_stats(days=2)["total_requests"] == 1


def test_series_have_the_contracts_buckets(collector: MetricsCollector, clock: FixedClock) -> None:
    for hours in (0, 1, 24, 24 * 7):
        clock.go_on(hours=hours)
        collector.record(1, "m", "/x", response_tokens=3, duration_ms=30)
    by = {
        interval: [(entry["time_bucket"], entry["requests"]) for entry in series["data"]]
        for interval in ("hour", "day", "week")
        if (series := collector.get_time_series(days=30, interval=interval))
    }
    assert by["hour"] == [
        ("2026-11-24 10:00:00", 1),
        ("2026-11-24 11:00:00", 1),
        ("2026-11-25 11:00:00", 1),
        ("2026-12-02 11:00:00", 1),
    ]
    assert by["day"] == [("2026-11-24", 2), ("2026-11-25", 1), ("2026-12-02", 1)]
    assert by["week"] == [("2026-W48", 3), ("2026-W49", 1)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2]),
            st.sampled_from(["llama2", "llama3", "phi"]),
            st.none() | st.integers(0, 5000),
            st.none() | st.integers(0, 60_000),
            st.booleans(),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_figures_are_a_recount_of_the_ledger(
    collector: MetricsCollector, store: Store, clock: FixedClock, entries: list[Any]
) -> None:
    clock.go_on(days=10)  # what earlier examples wrote is out of the window
    for user_id, model, tokens, duration_ms, cached, failed in entries:
        collector.record(
            user_id,
            model,
            "/x",
            response_tokens=tokens,
            duration_ms=duration_ms,
            cached=cached,
            error="no" if failed else None,
        )
    for user_id in (None, 1):
        mine = [entry for entry in entries if user_id in (None, entry[0])]
        timed = [entry[3] for entry in mine if entry[3] is not None and not entry[4]]
        stats = collector.get_dashboard_stats(user_id)
        assert stats["total_requests"] == len(mine)
        assert stats["errors"] == sum(entry[5] for entry in mine)
        assert stats["cache_hits"] == sum(entry[4] for entry in mine)
        assert stats["total_tokens"] == sum(entry[2] or 0 for entry in mine)
        assert stats["avg_duration"] == pytest.approx(sum(timed) / len(timed) if timed else 0)
        assert {e["model"]: e["requests"] for e in stats["by_model"]} == Counter(entry[1] for entry in mine)
        series = collector.get_time_series(user_id, interval="day")["data"]
        assert sum(bucket["requests"] for bucket in series) == len(mine)
    assert clock.now() - timedelta(days=10) < clock.now()


def test_a_requests_story_has_its_times_its_price_and_the_parts_of_its_cost(
    collector: MetricsCollector, store: Store
) -> None:
    desk = PriceDesk(store)
    entry = PriceEntry(
        "phi",
        1,
        2,
        cached_input_usd="0.5",
        request_usd="0.25",
        compute_usd_per_second="0.125",
        source="a decision",
    )
    price_id = desk.enter(entry)
    price = desk.book.at("phi:mini", store.clock.now())
    assert price is not None
    usage, timings = Usage(1000, 500, cached_prompt_tokens=400), Timings(900, 50, 7, 11, 100, 700)
    intent = Intent(RequestIds().new(), 2, "phi:mini", "/x", store.clock.now(), upstream="box", price_id=price_id)
    cost = cost_of(price, usage, timings.compute_ms)
    metric_id = store.record(Outcome(intent, 200, usage, timings, cost=cost, attempts=2))

    story = collector.get_request(metric_id)
    assert collector.get_request(story["request_id"], user_id=2) == story
    assert (story["queue_ms"], story["load_ms"], story["prompt_ms"], story["generation_ms"]) == (7, 11, 100, 700)
    assert (story["attempts"], story["upstream"], story["username"]) == (2, "box", "bob")
    assert story["prompt_cost"] == (600 * 1 + 400 * 0.5) / 1000
    assert story["response_cost"] == 500 * 2 / 1000
    assert story["other_cost"] == 0.25 + 0.125 * 0.8
    assert story["cost"] == story["prompt_cost"] + story["response_cost"] + story["other_cost"]
    assert story["price"] == {
        "id": price_id,
        "model": "phi",
        "input_cost": 1,
        "output_cost": 2,
        "cached_input_cost": 0.5,
        "request_cost": 0.25,
        "compute_cost": 0.125,
        "effective_at": store.clock.now(),
        "source": "a decision",
    }


def test_the_story_of_a_request_keeps_the_price_that_it_was_admitted_with(
    collector: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    metric_id = collector.record(1, "llama3", "/x", prompt_tokens=1000)
    clock.go_on(seconds=1)
    PriceDesk(store).set("llama3", 9, 9)
    price = collector.get_request(metric_id)["price"]
    assert price is not None
    assert (price["model"], price["input_cost"]) == ("llama3", 0.00015)
    assert "nominal rate" in price["source"]


def test_the_story_of_an_unpriced_request_has_no_price_and_no_cost(collector: MetricsCollector) -> None:
    story = collector.get_request(collector.record(1, "phi", "/x", prompt_tokens=5))
    assert (story["price"], story["cost"], story["prompt_cost"], story["other_cost"]) == (None, None, None, None)


@pytest.mark.parametrize("whose", [1, "0", "x", "1" * 30, "01890a5d-ac96-774b-bcce-b302099a8057", "999"])
def test_there_is_no_story_of_what_is_not_there_or_not_ones_own(collector: MetricsCollector, whose: int | str) -> None:
    metric_id = collector.record(1, "llama3", "/x", prompt_tokens=5)
    with pytest.raises(NotFound, match="no request"):
        collector.get_request(whose, user_id=2)
    assert collector.get_request(metric_id, user_id=1)["id"] == metric_id


def test_a_distribution_holds_every_measured_request_once(collector: MetricsCollector, clock: FixedClock) -> None:
    for duration_ms in (90, 130, 150, 900):
        collector.record(1, "llama2", "/api/chat", response_tokens=9, duration_ms=duration_ms, generation_ms=300)
    collector.record(1, "llama2", "/api/chat", response_tokens=9, duration_ms=1, cached=True)
    collector.record(2, "llama2", "/api/chat", error="refused")
    found = collector.get_distribution()
    assert (found["requests"], found["measured"]) == (6, 4)
    assert found["bars"] is not None
    assert [(bar["from"], bar["to"], bar["requests"]) for bar in found["bars"] if bar["requests"]] == [
        (80, 100, 1),
        (125, 160, 2),
        (800, 1000, 1),
    ]
    assert found["percentiles"] == collector.get_dashboard_stats()["percentiles"]["duration"]
    speeds = collector.get_distribution(measure="tokens_per_sec", which=Filter(user_id=1, model="llama2"))
    assert speeds["bars"] == [{"from": 25, "to": 31.5, "requests": 4}]  # 9 tokens in 300 ms
    assert collector.get_distribution(measure="ttft")["bars"] == []
    with pytest.raises(InvalidRequest, match="one of duration, ttft"):
        collector.get_distribution(measure="weight")


def test_ratings_and_savings_stand_in_series_and_beside_each_model(
    collector: MetricsCollector, clock: FixedClock
) -> None:
    for rating in (1, 1, -1, 0):
        metric_id = collector.record(1, "llama2", "/api/chat", prompt_tokens=1000, response_tokens=0)
        collector.update_rating(metric_id, rating)
    collector.record(1, "llama2", "/api/chat", prompt_tokens=3000, response_tokens=0, cached=True)
    stats = collector.get_dashboard_stats()
    [model] = stats["by_model"]
    assert (
        model["ratings"]
        == stats["ratings"]
        == {
            "positive": 2,
            "negative": 1,
            "total_rated": 3,
            "satisfaction_rate": 2 / 3,
        }
    )
    assert (model["cache_hits"], stats["saved"]) == (1, 3 * 100_000 / 1e9)
    [bucket] = collector.get_time_series()["data"]
    assert (bucket["positive"], bucket["negative"], bucket["saved"]) == (2, 1, 3 * 100_000 / 1e9)
