"""People over HTTP: login, profile, keys, users, projects; who may what; every error in the contract's shape."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole

ASK = {"model": "llama3", "prompt": "x", "stream": False}


@pytest.fixture(scope="module")
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream("llama3", "phi4") as started:
        started.on("/api/generate", whole({"response": "Hi", "done": True, "prompt_eval_count": 1, "eval_count": 1}))
        yield started


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    with gateway(tmp_path_factory.mktemp("api") / "data", f"ollama={upstream.url}") as started:
        yield started


_made = iter(range(10_000))


@pytest.fixture
def user(api: RunningGateway) -> dict[str, Any]:
    """A user of the test's own: id, username, token."""
    name = f"user{next(_made)}"
    made = api.post("/api/admin/users", {"username": name, "password": PASSWORD})
    assert made.status == 201
    token = api.post("/api/login", {"username": name, "password": PASSWORD}, key=None).json["token"]
    return {**made.json, "token": token}


def refused(answer: Any, status: int, says: str) -> None:
    assert answer.status == status, answer.body
    assert set(answer.json) == {"error", "code", "hint"}
    assert says in answer.json["error"]


def test_a_login_has_the_contracts_shape(api: RunningGateway, user: dict[str, Any]) -> None:
    said = api.post("/api/login", {"username": user["username"], "password": PASSWORD}, key=None).json
    assert set(said) == {"token", "user"}
    assert said["user"] == {"id": user["id"], "username": user["username"], "is_admin": False}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"username": "admin", "password": "wrong"}, 401, "username or the password is wrong"),
        ({"username": "admin"}, 400, "password: is required"),
        ({"username": 1, "password": "x"}, 400, "username: Input should be a valid string"),
        (b"{", 400, "the body is not valid JSON"),
        (b"[]", 400, "JSON object"),
        ({"username": "a", "password": "b", "otp": "c"}, 400, "otp: there is no such field"),
    ],
)
def test_a_login_that_cannot_be_is_told(api: RunningGateway, body: Any, status: int, says: str) -> None:
    refused(api.post("/api/login", body, key=None), status, says)


def test_a_user_is_made_with_201_and_found_in_the_list(api: RunningGateway, user: dict[str, Any]) -> None:
    listed = api.get("/api/admin/users").json["users"]
    entry = next(entry for entry in listed if entry["id"] == user["id"])
    assert {"id", "username", "is_admin", "created_at"} <= set(entry)
    refused(api.post("/api/admin/users", {"username": user["username"].upper(), "password": PASSWORD}), 400, "already")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"username": "x", "password": "short"}, "8 to 1024"),
        ({"username": "x y", "password": PASSWORD}, "1 to 64 characters"),
        ({"username": "x", "password": PASSWORD, "is_admin": "yes"}, "is_admin"),
    ],
)
def test_a_user_that_cannot_be_is_refused(api: RunningGateway, body: Any, says: str) -> None:
    refused(api.post("/api/admin/users", body), 400, says)


ADMINS_ONLY = [
    ("GET", "/api/admin/users"),
    ("POST", "/api/admin/users"),
    ("PATCH", "/api/admin/users/1"),
    ("DELETE", "/api/admin/users/1"),
    ("GET", "/api/admin/keys"),
    ("DELETE", "/api/admin/keys/1"),
    ("GET", "/api/admin/projects"),
    ("POST", "/api/admin/projects"),
    ("GET", "/api/admin/costs/all"),
    ("GET", "/api/admin/costs/pricing"),
    ("PUT", "/api/admin/costs/pricing"),
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", f"/api/blobs/sha256:{'1' * 64}"),
]


@pytest.mark.parametrize(("method", "path"), ADMINS_ONLY)
def test_what_is_the_admins_is_nobody_elses(api: RunningGateway, user: dict[str, Any], method: str, path: str) -> None:
    body = {"username": "a", "password": "b", "name": "c", "model": "d", "input_cost": 1, "output_cost": 1}
    assert api.request(method, path, body, key=user["token"]).status == 403
    assert api.request(method, path, body, key=None).status == 401


def test_a_user_sees_their_own_figures_only(api: RunningGateway, user: dict[str, Any]) -> None:
    api.post("/api/generate", ASK)
    api.post("/api/generate", ASK, key=user["token"])
    assert api.get("/api/metrics/dashboard", key=user["token"]).json["total_requests"] == 1
    assert api.get("/api/metrics/dashboard").json["total_requests"] > 1
    assert api.get(f"/api/metrics/dashboard?user_id={user['id']}").json["total_requests"] == 1
    assert api.get("/api/costs/summary", key=user["token"]).json["user_id"] == user["id"]
    for path in ("/api/metrics/dashboard", "/api/metrics/timeseries", "/api/metrics/endpoints", "/api/costs/summary"):
        refused(api.get(f"{path}?user_id=1", key=user["token"]), 403, "your own figures only")


