"""The same question again: what the client gets, that no upstream is asked, and what is written down."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ollama as ollama_client
import openai
import pytest
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import Cut, Hold, ScriptedUpstream, chunked, ndjson, sse, whole

from gemmapy.metering.audit import Audit, audit

ASK: dict[str, Any] = {"model": "llama3", "prompt": "Why?", "temperature": 0}
NATIVE: dict[str, Any] = {"model": "llama3", "prompt": "Why?", "options": {"temperature": 0}}
CHAT: dict[str, Any] = {"model": "llama3", "messages": [{"role": "user", "content": "Why?"}]}
ON = {"X-GemmaPy-Cache": "on"}
DONE = {
    "model": "llama3",
    "created_at": "2026-11-24T10:00:00Z",
    "response": "",
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 26,
    "eval_count": 298,
    "eval_duration": 4_700_000_000,
}
# Spacing and fields that no decoder and encoder would bring back the same.
ODD = b'{"zebra":1,  "model":"llama3","response":"Because.","done":false,"x":[1.0,1e5]}\n'
LINES = (ODD, json.dumps(DONE).encode() + b"\n")
WHOLE = b'{"model":"llama3" , "response":"Because.","done":true,"prompt_eval_count":26,"eval_count":298}'
COST = 26 * 150 + 298 * 300
CHUNK = {"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
FINISH = {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}}


def _stats(running: RunningGateway) -> Any:
    return running.get("/api/cache/stats").json


def test_the_second_answer_is_the_first_and_costs_nothing(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole(WHOLE))
    first = running.post("/api/ollama/generate", ASK)
    second = running.post("/api/ollama/generate", dict(reversed(ASK.items())))
    assert [answer.headers["X-GemmaPy-Cache"] for answer in (first, second)] == ["miss", "hit"]
    assert [answer.json["cached"] for answer in (first, second)] == [False, True]
    assert second.body.startswith(WHOLE[:-1])
    assert second.headers["Content-Type"] == first.headers["Content-Type"]
    assert (first.json["cost"], second.json["cost"]) == (pytest.approx(COST / 1e9), 0)
    assert len(ollama.asked("/api/generate")) == 1
    one, two = running.rows()
    assert second.json["metric_id"] == two["id"]
    assert (two["cached"], two["cost_nusd"], two["saved_nusd"], two["attempts"]) == (1, 0, one["cost_nusd"], 0)
    assert (one["cost_nusd"], one["saved_nusd"]) == (COST, None)
    assert (two["prompt_tokens"], two["response_tokens"], two["estimated"]) == (26, 298, 0)
    assert (two["status"], two["upstream"], two["tokens_per_second"]) == (200, None, None)
    assert running.in_flight() == 0


def test_what_a_hit_would_cost_is_said_at_the_price_in_force(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole(WHOLE))
    running.post("/api/ollama/generate", ASK)
    running.request("PUT", "/api/admin/costs/pricing", {"model": "llama3", "input_cost": 1, "output_cost": 2})
    running.post("/api/ollama/generate", ASK)
    assert running.row(2)["saved_nusd"] == 26 * 1_000_000 + 298 * 2_000_000
    stats = _stats(running)
    assert stats["saved_cost"] == pytest.approx(26 * 0.001 + 298 * 0.002)
    assert (stats["hits"], stats["misses"], stats["hit_rate"], stats["entries"]) == (1, 1, 0.5, 1)
    dashboard = running.get("/api/metrics/dashboard").json
    assert (dashboard["cache_hits"], dashboard["cache_hit_rate"]) == (1, 0.5)
    assert list(audit(running.store, Audit())) == []


def test_a_stream_is_replayed_byte_for_byte_and_as_a_whole(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", chunked(LINES, "application/x-ndjson"))
    first = running.post("/api/generate", NATIVE, headers=ON)
    second = running.post("/api/generate", NATIVE, headers=ON)
    assert first.body == second.body == b"".join(LINES)
    assert second.headers["Content-Type"] == "application/x-ndjson"
    third = running.post("/api/generate", {**NATIVE, "stream": False}, headers=ON)
    assert third.json == {**DONE, "response": "Because."}
    ours = running.post("/api/ollama/generate", {**ASK, "stream": True})
    assert ours.lines[0] == json.loads(ODD)
    assert ours.lines[1] == {
        **DONE,
        **{name: ours.lines[1][name] for name in ("metric_id", "request_id")},
        "cached": True,
        "cost": 0,
    }
    assert len(ollama.asked("/api/generate")) == 1
    assert [row["cached"] for row in running.rows()] == [0, 1, 1, 1]


def test_a_whole_answer_is_replayed_as_a_stream(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole(WHOLE))
    running.post("/api/ollama/generate", ASK)
    lines = running.post("/api/ollama/generate/stream", ASK).lines
    assert [line["response"] for line in lines] == ["Because.", ""]
    assert (lines[-1]["done"], lines[-1]["eval_count"], lines[-1]["cached"]) == (True, 298, True)


def test_openais_clients_share_an_answer_streaming_and_not(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/v1/chat/completions", sse(CHUNK, FINISH, USAGE, "[DONE]"))
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0) as client:
        asked: dict[str, Any] = {**CHAT, "temperature": 0, "extra_headers": ON}
        texts: list[str] = []
        for options in (None, None, {"include_usage": True}):
            extra = {"stream_options": options} if options else {}
            chunks = list(client.chat.completions.create(**asked, stream=True, **extra))
            assert (chunks[-1].usage is not None) is (options is not None)
            texts.append("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
        assert texts == ["Hi"] * 3
        answer = client.chat.completions.create(**asked)
    assert answer.choices[0].message.content == "Hi"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 19
    assert len(ollama.asked("/v1/chat/completions")) == 1
    assert [row["cached"] for row in running.rows()] == [0, 1, 1, 1]
    assert {row["total_tokens"] for row in running.rows()} == {19}


def test_ollamas_client_gets_the_same_objects(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    message = {"role": "assistant", "content": "Hi", "thinking": "hm"}
    ollama.on("/api/chat", whole({"model": "llama3", "message": message, "done": True, "eval_count": 2}))
    client = ollama_client.Client(host=running.url, headers={"Authorization": f"Bearer {running.key}", **ON})
    first, second = (client.chat(**CHAT) for _ in range(2))
    assert first == second
    pieces = list(client.chat(**CHAT, stream=True))
    client._client.close()
    assert "".join(piece.message.content or "" for piece in pieces) == "Hi"
    assert pieces[0].message.thinking == "hm"
    assert pieces[-1].eval_count == 2
    assert len(ollama.asked("/api/chat")) == 1


def test_a_translated_answer_is_kept_in_the_clients_dialect(
    over_openai: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on("/v1/chat/completions", sse(CHUNK, FINISH, USAGE, "[DONE]"))
    asked = {**CHAT, "options": {"temperature": 0}}
    first, second = (over_openai.post("/api/chat", asked, headers=ON) for _ in range(2))
    assert first.body == second.body
    assert second.lines[-1]["eval_count"] == 7
    assert len(ollama.asked("/v1/chat/completions")) == 1


def test_by_default_only_deterministic_requests_of_gemmapys_endpoints(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", whole(WHOLE))
    warm = {"model": "llama3", "prompt": "Why?"}
    for path, body in (
        ("/api/ollama/generate", warm),
        ("/api/ollama/generate", {**ASK, "use_cache": False}),
        ("/api/generate", {**NATIVE, "stream": False}),
    ):
        for _ in range(2):
            answer = running.post(path, body)
            assert "X-GemmaPy-Cache" not in answer.headers
    assert len(ollama.asked("/api/generate")) == 6
    for _ in range(2):
        asked = running.post("/api/ollama/generate", {**warm, "use_cache": True})
    assert asked.json["cached"] is True
    assert len(ollama.asked("/api/generate")) == 7


def test_everybody_has_their_own_answers_unless_the_operator_shares_them(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", whole(WHOLE))
    for shared in (False, True):
        with gateway(tmp_path / f"{shared}", f"ollama={ollama.url}", cache_shared=shared) as running:
            user = running.post("/api/admin/users", {"username": "ada", "password": PASSWORD}).json["id"]
            key = running.post(f"/api/admin/users/{user}/keys", {"name": "k"}).json["key"]
            running.post("/api/ollama/generate", ASK)
            assert running.post("/api/ollama/generate", ASK, key=key).json["cached"] is shared
            trusted = running.post("/api/keys", {"name": "webui", "is_trusted": True}).json["key"]
            for person, is_cached in (("a@x", shared), ("a@x", True), ("b@x", shared)):
                headers = {"X-OpenWebUI-User-Email": person}
                answer = running.post("/api/ollama/generate", ASK, key=trusted, headers=headers)
                assert answer.json["cached"] is is_cached


def test_a_model_that_was_pulled_anew_never_gives_the_old_answer(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", whole(WHOLE))
    running.post("/api/ollama/generate", ASK)
    assert running.post("/api/ollama/generate", ASK).json["cached"] is True
    new = {"models": [{"name": "llama3", "model": "llama3", "size": 1, "digest": "another"}]}
    ollama.on("/api/tags", whole(new))
    ollama.on("/api/pull", ndjson({"status": "success"}))
    running.post("/api/pull", {"model": "llama3"})
    assert running.post("/api/ollama/generate", ASK).json["cached"] is False
    # Also where it was pulled behind the gateway's back, within a second.
    ollama.on("/api/tags", whole({"models": [{**new["models"][0], "digest": "a third"}]}))
    threading.Event().wait(1.05)
    assert running.post("/api/ollama/generate", ASK).json["cached"] is False


def test_only_complete_and_good_answers_are_kept(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    bad: list[Any] = [
        whole({"error": "no"}, 400),
        whole({"error": "no"}, 500),
        whole(b"<html>"),
        chunked([ODD, Cut()], "application/x-ndjson"),
        ndjson({"response": "Hi", "done": False}, {"error": "out of memory"}),
        chunked([ODD], "application/x-ndjson"),
    ]
    for script in bad:
        ollama.on("/api/generate", script)
        running.post("/api/generate", NATIVE, headers=ON)
        assert _stats(running)["entries"] == 0
    ollama.on("/api/generate", whole({"model": "llama3", "response": "", "done": True, "done_reason": "load"}))
    running.post("/api/generate", {"model": "llama3"}, headers=ON)
    assert _stats(running)["entries"] == 0


def test_an_answer_whose_client_left_is_not_kept(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    hold = Hold()
    ollama.on("/api/generate", chunked([ODD, hold, LINES[1]], "application/x-ndjson"))
    response = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert response.read1(10_000)
    response.close()
    assert running.row()["status"] == 499
    hold.event.set()
    assert _stats(running)["entries"] == 0


def test_another_models_answer_is_not_kept(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with (
        ScriptedUpstream("mistral") as other,
        gateway(
            tmp_path / "d", f"a:ollama={ollama.url}", f"b:ollama={other.url}", fallbacks="llama3>mistral"
        ) as running,
    ):
        ollama.on("/api/generate", whole({"error": "out of memory"}, 500))
        other.on("/api/generate", whole(WHOLE))
        assert running.post("/api/ollama/generate", ASK).json["fallback_from"] == "llama3"
        assert _stats(running)["entries"] == 0


# The same question at the same moment


@pytest.fixture
def held(running: RunningGateway, ollama: ScriptedUpstream) -> Generator[Hold]:
    """Ollama says the first line at once and the rest when told."""
    hold = Hold()
    ollama.on("/api/generate", chunked([ODD, hold, LINES[1]], "application/x-ndjson"))
    yield hold
    hold.event.set()


def _until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come to pass")


def _followers(running: RunningGateway) -> int:
    flights = list(running.services.gateway.cache._flights.values())
    return sum(flight.followers for flight in flights)


def test_the_same_question_at_the_same_moment_is_asked_once(
    running: RunningGateway, ollama: ScriptedUpstream, held: Hold
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(running.post, "/api/generate", NATIVE, headers=ON) for _ in range(6)]
        answers += [pool.submit(running.post, "/api/ollama/generate", ASK)]
        _until(lambda: _followers(running) == 6)
        _until(lambda: running.in_flight() == 7)
        held.event.set()
        got = [answer.result() for answer in answers]
    assert len(ollama.asked("/api/generate")) == 1
    assert sorted(answer.headers["X-GemmaPy-Cache"] for answer in got) == ["hit"] * 6 + ["miss"]
    streamed = {answer.body for answer in got[:6]}
    assert streamed == {b"".join(LINES)}
    assert got[6].json["response"] == "Because."
    rows = running.rows()
    assert sorted(row["cached"] for row in rows) == [0] + [1] * 6
    assert sum(row["cost_nusd"] for row in rows) == COST
    assert _stats(running)["joined"] == 6
    assert running.in_flight() == 0


def test_who_follows_a_stream_gets_it_as_it_comes(
    running: RunningGateway, ollama: ScriptedUpstream, held: Hold
) -> None:
    leader = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert leader.read1(10_000) == ODD
    follower = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert follower.read1(10_000) == ODD
    held.event.set()
    assert leader.read() == follower.read() == LINES[1]
    assert len(ollama.asked("/api/generate")) == 1


def test_the_work_goes_on_for_those_who_follow_when_the_first_leaves(
    running: RunningGateway, ollama: ScriptedUpstream, held: Hold
) -> None:
    leader = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert leader.read1(10_000) == ODD
    follower = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert follower.read1(10_000) == ODD
    leader.close()
    _until(lambda: any(flight.is_orphan for flight in running.services.gateway.cache._flights.values()))
    held.event.set()
    assert follower.read() == LINES[1]
    running.settle()
    first, second = sorted(running.rows(), key=lambda row: row["cached"])
    assert (first["status"], first["error"], first["cost_nusd"], first["estimated"]) == (499, 0, COST, 0)
    assert (second["status"], second["cost_nusd"], second["saved_nusd"]) == (200, 0, COST)
    assert len(ollama.asked("/api/generate")) == 1
    assert _stats(running)["entries"] == 0


def test_when_the_last_has_left_the_upstream_stops(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    from tests.support.scripted import Stall

    ollama.on("/api/generate", chunked([ODD, Stall()], "application/x-ndjson", finish=False))
    leader = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert leader.read1(10_000) == ODD
    follower = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert follower.read1(10_000) == ODD
    leader.close()
    _until(lambda: any(flight.is_orphan for flight in running.services.gateway.cache._flights.values()))
    follower.close()
    assert ollama.left.wait(5), "the upstream was not told"
    running.settle()
    rows = running.rows()
    assert [row["status"] for row in rows] == [499, 499]
    assert sum(row["cost_nusd"] or 0 for row in rows) == 1 * 150 + 1 * 300, "what the first got, estimated"
    assert running.in_flight() == 0


def test_a_failure_of_the_first_is_not_the_failure_of_those_who_wait(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    hold = Hold()
    scripts: list[Any] = [[hold, *whole({"error": "bad luck"}, 500)]]
    ollama.on("/api/generate", lambda _request: scripts.pop() if scripts else whole(WHOLE))
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(running.post, "/api/ollama/generate", ASK) for _ in range(4)]
        _until(lambda: _followers(running) == 3)
        hold.event.set()
        statuses = sorted(answer.result().status for answer in answers)
    assert statuses == [200, 200, 200, 500]
    running.settle()
    assert sorted(row["status"] for row in running.rows()) == [200, 200, 200, 500]
    assert running.in_flight() == 0


def test_who_has_got_some_of_it_gets_the_error_that_the_first_gets(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    hold = Hold()
    ollama.on("/api/generate", chunked([ODD, hold, Cut()], "application/x-ndjson", finish=False))
    leader = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert leader.read1(10_000) == ODD
    follower = running.request("POST", "/api/generate", NATIVE, headers=ON, preload=False)
    assert follower.read1(10_000) == ODD
    hold.event.set()
    assert json.loads(leader.read()) == json.loads(follower.read())
    running.settle()
    assert [row["error_code"] for row in running.rows()] == ["upstream_error"] * 2
    assert len(ollama.asked("/api/generate")) == 1


# What admins do, and how quick it is


def test_admins_clear_it_by_model_by_pattern_and_whole(tmp_path: Path) -> None:
    names = ("llama3", "llama3:8b", "mistral:latest")
    with ScriptedUpstream(*names) as upstream, gateway(tmp_path / "d", f"ollama={upstream.url}") as running:
        upstream.on("/api/generate", whole(WHOLE))

        def fill() -> None:
            for name in names:
                running.post("/api/ollama/generate", {**ASK, "model": name})

        fill()
        assert [model["model"] for model in _stats(running)["by_model"]] == list(names)
        for body, removed in (
            ({"model": "mistral"}, 1),
            ({"pattern": "llama3*"}, 2),
            ({}, 3),
            (None, 3),
            ({"model": "other"}, 0),
        ):
            fill()
            assert running.post("/api/cache/clear", body).json["removed"] == removed
        assert running.post("/api/cache/clear-expired").json == {"message": "0 answers were too old.", "removed": 0}
        assert running.post("/api/cache/clear", {"model": "a", "pattern": "b"}).status == 400
        assert running.post("/api/cache/clear", {"models": "a"}).status == 400
        user = running.post("/api/admin/users", {"username": "ada", "password": PASSWORD}).json["id"]
        key = running.post(f"/api/admin/users/{user}/keys", {"name": "k"}).json["key"]
        for path in ("/api/cache/clear", "/api/cache/clear-expired"):
            assert running.post(path, {}, key=key).status == 403
        assert running.get("/api/cache/stats", key=key).json["by_model"] == []
        assert running.get("/api/cache/stats", key=None).status == 401


def test_it_is_off_where_the_operator_says_so_and_on_for_all_paths_too(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", whole(WHOLE))
    with gateway(tmp_path / "off", f"ollama={ollama.url}", cache="off") as running:
        for _ in range(2):
            assert running.post("/api/ollama/generate", {**ASK, "use_cache": True}).json["cached"] is False
    with gateway(tmp_path / "on", f"ollama={ollama.url}", cache="on") as running:
        for status in ("miss", "hit"):
            answer = running.post("/api/generate", {**NATIVE, "stream": False})
            assert answer.headers["X-GemmaPy-Cache"] == status


def test_a_hit_is_quicker_than_the_quickest_upstream_its_row_on_disk_included(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", whole(WHOLE))
    running.post("/api/ollama/generate", ASK)
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(30):
        for use_cache in (True, False):
            began = time.perf_counter()
            assert running.post("/api/ollama/generate", {**ASK, "use_cache": use_cache}).json["cached"] is use_cache
            took[use_cache].append((time.perf_counter() - began) * 1000)
    # Beside an upstream that answers at once, since other work goes on here; benchmarks/README.md has milliseconds.
    assert statistics.median(took[True]) < statistics.median(took[False])
