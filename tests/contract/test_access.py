"""Who may call what. Every route there is stands in one table, and is held to what the table says of it.

A route that nobody has put there fails, so that none comes in without somebody having thought of who may use it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route
from tests.support.gateway import PASSWORD, Answered, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole

from gemmapy import MetricsCollector
from gemmapy.api import health
from gemmapy.api.application import create_api
from gemmapy.gateway.asked import ENDPOINTS
from gemmapy.storage import recount

Kind = Literal["public", "signed in", "own", "admin"]
PUBLIC: Kind = "public"
"""Nobody needs a credential, and nothing of anybody's is told."""
SIGNED_IN: Kind = "signed in"
"""Everybody who is known, and the same for all."""
OWN: Kind = "own"
"""Everybody who is known, and each gets their own: another's things are as if they were not there."""
ADMIN: Kind = "admin"

ROUTES: dict[tuple[str, str], Kind] = {
    ("GET", "/openapi.json"): PUBLIC,
    ("GET", "/api/health"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("POST", "/api/login"): PUBLIC,
    ("POST", "/api/session"): PUBLIC,
    ("GET", "/api/session"): OWN,
    ("DELETE", "/api/session"): OWN,
    ("DELETE", "/api/sessions"): OWN,
    ("GET", "/api/profile"): OWN,
    ("POST", "/api/profile/password"): OWN,
    ("GET", "/api/keys"): OWN,
    ("POST", "/api/keys"): OWN,
    ("PATCH", "/api/keys/{key_id}"): OWN,
    ("DELETE", "/api/keys/{key_id}"): OWN,
    ("GET", "/api/metrics/dashboard"): OWN,
    ("GET", "/api/metrics/timeseries"): OWN,
    ("GET", "/api/metrics/endpoints"): OWN,
    ("GET", "/api/metrics/distribution"): OWN,
    ("GET", "/api/metrics/patterns"): OWN,
    ("GET", "/api/metrics/requests"): OWN,
    ("GET", "/api/metrics/requests/{metric_id}"): OWN,
    ("POST", "/api/metrics/{metric_id}/rate"): OWN,
    ("GET", "/api/metrics/users"): ADMIN,
    ("GET", "/api/metrics/projects"): ADMIN,
    ("GET", "/api/live"): OWN,
    ("GET", "/api/running"): OWN,
    ("GET", "/api/limits"): OWN,
    ("GET", "/api/costs/summary"): OWN,
    ("GET", "/api/costs/elsewhere"): OWN,
    ("GET", "/api/costs/projection"): OWN,
    ("GET", "/api/statements"): OWN,
    ("GET", "/api/statements/{number}"): OWN,
    ("GET", "/api/rag/documents"): OWN,
    ("POST", "/api/rag/documents"): OWN,
    ("GET", "/api/rag/documents/{document_id}"): OWN,
    ("DELETE", "/api/rag/documents/{document_id}"): OWN,
    ("GET", "/api/rag/collections"): OWN,
    ("POST", "/api/rag/collections"): OWN,
    ("PATCH", "/api/rag/collections/{collection_id}"): OWN,
    ("DELETE", "/api/rag/collections/{collection_id}"): OWN,
    ("POST", "/api/rag/search"): OWN,
    ("GET", "/api/rag/stats"): OWN,
    ("GET", "/api/prices/catalogue"): SIGNED_IN,
    ("GET", "/api/prices/in-force"): SIGNED_IN,
    ("GET", "/api/cache/stats"): SIGNED_IN,
    ("GET", "/api/queue/stats"): SIGNED_IN,
    ("GET", "/api/retry/stats"): SIGNED_IN,
    ("GET", "/api/tags"): SIGNED_IN,
    ("GET", "/api/ps"): SIGNED_IN,
    ("GET", "/api/version"): SIGNED_IN,
    ("POST", "/api/show"): SIGNED_IN,
    ("GET", "/api/ollama/models"): SIGNED_IN,
    ("GET", "/api/ollama/status"): SIGNED_IN,
    ("GET", "/v1/models"): SIGNED_IN,
    ("GET", "/v1/models/{model:path}"): SIGNED_IN,
    ("POST", "/api/cache/clear"): ADMIN,
    ("POST", "/api/cache/clear-expired"): ADMIN,
    ("POST", "/api/pull"): ADMIN,
    ("POST", "/api/push"): ADMIN,
    ("POST", "/api/create"): ADMIN,
    ("POST", "/api/copy"): ADMIN,
    ("DELETE", "/api/delete"): ADMIN,
    ("HEAD", "/api/blobs/{digest}"): ADMIN,
    ("POST", "/api/blobs/{digest}"): ADMIN,
}
"""But for the metered ones (`ENDPOINTS`), which are everybody's own, and for `/api/admin/...`, which is for admins."""

PLACES = {
    "key_id": "key",
    "document_id": "document",
    "collection_id": "collection",
    "metric_id": "request",
    "number": "statement",
    "user_id": "user",
    "project_id": "project",
    "price_id": "price",
    "machine_id": "machine",
}
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/api/profile/password"): {"current_password": PASSWORD, "new_password": "something else"},
    ("POST", "/api/keys"): {"name": "k"},
    ("PATCH", "/api/keys/{key_id}"): {"name": "mine now"},
    ("POST", "/api/metrics/{metric_id}/rate"): {"rating": -1},
    ("POST", "/api/rag/documents"): {"content": "Something."},
    ("POST", "/api/rag/collections"): {"name": "c"},
    ("PATCH", "/api/rag/collections/{collection_id}"): {"name": "mine now", "shared_with_all": True},
    ("POST", "/api/rag/search"): {"query": "plans"},
    ("POST", "/api/show"): {"model": "llama3"},
    ("POST", "/api/admin/users"): {"username": "mallory", "password": PASSWORD, "is_admin": True},
    ("PATCH", "/api/admin/users/{user_id}"): {"is_admin": True, "disabled": True},
    ("POST", "/api/admin/users/{user_id}/keys"): {"name": "k"},
    ("POST", "/api/admin/projects"): {"name": "p"},
    ("POST", "/api/admin/prices"): {"model": "m", "input_cost": 1, "output_cost": 1},
    ("POST", "/api/admin/prices/copy"): {"model": "openai/gpt-4o"},
    ("PUT", "/api/admin/costs/pricing"): {"model": "m", "input_cost": 1, "output_cost": 1},
    ("POST", "/api/admin/costs/reprice"): {"from": "2020-01-01T00:00:00Z", "apply": True, "reason": "none"},
    ("POST", "/api/admin/months"): {"month": "2026-04"},
    ("POST", "/api/admin/machines/{machine_id}/price"): {"model": "m"},
    ("POST", "/api/admin/machines"): {
        "name": "box",
        "upstreams": [],
        "watts_busy": 1,
        "watts_idle": 1,
        "kwh_cost": 1,
        "purchase_cost": 1,
        "lifetime_years": 1,
    },
    ("POST", "/api/pull"): {"model": "m"},
    ("POST", "/api/push"): {"model": "m"},
    ("POST", "/api/create"): {"model": "m"},
    ("POST", "/api/copy"): {"source": "a", "destination": "b"},
    ("DELETE", "/api/delete"): {"model": "m"},
    ("POST", "/api/blobs/{digest}"): b"blob",
}
QUERIES = {"/api/prices/in-force": "?model=llama3"}
ASKED = {"model": "llama3", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "input": "x", "query": "x"}