def test_a_user_rates_their_own_requests_only(api: RunningGateway, user: dict[str, Any]) -> None:
    mine = api.post("/api/ollama/generate", ASK, key=user["token"]).json
    for name in ("metric_id", "request_id"):
        answer = api.post(f"/api/metrics/{mine[name]}/rate", {"rating": 1}, key=user["token"])
        assert (answer.status, list(answer.json)) == (200, ["message"])
        refused(api.post(f"/api/metrics/{mine[name]}/rate", {"rating": 1}), 404, "of yours")
    for bad in (2, True, "1", None, 0.5):
        answer = api.post(f"/api/metrics/{mine['metric_id']}/rate", {"rating": bad}, key=user["token"])
        assert answer.status == 400, bad


def test_a_profile_and_a_new_password(api: RunningGateway, user: dict[str, Any]) -> None:
    token = user["token"]
    assert api.get("/api/profile", key=token).json["username"] == user["username"]
    change = {"current_password": "wrong password", "new_password": "another password"}
    refused(api.post("/api/profile/password", change, key=token), 401, "current password is wrong")
    fresh = api.post("/api/profile/password", {**change, "current_password": PASSWORD}, key=token).json["token"]
    assert api.get("/api/profile", key=token).status == 401
    assert api.get("/api/profile", key=fresh).status == 200


def test_a_key_is_shown_once_and_ends_at_once(api: RunningGateway, user: dict[str, Any]) -> None:
    made = api.post("/api/keys", {"name": "laptop"}, key=user["token"])
    assert made.status == 201
    key = made.json["key"]
    assert api.post("/api/generate", ASK, key=key).status == 200
    listed = api.get("/api/keys", key=user["token"])
    assert key.encode() not in listed.body
    entry = listed.json["keys"][0]
    assert (entry["name"], entry["prefix"]) == ("laptop", key[:10])
    assert api.request("DELETE", f"/api/keys/{made.json['id']}", key=user["token"]).status == 200
    assert api.post("/api/generate", ASK, key=key).status == 401
    refused(api.request("DELETE", f"/api/keys/{made.json['id']}", key=user["token"]), 404, "no key")


def test_a_limited_key_does_what_it_is_for_and_no_more(api: RunningGateway, user: dict[str, Any]) -> None:
    limits = {"name": "ci", "models": ["phi*"], "routes": ["/api/generate", "/api/tags", "/api/keys"]}
    key = api.post("/api/keys", limits, key=user["token"]).json["key"]
    assert api.post("/api/generate", {**ASK, "model": "phi4"}, key=key).status == 200
    assert api.post("/api/generate", ASK, key=key).status == 403
    assert api.post("/api/chat", ASK, key=key).status == 403
    assert [model["name"] for model in api.get("/api/tags", key=key).json["models"]] == ["phi4"]
    refused(api.get("/api/profile", key=key), 403, "may not use /api/profile")
    refused(api.post("/api/keys", {"name": "all"}, key=key), 403, "limited")


def test_an_expired_key_cannot_be_made_and_another_is_changed(api: RunningGateway, user: dict[str, Any]) -> None:
    refused(
        api.post("/api/keys", {"name": "old", "expires_at": "2020-01-01T00:00:00Z"}, key=user["token"]), 400, "future"
    )
    assert api.post("/api/keys", {"name": "x", "expires_at": "2040-01-01T00:00:00"}, key=user["token"]).status == 400
    made = api.post("/api/keys", {"name": "x"}, key=user["token"]).json
    changed = api.request("PATCH", f"/api/keys/{made['id']}", {"name": "y", "models": ["phi4"]}, key=user["token"])
    assert changed.status == 200
    entry = next(e for e in api.get("/api/keys", key=user["token"]).json["keys"] if e["id"] == made["id"])
    assert (entry["name"], entry["models"]) == ("y", ["phi4"])
    assert api.post("/api/generate", ASK, key=made["key"]).status == 403


def test_only_an_admin_makes_a_trusted_key(api: RunningGateway, user: dict[str, Any]) -> None:
    refused(api.post("/api/keys", {"name": "x", "is_trusted": True}, key=user["token"]), 403, "Only an admin")
    assert api.post(f"/api/admin/users/{user['id']}/keys", {"name": "x", "is_trusted": True}).status == 201


