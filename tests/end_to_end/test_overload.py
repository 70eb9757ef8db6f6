"""More than an upstream can take: who waits, who is turned away, and what becomes of places."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import Answered, RunningGateway, gateway
from tests.support.scripted import Cut, Hold, Request, Script, ScriptedUpstream, Stall, ndjson, whole

ASK: dict[str, Any] = {"model": "llama3", "prompt": "Hi", "stream": False}
LINE = {"model": "llama3", "response": "Hi", "done": False}
DONE = {"model": "llama3", "response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 2, "eval_count": 1}
PATIENCE_S = 10


def until(true: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        threading.Event().wait(0.005)


class Door:
    """An upstream's answers, which wait until the test lets one through."""

    def __init__(self, upstream: ScriptedUpstream, answer: Script | None = None) -> None:
        self.held: list[Hold] = []
        self.prompts: list[str] = []
        self._answer = answer or whole({**DONE, "response": "Hi"})
        upstream.on("/api/generate", self._handle)

    def _handle(self, request: Request) -> Script:
        hold = Hold()
        self.held.append(hold)
        self.prompts.append(request.json["prompt"])
        return [hold, *self._answer]

    def let_one_through(self) -> None:
        until(lambda: bool(self.held))
        self.held.pop(0).event.set()

    def open(self, number: int) -> None:
        for _ in range(number):
            self.let_one_through()


def places(running: RunningGateway) -> Any:
    return running.services.catalogue.upstreams[0].places


def user(running: RunningGateway, name: str) -> str:
    """A new user's key."""
    made = running.post("/api/admin/users", {"username": name, "password": "correct horse battery"}).json
    return running.post(f"/api/admin/users/{made['id']}/keys", {"name": "test"}).json["key"]


def ask(running: RunningGateway, prompt: str, key: str | None = "") -> Answered:
    return running.post("/api/generate", {**ASK, "prompt": prompt}, key=key)


def test_requests_wait_for_a_place_and_the_row_says_how_long(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    door = Door(ollama)
    with gateway(tmp_path / "d", f"ollama={ollama.url}", places=1) as running, ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, running, "one")
        until(lambda: len(door.held) == 1)
        second = pool.submit(ask, running, "two")
        until(lambda: places(running).waiting == 1)
        assert door.prompts == ["one"], "one place, one question"
        assert running.get("/api/ollama/status").json["upstreams"][0]["waiting"] == 1
        time.sleep(0.05)  # what is measured is time
        door.open(2)
        assert (first.result().status, second.result().status) == (200, 200)
        rows = running.row(2) and running.rows()
    assert rows[0]["queue_ms"] < 50 <= rows[1]["queue_ms"] <= rows[1]["duration_ms"]
    assert (places(running).taken, places(running).waiting) == (0, 0)


