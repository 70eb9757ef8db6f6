"""Who uses how much, beside the time before; and the search in the request log."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.clock import FixedClock
from tests.support.gateway import PASSWORD, gateway
from tests.support.scripted import ScriptedUpstream

from gemmapy import CostCalculator, MetricsCollector, Store
from gemmapy.core.periods import last_days
from gemmapy.metering.shares import project_shares, user_shares
from gemmapy.storage import people, requests
from gemmapy.storage.figures import EVERYTHING, Filter

INPUT_USD, OUTPUT_USD = 0.0001, 0.0002


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Any, clock: FixedClock) -> Generator[Store]:
    """Users 1, ada, 2, bob, and 3, eve; project 1, search. A fortnight: ada asked twice the week before, once in the
    last; bob twice in the last, once for the project; eve never."""
    with Store.open(tmp_path / "data", clock) as opened:
        for name in ("ada", "bob", "eve"):
            opened.write(lambda c, n=name: people.create_user(c, n, None, is_admin=False, now=clock.now()))
        opened.write(lambda c: people.create_project(c, "search", clock.now()))
        CostCalculator(opened).update_pricing("llama3", INPUT_USD, OUTPUT_USD)
        collector = MetricsCollector(opened)
        clock.go_on(seconds=1)
        for _ in range(2):
            collector.record(1, "llama3", "/api/chat", prompt_tokens=1000, response_tokens=0, duration_ms=5)
        clock.go_on(days=9)
        collector.record(1, "llama3", "/api/chat", prompt_tokens=1000, response_tokens=1000, duration_ms=5)
        collector.record(2, "llama3", "/api/chat", prompt_tokens=1000, duration_ms=5, project_id=1)
        collector.record(2, "phi4:mini", "/api/generate", duration_ms=5, error="the GPU fell off")
        clock.go_on(hours=1)
        yield opened


def test_users_are_listed_dearest_first_with_their_share_and_the_week_before(store: Store, clock: FixedClock) -> None:
    users = user_shares(store, last_days(7, clock.now()), EVERYTHING)["users"]
    assert [user["username"] for user in users] == ["ada", "bob"]
    ada, bob = users
    assert ada["cost"] == pytest.approx(INPUT_USD + OUTPUT_USD)
    assert ada["share"] == pytest.approx((INPUT_USD + OUTPUT_USD) / (2 * INPUT_USD + OUTPUT_USD))
    assert ada["previous"] == {"requests": 2, "errors": 0, "total_tokens": 2000, "cost": pytest.approx(2 * INPUT_USD)}
    assert (bob["requests"], bob["errors"], bob["error_rate"]) == (2, 1, 0.5)
    assert bob["previous"] == {"requests": 0, "errors": 0, "total_tokens": 0, "cost": 0}
    assert bob["last_request_at"] == clock.now() - timedelta(hours=1)


def test_who_asked_only_in_the_time_before_is_listed_too(store: Store, clock: FixedClock) -> None:
    clock.go_on(days=7)
    users = user_shares(store, last_days(7, clock.now()), EVERYTHING)["users"]
    assert {user["username"]: (user["requests"], user["share"]) for user in users} == {
        "ada": (0, None),
        "bob": (0, None),
    }


def test_projects_are_listed_with_what_none_of_them_pays_for(store: Store, clock: FixedClock) -> None:
    window = last_days(7, clock.now())
    projects = project_shares(store, window, EVERYTHING)["projects"]
    assert [(entry["project"], entry["requests"]) for entry in projects] == [(None, 2), ("search", 1)]
    assert sum(entry["cost"] for entry in projects) == pytest.approx(2 * INPUT_USD + OUTPUT_USD)
    assert sum(entry["share"] or 0 for entry in projects) == pytest.approx(1)
    (chosen,) = project_shares(store, window, Filter(project_id=1))["projects"]
    assert chosen["project"] == "search"


def test_filters_narrow_the_shares(store: Store, clock: FixedClock) -> None:
    users = user_shares(store, last_days(7, clock.now()), Filter(model="phi4:mini"))["users"]
    assert [(user["username"], user["requests"]) for user in users] == [("bob", 1)]
    users = user_shares(store, last_days(7, clock.now()), Filter(endpoint="/api/chat"))["users"]
    assert [(user["username"], user["requests"]) for user in users] == [("ada", 1), ("bob", 1)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("PHI4", [5]),
        ("generate", [5]),
        ("gpu fell", [5]),
        ("ada", [3, 2, 1]),
        ("bob", [5, 4]),
        ("4", [4]),
        ("999", []),
        ("%", []),  # no pattern
        ("l_ama", []),
        ("nothing", []),
    ],
)
def test_a_search_looks_where_people_would(store: Store, text: str, ids: list[int]) -> None:
    found = MetricsCollector(store).get_requests(search=text)
    assert ([entry["id"] for entry in found["requests"]], found["next"]) == (ids, None)


def test_a_search_finds_a_request_by_its_id_within_ones_own(store: Store) -> None:
    collector = MetricsCollector(store)
    request_id = collector.get_requests(limit=1)["requests"][0]["request_id"]
    assert [entry["id"] for entry in collector.get_requests(search=request_id)["requests"]] == [5]
    assert collector.get_requests(search=request_id, which=Filter(user_id=1))["requests"] == []


def test_a_search_keeps_to_its_window_and_filters(store: Store, clock: FixedClock) -> None:
    collector = MetricsCollector(store)

    def ids(**how: Any) -> list[int]:
        return [entry["id"] for entry in collector.get_requests(**how)["requests"]]

    assert ids(search="chat", window=last_days(7, clock.now())) == [4, 3]
    assert ids(search="chat", which=Filter(user_id=2)) == [4]
    assert ids(search="a", errors_only=True) == [5]


def test_a_page_of_a_search_looks_so_far_and_says_where_to_go_on(
    store: Store, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = MetricsCollector(store)
    monkeypatch.setattr(requests, "SCANNED_AT_MOST", 2)
    found: list[int] = []
    before, pages = None, 0
    while True:
        page = collector.get_requests(search="ada", before=before)
        found += [entry["id"] for entry in page["requests"]]
        before, pages = page["next"], pages + 1
        if before is None:
            break
    assert (found, pages) == ([3, 2, 1], 3)
    one = collector.get_requests(search="chat", limit=1)
    assert ([entry["id"] for entry in one["requests"]], one["next"]) == ([4], 4)


def test_over_http_shares_are_for_admins_and_a_search_is_within_ones_own(tmp_path: Any) -> None:
    with ScriptedUpstream() as upstream, gateway(tmp_path / "data", f"ollama={upstream.url}") as api:
        user = api.post("/api/admin/users", {"username": "ada", "password": PASSWORD}).json
        key = api.post(f"/api/admin/users/{user['id']}/keys", {"name": "k"}).json["key"]
        collector = api.services.collector
        collector.record(1, "llama3", "/x", prompt_tokens=1)
        collector.record(user["id"], "llama3", "/x", prompt_tokens=1)
        for path in ("/api/metrics/users", "/api/metrics/projects"):
            assert api.get(path, key=key).status == 403
        assert {entry["user_id"] for entry in api.get("/api/metrics/users?days=1").json["users"]} == {1, user["id"]}
        assert api.get("/api/metrics/projects").json["projects"][0]["project"] is None
        assert len(api.get("/api/metrics/requests?search=LLAMA").json["requests"]) == 2
        (own,) = api.get("/api/metrics/requests?search=llama", key=key).json["requests"]
        assert own["user_id"] == user["id"]
        assert api.get("/api/metrics/requests?search=").status == 400