def test_an_admin_edits_disables_and_deletes_and_the_ledger_stays(api: RunningGateway, user: dict[str, Any]) -> None:
    path = f"/api/admin/users/{user['id']}"
    api.post("/api/generate", ASK, key=user["token"])
    assert api.request("PATCH", path, {"disabled": True}).json["disabled"] is True
    assert api.get("/api/profile", key=user["token"]).status == 401
    assert api.request("PATCH", path, {"disabled": False, "is_admin": True}).json["is_admin"] is True
    assert api.request("DELETE", path).status == 200
    refused(api.get(path), 404, "no user")
    everyone = api.get("/api/admin/costs/all").json["users"]
    entry = next(entry for entry in everyone if entry["user_id"] == user["id"])
    assert entry["username"] == f"deleted user {user['id']}"
    assert entry["breakdown"][0]["request_count"] == 1


def test_the_last_admin_cannot_lock_everybody_out(api: RunningGateway) -> None:
    for change in ({"disabled": True}, {"is_admin": False}):
        refused(api.request("PATCH", "/api/admin/users/1", change), 409, "last admin")
    refused(api.request("DELETE", "/api/admin/users/1"), 409, "last admin")


def test_a_project_is_charged_by_its_members_and_its_keys(api: RunningGateway, user: dict[str, Any]) -> None:
    name = f"p-{user['id']}"
    project = api.post("/api/admin/projects", {"name": name}).json["id"]
    refused(api.post("/api/admin/projects", {"name": name}), 400, "already")
    refused(api.post("/api/keys", {"name": "k", "project": name}, key=user["token"]), 400, "none of the user's")
    headers = {"X-GemmaPy-Project": name}
    assert api.post("/api/generate", ASK, key=user["token"], headers=headers).status == 403
    assert api.request("PUT", f"/api/admin/projects/{project}/members/{user['id']}").status == 200
    assert api.get("/api/profile", key=user["token"]).json["projects"] == [name]
    assert api.post("/api/generate", ASK, key=user["token"], headers=headers).status == 200
    key = api.post("/api/keys", {"name": "k", "project": name}, key=user["token"]).json["key"]
    api.post("/api/generate", ASK, key=key)
    api.settle()
    assert [row["project_id"] for row in api.rows()[-2:]] == [project, project]
    assert api.request("DELETE", f"/api/admin/projects/{project}/members/{user['id']}").status == 200
    assert api.request("DELETE", f"/api/admin/projects/{project}").status == 200
    refused(api.request("DELETE", f"/api/admin/projects/{project}"), 404, "no project")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/api/metrics/dashboard?days=0", "greater than or equal to 1"),
        ("/api/metrics/dashboard?days=x", "days"),
        ("/api/metrics/timeseries?interval=minute", "'hour', 'day' or 'week'"),
        ("/api/costs/summary?period=decade", "'day', 'week', 'month', 'quarter' or 'year'"),
        ("/api/costs/projection?period=year", "'week', 'month' or 'quarter'"),
        ("/api/costs/summary?user_id=x", "user_id"),
    ],
)
def test_a_bad_parameter_is_400_and_says_what_is_allowed(api: RunningGateway, path: str, says: str) -> None:
    refused(api.get(path), 400, says)


def test_prices_over_http(api: RunningGateway) -> None:
    new = {"model": "phi4", "input_cost": 0.001, "output_cost": "0.002"}
    assert list(api.request("PUT", "/api/admin/costs/pricing", new).json) == ["message"]
    said = api.get("/api/admin/costs/pricing").json
    assert said["models"]["phi4"] == {"input": 0.001, "output": 0.002}
    assert (said["currency"], said["unit"]) == ("USD", "per 1K tokens")
    cost = api.post("/api/ollama/generate", {**ASK, "model": "phi4"}).json["cost"]
    assert cost == pytest.approx(1 / 1000 * 0.001 + 1 / 1000 * 0.002)
    for bad in ({"input_cost": -1}, {"input_cost": None}, {"input_cost": True}, {"model": ""}, {"x": 1}):
        assert api.request("PUT", "/api/admin/costs/pricing", {**new, **bad}).status == 400, bad


def test_unknown_paths_and_methods_have_the_right_shape(api: RunningGateway) -> None:
    refused(api.get("/api/nothing"), 404, "There is no /api/nothing")
    refused(api.request("PUT", "/api/login", {}), 405, "does not take PUT")
    assert "message" in api.get("/v1/nothing").json["error"]


def test_health_needs_no_credential(api: RunningGateway) -> None:
    assert api.get("/api/health", key=None).json["status"] == "healthy"
    assert api.get("/readyz", key=None).json["ready"] is True


def test_openapi_has_every_route_and_no_422(api: RunningGateway) -> None:
    schema = api.get("/openapi.json", key=None).json
    for path in ("/api/generate", "/api/ollama/chat/stream", "/v1/chat/completions", "/api/metrics/{metric_id}/rate"):
        assert path in schema["paths"]
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"], path
            assert "400" in operation["responses"], path