def test_a_server_that_says_its_slots_has_as_many_places(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with gateway(tmp_path / "mute", f"llama:openai={ollama.url}/v1") as running:
        assert places(running).count is None, "it does not say"
    ollama.on("/props", whole({"total_slots": 3, "model_path": "x.gguf"}))
    with gateway(tmp_path / "d", f"llama:openai={ollama.url}/v1") as running:
        until(lambda: places(running).count == 3)
    with gateway(tmp_path / "told", f"llama:openai={ollama.url}/v1", places=5) as running:
        assert places(running).count == 5, "the operator knows better"


def test_one_callers_flood_lets_another_through_with_the_next_place(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    door = Door(ollama)
    with gateway(tmp_path / "d", f"ollama={ollama.url}", places=2) as running, ThreadPoolExecutor(40) as pool:
        polite = user(running, "polite")
        flood = [pool.submit(ask, running, "flood") for _ in range(30)]
        until(lambda: places(running).waiting == 28)
        one = pool.submit(ask, running, "polite", polite)
        until(lambda: places(running).waiting == 29)
        door.open(2)
        until(lambda: len(door.prompts) == 4)
        assert "polite" in door.prompts
        door.open(29)
        assert one.result().status == 200
        assert {answer.result().status for answer in flood} == {200}


def test_each_end_user_of_a_trusted_key_has_a_line_of_their_own(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    door = Door(ollama)
    with gateway(tmp_path / "d", f"ollama={ollama.url}", places=1) as running, ThreadPoolExecutor(20) as pool:
        key = running.post("/api/keys", {"name": "webui", "is_trusted": True}).json["key"]

        def of(name: str) -> Answered:
            said = {"X-OpenWebUI-User-Email": f"{name}@example.org"}
            return running.post("/api/generate", {**ASK, "prompt": name}, key=key, headers=said)

        asked = [pool.submit(of, "flood") for _ in range(10)]
        until(lambda: places(running).waiting == 9)
        asked.append(pool.submit(of, "polite"))
        until(lambda: places(running).waiting == 10)
        door.open(2)
        until(lambda: len(door.prompts) == 3)
        assert "polite" in door.prompts
        door.open(9)
        assert {answer.result().status for answer in asked} == {200}


def test_time_in_the_queue_is_no_time_of_attempts(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    door = Door(ollama)
    started = gateway(tmp_path / "d", f"ollama={ollama.url}", places=1, retry_total_s=0.3, retry_wait_s=0.001)
    with started as running, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, running, "one")
        until(lambda: len(door.held) == 1)
        second = pool.submit(ask, running, "two")
        until(lambda: places(running).waiting == 1)
        time.sleep(0.4)
        answers = [whole({"error": "busy"}, 503), whole(DONE)]
        ollama.on("/api/generate", lambda _request: answers.pop(0))
        door.open(1)
        assert (first.result().status, second.result().status) == (200, 200)
        running.settle()
        assert sorted(row["attempts"] for row in running.rows()) == [1, 2]


def test_a_full_line_is_429_with_a_row_a_full_queue_503_without_and_both_say_when_to_come_back(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    door = Door(ollama)
    limits = {"places": 1, "queue_length": 3, "queue_length_per_caller": 2}
    with gateway(tmp_path / "d", f"ollama={ollama.url}", **limits) as running, ThreadPoolExecutor(8) as pool:
        keys = [user(running, name) for name in ("bob", "cy")]
        waiting = [pool.submit(ask, running, "x") for _ in range(3)]
        until(lambda: places(running).waiting == 2)
        own = ask(running, "x")
        assert (own.status, own.json) == (
            429,
            {"error": "You have 2 requests waiting for this model server; 2 may."},
        )
        assert int(own.headers["Retry-After"]) >= 1
        openai = running.post("/v1/chat/completions", {"model": "llama3", "messages": []})
        assert (openai.status, openai.json["error"]["type"]) == (429, "rate_limit_error")
        assert openai.json["error"]["code"] == "rate_limit_exceeded"
        contract = running.post("/api/ollama/generate", {**ASK, "use_cache": False})
        assert (contract.status, contract.json["code"]) == (429, "rate_limit_exceeded")
        assert "hint" in contract.json
        waiting.append(pool.submit(ask, running, "x", keys[0]))
        until(lambda: places(running).waiting == 3)
        full = running.post("/v1/chat/completions", {"model": "llama3", "messages": []}, key=keys[1])
        assert (full.status, full.json["error"]["type"]) == (503, "server_error")
        assert full.json["error"]["code"] == "overloaded"
        assert int(full.headers["Retry-After"]) >= 1
        assert running.get("/api/health").status == running.get("/readyz").status == 200
        door.open(4)
        assert {answer.result().status for answer in waiting} == {200}
        running.settle()
        statuses = [(row["status"], row["error_code"]) for row in running.rows()]
        assert sorted(statuses, key=str) == [(200, None)] * 4 + [(429, "rate_limit_exceeded")] * 3
        assert running.in_flight() == 0


def test_a_client_that_leaves_the_queue_gives_its_turn_up_and_is_charged_nothing(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    door = Door(ollama)
    with gateway(tmp_path / "d", f"ollama={ollama.url}", places=1) as running, ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask, running, "one")
        until(lambda: len(door.held) == 1)
        leaving = _send(running, {**ASK, "prompt": "two"})
        until(lambda: places(running).waiting == 1)
        leaving.close()
        until(lambda: places(running).waiting == 0)
        third = pool.submit(ask, running, "three")
        until(lambda: places(running).waiting == 1)
        door.open(2)
        assert (first.result().status, third.result().status) == (200, 200)
        assert door.prompts == ["one", "three"]
        running.settle()
        left = next(row for row in running.rows() if row["status"] == 499)
        assert (left["attempts"], left["prompt_tokens"], left["cost_nusd"]) == (0, None, None)
        assert left["queue_ms"] == left["duration_ms"]


@pytest.mark.parametrize("ending", [Stall(), Cut(), b"garbage\n"], ids=["client leaves", "cut", "garbage"])
def test_a_stream_that_ends_badly_gives_its_place_back(tmp_path: Path, ollama: ScriptedUpstream, ending: Any) -> None:
    ollama.on("/api/generate", ndjson(LINE, ending, finish=False))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", places=1) as running:
        client = _send(running, {**ASK, "stream": True})
        seen = b""
        while b"Hi" not in seen:
            seen += client.recv(65536)
        client.close()
        until(lambda: places(running).taken == 0)
        ollama.on("/api/generate", whole(DONE))
        assert ask(running, "next").status == 200


def test_retries_take_a_place_each_and_none_while_they_pause(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole({"error": "busy"}, 503))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", places=1, retries=3, retry_wait_s=0.001) as running:
        assert ask(running, "x").status == 503
        assert (places(running).taken, places(running).waiting) == (0, 0)
        ollama.on("/api/generate", whole(DONE))
        with ThreadPoolExecutor(8) as pool:
            assert {a.status for a in pool.map(lambda _: ask(running, "x"), range(16))} == {200}


def test_who_waits_for_one_server_goes_to_another_that_is_free_first(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with ScriptedUpstream() as second:
        doors = Door(ollama), Door(second)
        started = gateway(tmp_path / "d", f"one:ollama={ollama.url}", f"two:ollama={second.url}", places=1)
        with started as running, ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, running, "x") for _ in range(2)]
            until(lambda: all(len(door.held) == 1 for door in doors))
            asked.append(pool.submit(ask, running, "third"))
            upstreams = running.services.catalogue.upstreams
            until(lambda: sum(upstream.places.waiting for upstream in upstreams) == 1)
            waits_at = next(place for place, upstream in enumerate(upstreams) if upstream.places.waiting)
            doors[1 - waits_at].open(1)
            until(lambda: "third" in doors[1 - waits_at].prompts)
            doors[waits_at].open(1)
            doors[1 - waits_at].open(1)
            assert {answer.result().status for answer in asked} == {200}
            running.settle()
            served = sorted(row["upstream"] for row in running.rows())
            assert served == (["one", "two", "two"] if waits_at == 0 else ["one", "one", "two"])


def test_who_waits_too_long_is_told_so_and_recorded(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    door = Door(ollama)
    limits = {"places": 1, "queue_wait_s": 0.1}
    with gateway(tmp_path / "d", f"ollama={ollama.url}", **limits) as running, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, running, "one")
        until(lambda: len(door.held) == 1)
        late = ask(running, "two")
        assert (late.status, late.json) == (503, {"error": "No place at the model server was free in 0.1 s."})
        assert "Retry-After" in late.headers
        row = running.row()
        assert (row["status"], row["error_code"], row["attempts"]) == (503, "overloaded", 0)
        door.open(1)
        assert first.result().status == 200


def test_those_who_share_an_answer_share_a_place_and_kept_ones_take_none(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    door = Door(ollama)
    same = {**ASK, "options": {"temperature": 0}}
    started = gateway(tmp_path / "d", f"ollama={ollama.url}", places=1, cache="on")
    with started as running, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(running.post, "/api/generate", same) for _ in range(5)]
        until(lambda: len(running.services.gateway.running) == 5)
        assert (places(running).taken, places(running).waiting) == (1, 0)
        door.open(1)
        assert {answer.result().status for answer in asked} == {200}
        other = pool.submit(ask, running, "other")
        until(lambda: places(running).taken == 1)
        assert running.post("/api/generate", same).headers["X-GemmaPy-Cache"] == "hit"
        door.open(1)
        assert other.result().status == 200


def _send(running: RunningGateway, body: dict[str, Any]) -> socket.socket:
    """A client that has asked and reads nothing yet."""
    raw = json.dumps(body).encode()
    host, port = running.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.key}\r\n"
    client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
    return client


def test_the_queues_figures_say_what_happened(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    door = Door(ollama)
    started = gateway(tmp_path / "d", f"ollama={ollama.url}", places=1, queue_length_per_caller=1)
    with started as running, ThreadPoolExecutor(2) as pool:
        assert running.get("/api/queue/stats").json["upstreams"][0]["mean_s"] is None
        asked = [pool.submit(ask, running, "x") for _ in range(2)]
        until(lambda: places(running).waiting == 1)
        assert ask(running, "x").status == 429
        figures = running.get("/api/queue/stats").json["upstreams"][0]
        named = {name: figures[name] for name in ("name", "places", "taken", "waiting", "callers_waiting")}
        assert named == {"name": "ollama", "places": 1, "taken": 1, "waiting": 1, "callers_waiting": 1}
        door.open(2)
        assert {answer.result().status for answer in asked} == {200}
        figures = running.get("/api/queue/stats").json["upstreams"][0]
        assert (figures["taken"], figures["waited"], figures["refused_caller"], figures["left"]) == (0, 1, 1, 0)
        assert figures["mean_s"] > 0
        assert running.get("/api/queue/stats", key=None).status == 401


def test_a_models_limit_is_everybodys_together(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    door = Door(ollama)
    started = gateway(tmp_path / "d", f"ollama={ollama.url}", limit_models="llama3=1")
    with started as running, ThreadPoolExecutor(1) as pool:
        other = user(running, "bob")
        first = pool.submit(ask, running, "x")
        until(lambda: len(door.held) == 1)
        refused = ask(running, "x", other)
        assert refused.json == {"error": "The limit of model llama3 is 1 requests at once; 1 are used."}
        door.open(1)
        assert first.result().status == 200


def test_past_its_number_of_requests_the_gateway_turns_away_at_once_and_recovers(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    door = Door(ollama)
    started = gateway(tmp_path / "d", f"ollama={ollama.url}", max_requests=5)
    with started as running, ThreadPoolExecutor(8) as pool:
        other, third = user(running, "bob"), user(running, "cy")
        inside = [pool.submit(ask, running, "x") for _ in range(4)]
        until(lambda: len(door.held) == 4)
        own = ask(running, "x")
        assert (own.status, own.headers["Retry-After"]) == (429, "1")
        assert "Most are your own" in own.json["error"]
        inside.append(pool.submit(ask, running, "x", other))
        until(lambda: len(door.held) == 5)
        full = ask(running, "x", third)
        assert (full.status, full.headers["Retry-After"]) == (503, "1")
        assert full.json == {"error": "5 requests are under way; 5 may be."}
        assert running.get("/api/health").status == running.get("/readyz").status == 200
        door.open(5)
        assert {answer.result().status for answer in inside} == {200}
        running.settle()
        assert running.get("/api/queue/stats").json["gateway"]["shed"]["requests"] == 2
        assert len(running.rows()) == 5, "load that is shed is counted, not written down"
        ollama.on("/api/generate", whole(DONE))
        assert ask(running, "x", third).status == 200


def test_bodies_have_a_memory_of_their_own_and_small_requests_pass_all_the_same(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", whole(DONE))
    started = gateway(tmp_path / "d", f"ollama={ollama.url}", max_body_mb=1, body_memory_mb=2)
    with started as running:
        other = user(running, "bob")
        slow = [_begin(running, 1_000_000) for _ in range(3)]
        for client in slow:
            client.sendall(b"x" * 700_000)
        rooms = running.services.gateway.door.bodies
        until(lambda: rooms.used > 1_200_000 and running.services.gateway.door.shed.bodies > 0)
        assert rooms.used <= 2 * 2**20
        told = [said for said in map(_heard, slow) if said]
        assert len(told) == 1, "one of the three does not fit"
        assert told[0].startswith(b"HTTP/1.1 429 "), "and most of what is there is their own"
        assert b"\r\nconnection: close\r\n" in told[0], "the rest of its body is still on its way"
        big = running.post("/api/generate", {**ASK, "prompt": "x" * 900_000}, key=other)
        assert (big.status, big.headers["Retry-After"]) == (503, "1")
        assert ask(running, "small", other).status == 200
        for client in slow:
            client.close()
        until(lambda: rooms.used == 0)
        assert running.post("/api/generate", {**ASK, "prompt": "x" * 900_000}, key=other).status == 200


def test_a_body_that_trickles_is_ended(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with gateway(tmp_path / "d", f"ollama={ollama.url}", client_timeout_s=0.3) as running:
        client = _begin(running, 1_000)
        began = time.monotonic()
        client.settimeout(0.05)
        said = b""
        while not said:
            assert time.monotonic() - began < 5
            try:
                client.sendall(b"x")
                said = client.recv(4096)
            except TimeoutError:
                continue
        assert said.startswith(b"HTTP/1.1 408 ")
        client.close()


def test_a_reader_that_stalls_is_cut_its_place_is_free_and_memory_stays_bounded(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    line = json.dumps({**LINE, "response": "x" * 4_000}).encode() + b"\n"
    ollama.on("/api/generate", ndjson(*[line] * 10_000, DONE))  # 40 MB
    with gateway(tmp_path / "d", f"ollama={ollama.url}", places=1, client_timeout_s=0.3) as running:
        before = _rss_bytes()
        stalled = _send(running, {**ASK, "stream": True})
        until(lambda: places(running).taken == 1)
        ollama_again = whole(DONE)
        until(lambda: places(running).taken == 0)
        assert _rss_bytes() - before < 25 * 2**20
        ollama.on("/api/generate", ollama_again)
        assert ask(running, "x").status == 200
        running.settle()
        assert 499 in [row["status"] for row in running.rows()]
        stalled.close()


def test_a_reader_that_stalls_does_not_hold_up_those_who_asked_the_same(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    line = json.dumps({**LINE, "response": "x" * 4_000}).encode() + b"\n"
    hold = Hold()
    ollama.on("/api/generate", ndjson(line, hold, *[line] * 5_000, DONE))  # 20 MB
    same = {**ASK, "stream": True, "options": {"temperature": 0}}
    with gateway(tmp_path / "d", f"ollama={ollama.url}", cache="on") as running, ThreadPoolExecutor(1) as pool:
        stalled = _send(running, same)
        until(lambda: len(ollama.asked("/api/generate")) == 1)
        follower = pool.submit(running.post, "/api/generate", same)
        until(lambda: len(running.services.gateway.running) == 2)
        hold.event.set()
        answer = follower.result(timeout=PATIENCE_S)
        assert (answer.status, len(answer.lines)) == (200, 5_002)
        assert len(ollama.asked("/api/generate")) == 1
        assert running.services.gateway.running, "the first one is still at it"
        read = b""
        while b'"done_reason"' not in read[-2_000:]:
            read += stalled.recv(2**20)
        assert read.count(b'"done": false') == 5_001, "and gets all of it once it reads"
        stalled.close()
        running.settle()
        assert [row["status"] for row in running.rows()] == [200, 200]


def _rss_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def _heard(client: socket.socket) -> bytes:
    """What has come by now, or comes within a moment."""
    client.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        return client.recv(65536)
    return b""


def _begin(running: RunningGateway, length: int) -> socket.socket:
    """A client that has sent a request's head and nothing of its body."""
    host, port = running.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.key}\r\n"
    client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode())
    return client
