"""Prices with a history over HTTP."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole

from gemmapy.config import COMPARED
from gemmapy.pricing.catalogue import find


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("prices")
    with ScriptedUpstream("llama3") as upstream, gateway(folder / "d", f"ollama={upstream.url}") as running:
        usage = {"prompt_eval_count": 1000, "eval_count": 1000, "eval_duration": 2_000_000_000}
        upstream.on("/api/generate", whole({"response": "Hi", "done": True, **usage}))
        yield running


PRICES = "/api/admin/prices"


def cost(api: RunningGateway) -> float:
    return api.post("/api/ollama/generate", {"model": "llama3", "prompt": "x"}).json["cost"]


def test_a_price_from_now_on_and_what_was_before(api: RunningGateway) -> None:
    before = datetime.now(UTC)
    entered = api.post(PRICES, {"model": "llama3", "input_cost": 1, "output_cost": "2", "source": "decision 7"})
    assert entered.status == 201
    assert cost(api) == 1 + 2
    listed = api.get(PRICES).json["prices"]
    assert next(price for price in listed if price["model"] == "llama3")["input_cost"] == 1
    at = before.isoformat().replace("+00:00", "Z")
    earlier = api.get(f"{PRICES}?at={at}").json["prices"]
    assert next(price for price in earlier if price["model"] == "llama3")["input_cost"] == 0.00015
    history = api.get(f"{PRICES}/history?model=LLAMA3").json["prices"]
    assert [price["input_cost"] for price in history][:1] == [1]
    assert (history[0]["source"], history[0]["entered_by"]) == ("decision 7", "admin")


def test_anybody_may_know_what_a_model_costs_now(api: RunningGateway) -> None:
    api.post(PRICES, {"model": "phi", "input_cost": "0.0001", "output_cost": "0.0004", "request_cost": "0.002"})
    api.post("/api/admin/users", {"username": "reader", "password": "something long enough"})
    signed_in = api.post("/api/login", {"username": "reader", "password": "something long enough"}).json["token"]
    found = api.get("/api/prices/in-force?model=phi:3b", key=signed_in).json
    assert (found["model"], found["price"]["model"]) == ("phi:3b", "phi")
    parts = ("input_cost", "output_cost", "request_cost", "compute_cost")
    assert [found["price"][name] for name in parts] == [0.0001, 0.0004, 0.002, 0]
    assert api.get("/api/prices/in-force?model=nobody-knows", key=signed_in).json["price"] is None
    assert api.get("/api/prices/in-force", key=signed_in).status == 400


def test_a_price_can_have_parts_of_its_own(api: RunningGateway) -> None:
    parts = {"request_cost": 0.5, "compute_cost": 0.25, "cached_input_cost": 0.1}
    api.post(PRICES, {"model": "llama3", "input_cost": 1, "output_cost": 2, **parts})
    assert cost(api) == pytest.approx(1 + 2 + 0.5 + 2 * 0.25)
    api.post(PRICES, {"model": "llama3", "input_cost": 1, "output_cost": 2})


def test_a_price_of_the_future_waits_and_can_be_withdrawn(api: RunningGateway) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    now = cost(api)
    made = api.post(PRICES, {"model": "llama3", "input_cost": 9, "output_cost": 9, "effective_at": tomorrow}).json
    assert cost(api) == now
    later = api.get(f"{PRICES}?at=2100-01-01T00:00:00Z").json["prices"]
    assert next(price for price in later if price["model"] == "llama3")["input_cost"] == 9
    assert api.request("DELETE", f"{PRICES}/{made['id']}").status == 200
    assert api.request("DELETE", f"{PRICES}/{made['id']}").status == 404
    history = api.get(f"{PRICES}/history").json["prices"]
    assert next(price for price in history if price["id"] == made["id"])["withdrawn_at"] is not None


def test_what_has_been_in_force_is_history(api: RunningGateway) -> None:
    first = api.get(f"{PRICES}/history").json["prices"][-1]["id"]
    answer = api.request("DELETE", f"{PRICES}/{first}")
    assert (answer.status, answer.json["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"effective_at": "2020-01-01T00:00:00Z"}, "must lie in the future"),
        ({"effective_at": "2100-01-01T00:00:00"}, "effective_at"),
        ({"input_cost": -1}, "input_cost"),
        ({"request_cost": "x"}, "request_cost"),
        ({"color": "red"}, "there is no such field"),
    ],
)
def test_a_price_that_makes_no_sense_is_refused(api: RunningGateway, change: dict[str, Any], says: str) -> None:
    answer = api.post(PRICES, {"model": "llama3", "input_cost": 1, "output_cost": 1, **change})
    assert answer.status == 400
    assert says in answer.json["error"]


def test_questions_can_be_narrowed_over_http(api: RunningGateway) -> None:
    cost(api)
    everything = api.get("/api/metrics/dashboard").json["total_requests"]
    assert everything > 0
    for narrowed, requests in (
        ("model=llama3", everything),
        ("model=nothing", 0),
        ("endpoint=/api/ollama/generate", everything),
        ("status=200", everything),
        ("key=1", everything),
        ("from=2020-01-01T00:00:00Z&to=2021-01-01T00:00:00Z", 0),
        ("from=2020-01-01T00:00:00%2B02:00", everything),
    ):
        assert api.get(f"/api/metrics/dashboard?{narrowed}").json["total_requests"] == requests, narrowed
        log = api.get(f"/api/metrics/requests?limit=1000&{narrowed}").json
        assert (len(log["requests"]), log["next"]) == (requests, None), narrowed
    series = api.get("/api/metrics/timeseries?interval=day&tz=Asia/Kathmandu&fill=true").json["data"]
    assert len(series) == 8
    assert len(api.get("/api/metrics/patterns").json["hours"]) == 168
    for bad in ("to=2020-01-01T00:00:00Z", "from=yesterday", "status=-1", "project=none", "tz=Mars"):
        assert api.get(f"/api/metrics/timeseries?{bad}").status == 400, bad


def test_nobody_reads_anothers_requests(api: RunningGateway) -> None:
    api.post("/api/admin/users", {"username": "eve", "password": "a long password"})
    token = api.post("/api/login", {"username": "eve", "password": "a long password"}, key=None).json["token"]
    assert api.get("/api/metrics/requests", key=token).json["requests"] == []
    assert api.get("/api/metrics/requests?user_id=1", key=token).status == 403
    assert api.get("/api/metrics/requests?key=1", key=token).json["requests"] == []
    cost(api)
    newest = api.get("/api/metrics/requests?limit=1").json["requests"][0]
    for name in (newest["id"], newest["request_id"]):
        assert api.get(f"/api/metrics/requests/{name}").json["price"]["model"] == "llama3"
        refused = api.get(f"/api/metrics/requests/{name}", key=token)
        assert (refused.status, refused.json["code"]) == (404, "not_found")


def test_the_catalogue_of_hosted_models_is_there_for_everybody(api: RunningGateway) -> None:
    found = api.get("/api/prices/catalogue?search=openai+gpt-4o-mini&limit=2").json
    assert found["total"] >= len(found["models"]) == 2
    assert found["source"].startswith("genai-prices ")
    best = found["models"][0]
    assert (best["provider"], best["model"], best["deprecated"]) == ("openai", "gpt-4o-mini", False)
    assert 0 < best["cached_input_cost"] < best["input_cost"] < best["output_cost"]
    assert api.get("/api/prices/catalogue?search=no+such+model").json["models"] == []
    for bad in ("limit=0", "limit=9999", f"search={'x' * 201}"):
        assert api.get(f"/api/prices/catalogue?{bad}").status == 400, bad
    assert api.get("/api/prices/catalogue", key=None).status == 401


def test_a_hosted_price_is_copied_with_where_it_is_from(api: RunningGateway) -> None:
    hosted = api.get("/api/prices/catalogue?search=openai/gpt-4o-mini&limit=1").json["models"][0]
    copied = api.post(f"{PRICES}/copy", {"model": "OpenAI/gpt-4o-mini", "as_model": "mini"})
    assert copied.status == 201
    newest = api.get(f"{PRICES}/history?model=mini").json["prices"][0]
    assert newest["id"] == copied.json["id"]
    for part in ("input_cost", "output_cost", "cached_input_cost"):
        assert newest[part] == hosted[part], part
    assert newest["source"] == copied.json["source"]
    assert newest["source"].startswith("genai-prices ")
    assert "openai/gpt-4o-mini at OpenAI, 20" in newest["source"]
    assert api.post(f"{PRICES}/copy", {"model": "openai/gpt-4o-mini"}).json["model"] == "gpt-4o-mini"
    for bad in (
        {"model": "openai/gpt-4o-mimi"},
        {"model": "gpt-4o-mini"},
        {"model": "openai/tts-1"},
        {"as_model": "x"},
    ):
        assert api.post(f"{PRICES}/copy", bad).status == 400, bad


def test_a_requests_story_says_what_it_would_have_cost_elsewhere(api: RunningGateway) -> None:
    metric_id = api.post("/api/ollama/generate", {"model": "llama3", "prompt": "x"}).json["metric_id"]
    elsewhere = api.get(f"/api/metrics/requests/{metric_id}").json["elsewhere"]
    assert [f"{entry['provider']}/{entry['model']}" for entry in elsewhere] == list(COMPARED)
    for entry in elsewhere:
        price = find(f"{entry['provider']}/{entry['model']}").price(datetime.now(UTC))
        assert price.input_nusd_per_1k is not None
        assert price.output_nusd_per_1k is not None
        assert entry["cost"] == (price.input_nusd_per_1k + price.output_nusd_per_1k) / 10**9  # 1,000 tokens of each


def test_a_period_says_what_it_would_have_cost_elsewhere(api: RunningGateway) -> None:
    cost(api)
    said = api.get("/api/costs/elsewhere?period=week&models=openai/gpt-4o-mini,openai/gpt-4o&models=OPENAI/gpt-4o").json
    summary = api.get("/api/costs/summary?period=week").json
    assert said["cost"] == summary["total_cost"]
    assert said["requests"] == sum(entry["request_count"] for entry in summary["breakdown"])
    assert "tokenizer" in said["note"]
    assert [entry["model"] for entry in said["elsewhere"]] == ["gpt-4o-mini", "gpt-4o"]
    price = find("openai/gpt-4o-mini").price(datetime.now(UTC))
    assert price.input_nusd_per_1k is not None
    assert price.output_nusd_per_1k is not None
    nusd = said["prompt_tokens"] * price.input_nusd_per_1k + said["response_tokens"] * price.output_nusd_per_1k
    assert said["elsewhere"][0]["cost"] == pytest.approx(nusd / 1000 / 10**9, abs=1e-9)
    assert len(api.get("/api/costs/elsewhere").json["elsewhere"]) == len(COMPARED)
    nothing = api.get("/api/costs/elsewhere?model=nothing").json
    assert (nothing["requests"], {entry["cost"] for entry in nothing["elsewhere"]}) == (0, {0})
    many = ",".join(["openai/gpt-4o"] * 21)
    for bad in ("models=gpt-4o", "models=openai/nothing", f"models={many}", "period=decade"):
        assert api.get(f"/api/costs/elsewhere?{bad}").status == 400, bad


def test_only_admins_enter_prices_from_the_catalogue(api: RunningGateway) -> None:
    api.post("/api/admin/users", {"username": "mallory", "password": "a long password"})
    token = api.post("/api/login", {"username": "mallory", "password": "a long password"}, key=None).json["token"]
    assert api.post(f"{PRICES}/copy", {"model": "openai/gpt-4o"}, key=token).status == 403
    assert api.get("/api/prices/catalogue?limit=1", key=token).status == 200
    mine = api.get("/api/costs/elsewhere", key=token).json
    assert (mine["requests"], mine["cost"]) == (0, 0)