def routes_of(routes: list[BaseRoute]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for route in routes:
        assert isinstance(route, Route | APIRoute), f"{route} is of a kind that this test does not know"
        methods = set(route.methods or ())
        if not isinstance(route, APIRoute):
            methods.discard("HEAD")
        found |= {(method, route.path) for method in methods}
    return found


def kind_of(method: str, path: str) -> Kind | None:
    if path.startswith("/api/admin/"):
        return ADMIN
    if path in ENDPOINTS:
        return OWN if method == "POST" else None
    return ROUTES.get((method, path))


@dataclass
class Stage:
    """ada, an admin, who has one of everything; bob, a user, who has nothing; and what belongs to whom."""

    api: RunningGateway
    upstream: ScriptedUpstream
    things: dict[str, int]
    bobs_token: str
    bobs_key: str
    admins_limited_key: str
    routes: list[tuple[str, str]]

    def path(self, path: str) -> str:
        for name, thing in PLACES.items():
            path = path.replace(f"{{{name}}}", str(self.things[thing]))
        path = path.replace("{digest}", f"sha256:{'0' * 64}").replace("{model:path}", "llama3")
        return path + QUERIES.get(path, "")

    def ask(self, method: str, path: str, key: str | None, headers: dict[str, str] | None = None) -> Answered:
        body = ASKED if path in ENDPOINTS else BODIES.get((method, path))
        raw = self.api.request(method, self.path(path), body, key=key, headers=headers, preload=False)
        if path == "/api/live" and raw.status == 200:
            said = raw.read1() + raw.read1()
            raw.close()
            raw.drain_conn = lambda: None
            answer = Answered.__new__(Answered)
            answer.status, answer.headers, answer.body = raw.status, raw.headers, said
            return answer
        answer = Answered.__new__(Answered)
        answer.status, answer.headers, answer.body = raw.status, raw.headers, raw.read()
        raw.release_conn()
        return answer

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is written down but for when a key was used, and the rows that say what was refused."""
        with self.api.store.read() as connection:
            tables = [
                name
                for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
                if not name.startswith(("llm_metrics", "rollup_", "labels", "inflight", "revisions", "sqlite_"))
            ]
            found = {
                name: [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")] for name in tables
            }
            columns = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(api_keys)")]
            used = columns.index("last_used_at")
            found["api_keys"] = [row[:used] + row[used + 1 :] for row in found["api_keys"]]
            mine = "SELECT * FROM llm_metrics WHERE user_id = " + str(self.things["user"])
            found["llm_metrics"] = [tuple(row) for row in connection.exec_driver_sql(mine)]
            return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stage]:
    with (
        ScriptedUpstream() as upstream,
        gateway(tmp_path_factory.mktemp("access") / "data", f"ollama={upstream.url}") as api,
    ):
        upstream.on("/api/show", whole({"details": {}}))
        upstream.on("/api/ps", whole({"models": []}))
        yield set_up(api, upstream)


def set_up(api: RunningGateway, upstream: ScriptedUpstream) -> Stage:
    def made(path: str, body: Any, key: str = "") -> Any:
        answer = api.post(path, body, key=key)
        assert answer.status == 201, answer.body
        return answer.json

    ada = made("/api/admin/users", {"username": "ada", "password": PASSWORD, "is_admin": True})["id"]
    bob = made("/api/admin/users", {"username": "bob", "password": PASSWORD})["id"]
    adas = made(f"/api/admin/users/{ada}/keys", {"name": "adas-first"})["key"]
    things = {"user": ada, "key": made("/api/keys", {"name": "adas-key"}, adas)["id"]}
    things["project"] = made("/api/admin/projects", {"name": "adas-project"})["id"]
    api.request("PUT", f"/api/admin/projects/{things['project']}/members/{ada}")
    things["collection"] = made("/api/rag/collections", {"name": "adas-collection"}, adas)["id"]
    written = {"content": "The plans of adas-document.", "title": "adas-document", "collection": "adas-collection"}
    things["document"] = made("/api/rag/documents", written, adas)["id"]
    collector = MetricsCollector(api.store)
    collector.record(ada, "adas-model", "/x", prompt_tokens=10, response_tokens=10, project_id=things["project"])
    api.store.write(lambda c: c.exec_driver_sql("UPDATE llm_metrics SET created_at = '2026-03-05 10:00:00.000'"))
    api.store.write(recount.rebuild)
    made("/api/admin/months", {"month": "2026-03"})
    things["statement"] = api.get("/api/statements", key=adas).json["statements"][0]["number"]
    things["request"] = collector.record(ada, "adas-model", "/adas-endpoint", prompt_tokens=10, response_tokens=10)
    price = {"model": "adas-model", "input_cost": 1, "output_cost": 1, "effective_at": "2099-01-01T00:00:00Z"}
    things["price"] = made("/api/admin/prices", price)["id"]
    machine = BODIES["POST", "/api/admin/machines"]
    things["machine"] = made("/api/admin/machines", {**machine, "name": "adas-machine"})["id"]
    return Stage(
        api=api,
        upstream=upstream,
        things=things,
        bobs_token=api.post("/api/login", {"username": "bob", "password": PASSWORD}, key=None).json["token"],
        bobs_key=made(f"/api/admin/users/{bob}/keys", {"name": "k"})["key"],
        admins_limited_key=made("/api/keys", {"name": "elsewhere", "routes": ["/api/nowhere"]})["key"],
        routes=sorted(
            routes_of(create_api(api.services).router.routes)
            | {("POST", path) for path in ENDPOINTS}
            | {("GET", path) for path in health.paths()},
            key=lambda route: (route[1], route[0]),
        ),
    )


def changes_nothing(stage: Stage, check: Callable[[], None]) -> None:
    before, asked = stage.state(), len(stage.upstream.requests)
    check()
    assert stage.state() == before
    # What lists the models may be asked at any moment; nothing else may.
    assert {request.path for request in stage.upstream.requests[asked:]} <= {"/api/tags"}


def test_every_route_is_in_the_table(stage: Stage) -> None:
    unknown = [route for route in stage.routes if kind_of(*route) is None]
    assert not unknown, f"say in tests/contract/test_access.py who may use {unknown}"
    assert not set(ROUTES) - set(stage.routes), "there are no such routes any more"
    assert len(stage.routes) > 80


def test_an_admins_route_has_the_word_in_its_path_or_is_one_that_is_known(stage: Stage) -> None:
    """What the reference says is what is enforced: `Admins:` in a summary, and nowhere else."""
    described = create_api(stage.api.services).openapi()["paths"]
    for method, path in stage.routes:
        operation = described.get(path.replace("{model:path}", "{model}"), {}).get(method.lower())
        if operation is None:
            continue
        assert operation["summary"].startswith("Admins:") == (kind_of(method, path) == ADMIN), (method, path)
        assert ("security" in operation) == (kind_of(method, path) != PUBLIC), (method, path)


def test_without_a_credential_nothing_but_the_public_is_answered(stage: Stage) -> None:
    forged = (None, "gp-" + "a" * 43, "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "Basic")

    def check() -> None:
        for method, path in stage.routes:
            for key in forged if kind_of(method, path) != PUBLIC else ():
                answer = stage.ask(method, path, key)
                assert answer.status == 401, (method, path, key, answer.status, answer.body)
                assert b"adas" not in answer.body

    changes_nothing(stage, check)


def test_what_is_public_tells_nothing_of_anybody(stage: Stage) -> None:
    for method, path in stage.routes:
        if kind_of(method, path) == PUBLIC and method == "GET":
            answer = stage.ask(method, path, None)
            assert answer.status == 200
            assert b"adas" not in answer.body
            assert stage.upstream.url.encode() not in answer.body


def test_an_admins_route_refuses_users_and_keys_that_are_for_something_else(stage: Stage) -> None:
    def check() -> None:
        for method, path in stage.routes:
            if kind_of(method, path) == ADMIN:
                for key in (stage.bobs_token, stage.bobs_key, stage.admins_limited_key):
                    answer = stage.ask(method, path, key)
                    assert answer.status == 403, (method, path, answer.status, answer.body)

    changes_nothing(stage, check)


def test_a_key_for_some_routes_opens_no_other(stage: Stage) -> None:
    def check() -> None:
        for method, path in stage.routes:
            if kind_of(method, path) != PUBLIC:
                answer = stage.ask(method, path, stage.admins_limited_key)
                assert answer.status == 403, (method, path, answer.status, answer.body)

    changes_nothing(stage, check)


def test_anothers_id_is_as_if_it_were_not_there(stage: Stage) -> None:
    tried: list[tuple[str, str]] = []

    def check() -> None:
        for method, path in stage.routes:
            if kind_of(method, path) == OWN and "{" in path:
                tried.append((method, path))
                for key in (stage.bobs_token, stage.bobs_key):
                    answer = stage.ask(method, path, key)
                    assert answer.status in (403, 404), (method, path, answer.status, answer.body)
                    assert b"adas" not in answer.body

    changes_nothing(stage, check)
    assert len(tried) >= 9


def test_nothing_that_a_user_can_read_shows_anothers(stage: Stage) -> None:
    for method, path in stage.routes:
        if method == "GET" and kind_of(method, path) in (OWN, SIGNED_IN) and "{" not in path:
            answer = stage.ask(method, path, stage.bobs_token)
            assert answer.status == 200, (path, answer.body)
            assert b"ada" not in answer.body, (path, answer.body)
    found = stage.ask("POST", "/api/rag/search", stage.bobs_key)
    assert found.json["results"] == []


def test_an_admin_does_see_them(stage: Stage) -> None:
    """Or the test before could not fail."""
    for path in ("/api/metrics/requests", "/api/metrics/endpoints", "/api/costs/summary", "/api/admin/users"):
        assert b"ada" in stage.api.get(path + "?").body, path


def test_nobody_asks_for_anothers_figures(stage: Stage) -> None:
    """Every route that takes `user_id`: another's is refused, and an id of a thing narrows what is one's own."""
    described = create_api(stage.api.services).openapi()["paths"]
    tried = 0
    for method, path in stage.routes:
        operation = described.get(path, {}).get(method.lower(), {})
        names = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
        if kind_of(method, path) != OWN or method != "GET":
            continue
        if "user_id" in names:
            tried += 1
            answer = stage.api.get(f"{path}?user_id={stage.things['user']}", key=stage.bobs_token)
            assert answer.status == 403, (path, answer.body)
        narrowed = {"key": "key", "before": "request", "after": None, "collection": "collection"}
        for name in names & set(narrowed):
            thing = narrowed[name]
            value = (stage.things[thing] + (name == "before")) if thing else 0
            answer = stage.api.get(f"{path}?{name}={value}", key=stage.bobs_token)
            assert answer.status in (200, 404), (path, answer.body)
            assert b"ada" not in answer.body, (path, answer.body)
    assert tried >= 8


def test_a_cookie_changes_nothing_without_the_pages_csrf_text(stage: Stage) -> None:
    signed_in = stage.api.post("/api/session", {"username": "ada", "password": PASSWORD}, key=None)
    cookie = signed_in.headers["Set-Cookie"].split(";")[0]
    tried = 0

    def check() -> None:
        nonlocal tried
        for method, path in stage.routes:
            if method in ("GET", "HEAD") or kind_of(method, path) == PUBLIC:
                continue
            tried += 1
            for extra in ({}, {"X-CSRF-Token": "guessed"}, {"Sec-Fetch-Site": "cross-site"}):
                answer = stage.ask(method, path, None, {"Cookie": cookie, **extra})
                assert answer.status == 403, (method, path, answer.status, answer.body)
                assert b"CSRF" in answer.body or b"another site's page" in answer.body

    changes_nothing(stage, check)
    assert tried > 40
    # Reading is refused where the browser says that another site asks.
    for method, path in stage.routes:
        if method == "GET" and kind_of(method, path) != PUBLIC:
            answer = stage.ask(method, path, None, {"Cookie": cookie, "Sec-Fetch-Site": "cross-site"})
            assert answer.status == 403, (path, answer.body)


@pytest.mark.parametrize("change", ["disabled", "deleted"])
def test_who_is_gone_is_out_everywhere(stage: Stage, change: str) -> None:
    api = stage.api
    made = api.post("/api/admin/users", {"username": f"eve-{change}", "password": PASSWORD, "is_admin": True}).json
    token = api.post("/api/login", {"username": f"eve-{change}", "password": PASSWORD}, key=None).json["token"]
    key = api.post(f"/api/admin/users/{made['id']}/keys", {"name": "k"}).json["key"]
    assert api.get("/api/admin/users", key=token).status == api.get("/api/admin/users", key=key).status == 200
    if change == "disabled":
        assert api.request("PATCH", f"/api/admin/users/{made['id']}", {"disabled": True}).status == 200
    else:
        assert api.request("DELETE", f"/api/admin/users/{made['id']}").status == 200

    def check() -> None:
        for method, path in stage.routes:
            if kind_of(method, path) != PUBLIC:
                for credential in (token, key):
                    assert stage.ask(method, path, credential).status == 401, (method, path)

    changes_nothing(stage, check)
