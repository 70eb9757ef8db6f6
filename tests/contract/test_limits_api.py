"""Limits over HTTP: who sets them, what a client is told, and that they hold; in every dialect."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import Hold, ScriptedUpstream, whole

ASK = {"model": "llama3", "prompt": "x" * 40, "stream": False}
CHAT = {"model": "llama3", "messages": [{"role": "user", "content": "x"}]}
DONE = {"response": "Hi", "done": True, "prompt_eval_count": 30, "eval_count": 20}
OPENAI = {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}}


@pytest.fixture(scope="module")
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream("llama3", "phi4") as started:
        started.on("/api/generate", whole(DONE))
        started.on("/v1/chat/completions", whole(OPENAI))
        yield started


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    with gateway(tmp_path_factory.mktemp("api") / "data", f"ollama={upstream.url}") as started:
        yield started


_made = iter(range(10_000))


@pytest.fixture
def user(api: RunningGateway) -> dict[str, Any]:
    """A user of the test's own: id, key_id, key."""
    name = f"user{next(_made)}"
    made = api.post("/api/admin/users", {"username": name, "password": PASSWORD}).json
    key = api.post(f"/api/admin/users/{made['id']}/keys", {"name": "test"}).json
    return {"id": made["id"], "key_id": key["id"], "key": key["key"], "path": f"/api/admin/users/{made['id']}"}


def limit(api: RunningGateway, user: dict[str, Any], **limits: Any) -> Any:
    return api.request("PATCH", user["path"], {"limits": limits})


def test_an_admin_sets_limits_and_everybody_sees_their_own(api: RunningGateway, user: dict[str, Any]) -> None:
    nothing = dict.fromkeys(
        ("concurrent", "concurrent_per_model", "requests_per_minute", "tokens_per_minute", "weight")
    )
    assert api.get(user["path"]).json["limits"] == nothing
    set_to = limit(api, user, concurrent=2, requests_per_minute=10, weight=2.5).json["limits"]
    assert set_to == {**nothing, "concurrent": 2, "requests_per_minute": 10, "weight": 2.5}
    assert limit(api, user, concurrent=None).json["limits"] == {**set_to, "concurrent": None}
    own = api.get("/api/limits", key=user["key"]).json
    assert own["weight"] == 2.5
    assert [(entry["of"], entry["kind"], entry["limit"]) for entry in own["limits"]] == [
        (f"user {user['id']}", "requests", 10)
    ]
    assert api.request("PATCH", user["path"], {"limits": {"concurrent": 9}}, key=user["key"]).status == 403
    assert api.get("/api/limits", key=None).status == 401


@pytest.mark.parametrize(
    "limits", [{"concurrent": -1}, {"concurrent": 1.5}, {"weight": 0}, {"weight": 5000}, {"speed": 1}, {"weight": "2"}]
)
def test_a_limit_that_is_none_is_400(api: RunningGateway, user: dict[str, Any], limits: dict[str, Any]) -> None:
    answer = limit(api, user, **limits)
    assert (answer.status, set(answer.json)) == (400, {"error", "code", "hint"})


def test_requests_a_minute_hold_and_every_answer_says_what_is_left(api: RunningGateway, user: dict[str, Any]) -> None:
    limit(api, user, requests_per_minute=2)
    first, second, third = (api.post("/api/generate", ASK, key=user["key"]) for _ in range(3))
    assert (first.status, second.status, third.status) == (200, 200, 429)
    for answer, left in ((first, "1"), (second, "0"), (third, "0")):
        assert answer.headers["X-RateLimit-Limit-Requests"] == "2"
        assert answer.headers["X-RateLimit-Remaining-Requests"] == left
        assert answer.headers["X-RateLimit-Reset-Requests"].endswith("s")
    assert 0 < int(third.headers["Retry-After"]) <= 61
    assert third.json["error"] == f"The limit of user {user['id']} is 2 requests a minute; 2 are used."
    row = api.row()
    assert (row["status"], row["error_code"], row["attempts"]) == (429, "rate_limit_exceeded", 0)
    assert api.post("/api/generate", ASK).status == 200, "nobody else's"
    assert "X-RateLimit-Limit-Requests" not in api.post("/api/generate", ASK).headers


