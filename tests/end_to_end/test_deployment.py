"""How it is deployed: behind a proxy, under a path, with TLS, before several upstreams, on a disk that is full."""

from __future__ import annotations

import json
import re
import sqlite3
import ssl
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, ndjson, whole

from gemmapy.storage import ledger

ASK = {"model": "llama3", "prompt": "x", "stream": False}
ANSWER = {"model": "llama3", "response": "Hi", "done": True, "prompt_eval_count": 1, "eval_count": 1}


def test_under_a_base_path_every_route_is_found_with_and_without_it(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole(ANSWER))
    ollama.on("/api/pull", whole({"status": "success"}))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", base_path="/llm") as running:
        for prefix in ("", "/llm"):
            assert running.post(f"{prefix}/api/generate", ASK).status == 200
            assert running.get(f"{prefix}/api/profile").status == 200
            assert running.post(f"{prefix}/k/{running.key}/api/generate", ASK, key=None).status == 200
            assert running.post(f"{prefix}/api/pull", {"model": "x"}).status == 200
        page = running.get("/llm/docs", key=None).body.decode()
        assert "/llm/openapi.json" in page
        for page_path in ("/llm", "/llm/", "/llm/docs"):
            page = running.get(page_path, key=None, headers={"Accept": "text/html"}).body.decode()
            files = re.findall(r'(?:src|href)="([^"]+)"', page)
            assert files
            for file in files:
                assert file.startswith("/llm/web/")
                assert running.get(file, key=None).status == 200
        assert running.get("/llm/openapi.json", key=None).json["servers"] == [{"url": "/llm"}]


def test_a_trusted_proxy_says_who_guesses_passwords(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with gateway(tmp_path / "d", f"ollama={ollama.url}", trusted_proxies="127.0.0.1") as running:
        wrong = {"username": "admin", "password": "wrong password"}
        for _ in range(5):
            running.post("/api/login", wrong, key=None, headers={"X-Forwarded-For": "192.0.2.7"})
        assert running.post("/api/login", wrong, key=None, headers={"X-Forwarded-For": "192.0.2.7"}).status == 429
        right = {"username": "admin", "password": PASSWORD}
        assert running.post("/api/login", right, key=None, headers={"X-Forwarded-For": "192.0.2.8"}).status == 200


def test_nobody_else_is_believed_about_addresses(running: RunningGateway) -> None:
    wrong = {"username": "admin", "password": "wrong password"}
    answers = [
        running.post("/api/login", wrong, key=None, headers={"X-Forwarded-For": f"192.0.2.{number}"})
        for number in range(7)
    ]
    assert answers[-1].status == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1


def test_tls(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "1", "-keyout", key, "-out", cert, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    with gateway(tmp_path / "d", f"ollama={ollama.url}", tls_cert=cert, tls_key=key) as running:
        context = ssl.create_default_context(cafile=str(cert))
        url = running.url.replace("http://127.0.0.1", "https://localhost")
        with urllib.request.urlopen(f"{url}/api/health", context=context) as answer:
            assert json.load(answer)["status"] == "healthy"


def test_a_browser_page_may_call_where_its_origin_is_allowed(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole(ANSWER, Access_Control_Allow_Origin="*"))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", cors_origins="https://app.example") as running:
        headers = {"Origin": "https://app.example"}
        asked = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert running.request("OPTIONS", "/api/generate", key=None, headers=asked).status == 200
        answer = running.post("/api/generate", ASK, headers=headers)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        stranger = running.post("/api/generate", ASK, headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in stranger.headers


def test_a_model_is_asked_of_the_upstream_that_has_it(tmp_path: Path) -> None:
    with ScriptedUpstream("llama3:latest", "both") as one, ScriptedUpstream("phi4", "both") as two:
        for upstream in (one, two):
            upstream.on("/api/generate", whole(ANSWER))
            upstream.on("/v1/chat/completions", whole({"choices": [], "usage": {"prompt_tokens": 1}}))
        with gateway(tmp_path / "d", f"ollama={one.url}", f"vllm:openai={two.url}/v1") as running:
            for model in ("llama3", "llama3:latest", "both"):
                running.post("/api/generate", {**ASK, "model": model})
            running.post("/v1/chat/completions", {"model": "phi4", "messages": []})
            asked = [row["upstream"] for row in running.rows()]
            assert asked[:2] == ["ollama", "ollama"]
            assert asked[2] in ("ollama", "vllm")  # both have it, and share its load
            assert asked[3] == "vllm"
            names = [model["name"] for model in running.get("/api/tags").json["models"]]
            assert names == ["llama3:latest", "both", "phi4"]
            assert [m["id"] for m in running.get("/v1/models").json["data"]] == names
            said = running.get("/api/ollama/status").json
            assert said["status"] == "online"
            assert [(state["name"], state["models"]) for state in said["upstreams"]] == [("ollama", 2), ("vllm", 2)]


def test_a_model_that_was_just_pulled_is_found(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    assert running.post("/api/generate", {**ASK, "model": "new"}).status == 404
    ollama.on("/api/tags", whole({"models": [{"name": "new:latest"}]}))
    ollama.on("/api/generate", whole(ANSWER))
    deadline = time.monotonic() + 5
    while running.post("/api/generate", {**ASK, "model": "new"}).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_models_of_an_upstream_that_went_down_are_unreachable_and_not_unknown(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.close()
    assert running.post("/api/generate", ASK).status == 503
    deadline = time.monotonic() + 5
    while running.post("/api/generate", {**ASK, "model": "other"}).status != 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_openais_client_over_a_server_that_speaks_only_ollamas_dialect(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/chat", ndjson({"message": {"content": "Hi"}}, {"message": {"content": ""}, **ANSWER}))
    upstream = {"kind": "ollama", "url": ollama.url, "dialects": ["ollama"]}
    with gateway(tmp_path / "d", upstreams=(upstream,)) as running:
        answer = running.post("/v1/chat/completions", {"model": "llama3", "messages": [], "stream": True})
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert running.row()["total_tokens"] == 2


@pytest.mark.parametrize("path", ["/api/generate", "/v1/chat/completions", "/api/ollama/generate"])
def test_a_full_disk_turns_requests_away_until_there_is_space(
    running: RunningGateway, ollama: ScriptedUpstream, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    ollama.on("/api/generate", whole(ANSWER))
    ollama.on("/v1/chat/completions", whole(usage))
    full = threading.Event()
    full.set()
    real = ledger.write

    def write(*arguments: Any) -> list[int]:
        if full.is_set():
            raise OperationalError("INSERT", None, sqlite3.OperationalError("database or disk is full"))
        return real(*arguments)

    monkeypatch.setattr(ledger, "write", write)
    ask = {**ASK, "messages": []}
    refused = running.post(path, ask)
    assert refused.status == 503
    assert b"database or disk is full" in refused.body
    assert running.get("/readyz").status == 503
    assert running.post("/api/keys", {"name": "x"}).status == 503
    full.clear()
    deadline = time.monotonic() + 10
    while running.get("/readyz").status != 200:
        assert time.monotonic() < deadline, "nobody noticed that there is space again"
        time.sleep(0.02)
    assert running.post(path, ask).status == 200
    assert running.row()["status"] == 200
    assert running.in_flight() == 0
