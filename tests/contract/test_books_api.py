"""The books over HTTP: pricing anew, months and their statements, retention."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.test_analytics import new_user
from tests.support.gateway import RunningGateway

from gemmapy import MetricsCollector
from gemmapy.storage import recount

SINCE = "2020-01-01T00:00:00Z"


@pytest.fixture
def used(running: RunningGateway) -> tuple[RunningGateway, int, str]:
    """A user with one request of a model without a price, and their token."""
    user_id, token = new_user(running, "ada")
    MetricsCollector(running.store).record(user_id, "phi", "/x", prompt_tokens=1000, response_tokens=1000)
    return running, user_id, token


def test_the_past_is_priced_anew_by_admins(used: tuple[RunningGateway, int, str]) -> None:
    running, user_id, token = used
    running.request("PUT", "/api/admin/costs/pricing", {"model": "phi", "input_cost": 1, "output_cost": 2})
    body: dict[str, Any] = {"from": SINCE, "user_id": user_id, "unpriced_only": True}
    assert running.post("/api/admin/costs/reprice", body, key=token).status == 403
    preview = running.post("/api/admin/costs/reprice", body)
    assert (preview.status, preview.json["applied"], preview.json["difference"]) == (200, False, 3)
    refused = running.post("/api/admin/costs/reprice", {**body, "apply": True})
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")
    applied = running.post("/api/admin/costs/reprice", {**body, "apply": True, "reason": "it has a price now"}).json
    assert (applied["applied"], applied["changed"]) == (True, 1)
    assert running.get("/api/costs/summary", key=token).json["total_cost"] == 3
    [entry] = running.get("/api/admin/costs/repricings").json["repricings"]
    assert (entry["by"], entry["reason"], entry["difference"]) == ("admin", "it has a price now", 3)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": "2026-01-01"},
        {"from": SINCE, "to": "2019-01-01T00:00:00Z"},
        {"from": SINCE, "project": "none"},
        {"from": SINCE, "prices_at": "2999-01-01T00:00:00Z"},
        {"from": SINCE, "apply": "yes"},
    ],
)
def test_what_cannot_be_priced_is_told(running: RunningGateway, body: dict[str, Any]) -> None:
    answer = running.post("/api/admin/costs/reprice", body)
    assert answer.status == 400
    assert set(answer.json) == {"error", "code", "hint"}


def test_a_month_is_closed_and_each_sees_their_own_statement(used: tuple[RunningGateway, int, str]) -> None:
    running, _, token = used
    running.store.write(lambda c: c.exec_driver_sql("UPDATE llm_metrics SET created_at = '2026-03-05 10:00:00.000'"))
    running.store.write(recount.rebuild)
    assert running.post("/api/admin/months", {"month": "2026-03"}, key=token).status == 403
    dry = running.post("/api/admin/months", {"month": "2026-03", "dry_run": True})
    assert (dry.status, dry.json["closed"]) == (200, False)
    closed = running.post("/api/admin/months", {"month": "2026-03"})
    assert (closed.status, closed.json["requests"]) == (201, 1)
    assert running.post("/api/admin/months", {"month": "2026-03"}).status == 409
    assert running.get("/api/admin/months").json["months"][0]["statements"] == 1
    assert len(running.get("/api/admin/statements?month=2026-03").json["statements"]) == 1
    [own] = running.get("/api/statements", key=token).json["statements"]
    number = own["number"]
    assert running.get(f"/api/statements/{number}", key=token).json["subject"] == "ada"
    printed = running.get(f"/api/statements/{number}?format=html", key=token)
    assert "default-src 'none'" in printed.headers["content-security-policy"]
    assert running.get(f"/api/statements/{number}?format=csv", key=token).body.startswith(b"statement,month")
    _, other = new_user(running, "bob")
    assert running.get(f"/api/statements/{number}", key=other).status == 404
    assert running.get("/api/statements", key=other).json == {"statements": [], "next": None}


def test_retention_says_what_it_does(running: RunningGateway) -> None:
    assert running.get("/api/admin/retention").json == {
        "retention_days": None,
        "whole_from": None,
        "retired_days": 0,
        "retired_requests": 0,
        "due": [],
    }