def test_a_refusal_has_the_shape_of_the_api_that_was_called(api: RunningGateway, user: dict[str, Any]) -> None:
    limit(api, user, requests_per_minute=1)
    assert api.post("/v1/chat/completions", CHAT, key=user["key"]).status == 200
    openai = api.post("/v1/chat/completions", CHAT, key=user["key"])
    assert openai.status == 429
    assert openai.json["error"] == {
        "message": f"The limit of user {user['id']} is 1 requests a minute; 1 are used.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    contract = api.post("/api/ollama/generate", ASK, key=user["key"])
    assert (contract.status, contract.json["code"], set(contract.json)) == (
        429,
        "rate_limit_exceeded",
        {"error", "code", "hint"},
    )
    assert set(api.post("/api/generate", ASK, key=user["key"]).json) == {"error"}


def test_tokens_a_minute_are_what_the_engine_counted(api: RunningGateway, user: dict[str, Any]) -> None:
    limit(api, user, tokens_per_minute=100)
    assert api.post("/api/generate", ASK, key=user["key"]).headers["X-RateLimit-Remaining-Tokens"] == "90"
    api.settle()
    states = api.get("/api/limits", key=user["key"]).json["limits"]
    assert [(s["kind"], s["used"], s["remaining"]) for s in states] == [("tokens", 50, 50)]
    second = api.post("/v1/chat/completions", CHAT, key=user["key"])
    assert second.status == 200
    api.settle()
    third = api.post("/api/generate", ASK, key=user["key"])
    assert (third.status, third.headers["X-RateLimit-Remaining-Tokens"]) == (429, "0")
    long = api.post("/api/generate", {**ASK, "prompt": "x" * 4_000}, key=user["key"])
    assert "this request alone needs 1000" in long.json["error"]
    assert "Retry-After" not in long.headers, "it would never fit"


def test_a_keys_limit_holds_beside_its_users(api: RunningGateway, user: dict[str, Any]) -> None:
    other = api.post(f"{user['path']}/keys", {"name": "other"}).json["key"]
    set_it = api.request("PATCH", f"/api/admin/keys/{user['key_id']}", {"limits": {"requests_per_minute": 1}})
    assert set_it.status == 200
    listed = {key["id"]: key["limits"] for key in api.get("/api/admin/keys").json["keys"]}
    assert listed[user["key_id"]]["requests_per_minute"] == 1
    assert [api.post("/api/generate", ASK, key=user["key"]).status for _ in range(2)] == [200, 429]
    assert api.post("/api/generate", ASK, key=other).status == 200
    own = api.request("PATCH", f"/api/keys/{user['key_id']}", {"limits": {}}, key=user["key"])
    assert own.status == 400, "nobody lifts the limits of their own key"
    assert api.request("PATCH", f"/api/admin/keys/{user['key_id']}", {"limits": {}}, key=user["key"]).status == 403


@pytest.mark.parametrize("which", ["concurrent", "concurrent_per_model"])
def test_requests_at_once_are_limited_and_given_back_whatever_becomes_of_them(
    api: RunningGateway, user: dict[str, Any], upstream: ScriptedUpstream, which: str
) -> None:
    limit(api, user, **{which: 1})
    hold = Hold()
    asked = len(upstream.asked("/api/generate"))
    upstream.on("/api/generate", [hold, *whole(DONE)])
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(api.post, "/api/generate", ASK, key=user["key"])
            while len(upstream.asked("/api/generate")) == asked:
                pass
            refused = api.post("/api/generate", ASK, key=user["key"])
            assert refused.status == 429
            assert "1 requests at once" in refused.json["error"]
            assert int(refused.headers["Retry-After"]) >= 1
            other = api.post("/v1/chat/completions", {**CHAT, "model": "phi4"}, key=user["key"])
            assert other.status == (429 if which == "concurrent" else 200)
            hold.event.set()
            assert running.result().status == 200
    finally:
        upstream.on("/api/generate", whole(DONE))
    api.settle()
    assert api.post("/api/generate", ASK, key=user["key"]).status == 200
    unknown = [api.post("/api/generate", {**ASK, "model": "none"}, key=user["key"]).status for _ in range(3)]
    assert unknown == [404, 404, 404], "what was refused for another reason holds nothing"


def test_figures_of_the_door_are_there(api: RunningGateway) -> None:
    said = api.get("/api/queue/stats").json["gateway"]
    assert (said["requests"], said["max_requests"], said["body_bytes"]) == (0, 5_000, 0)
    assert said["max_body_bytes"] == 4 * 64 * 2**20
    assert said["shed"] == {"requests": 0, "bodies": 0, "writes": 0, "callers": 0, "unwritten": 0}
