"""The page over HTTP: what browsers are told about it, and about everything else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Generator

import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream

HTML = {"Accept": "text/html,*/*;q=0.8"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningGateway]:
    with (
        ScriptedUpstream() as upstream,
        gateway(tmp_path_factory.mktemp("pages") / "data", f"ollama={upstream.url}") as started,
    ):
        yield started


def policy_of(header: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (directive.split() for directive in header.split(";"))}


def test_the_root_is_a_page_for_people_and_ollama_for_programs(api: RunningGateway) -> None:
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        greeting = api.get("/", key=None, headers=accept)
        assert (greeting.body, greeting.headers["Vary"]) == (b"Ollama is running", "Accept")
    assert api.request("HEAD", "/", key=None).status == 200
    page = api.get("/", key=None, headers=HTML)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Accept" in page.headers["Vary"]
    assert b"{{" not in page.body
    assert api.post("/", {}, key=None).status == 405


def test_the_page_may_load_and_reach_this_gateway_and_nothing_else(api: RunningGateway) -> None:
    headers = api.get("/", key=None, headers=HTML).headers
    assert policy_of(headers["Content-Security-Policy"]) == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "font-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]


def test_every_file_that_the_page_names_is_there(api: RunningGateway) -> None:
    page = api.get("/", key=None, headers=HTML).body.decode()
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) >= 4
    for file in files:
        got = api.get(file, key=None)
        assert got.status == 200, file
        assert "immutable" in got.headers["Cache-Control"]
        assert got.headers["X-Content-Type-Options"] == "nosniff"


def test_the_reference_loads_nothing_from_elsewhere_and_runs_no_script_but_its_own(api: RunningGateway) -> None:
    answer = api.get("/docs", key=None)
    page = answer.body.decode()
    assert "https://" not in page
    for file in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert api.get(file, key=None).status == 200, file
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = policy_of(answer.headers["Content-Security-Policy"])
    assert policy["script-src"] == ["'self'", f"'sha256-{digest}'"]
    assert policy["default-src"] == ["'none'"]


def test_what_is_private_is_not_stored_and_not_taken_for_a_page(api: RunningGateway) -> None:
    for path in ("/api/profile", "/api/metrics/dashboard", "/api/nothing", "/openapi.json"):
        headers = api.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
