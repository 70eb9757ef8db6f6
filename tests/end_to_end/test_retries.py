"""Several upstreams, failures and other models: what the client gets, what is asked, and what is written down."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import Cut, Hold, Request, Script, ScriptedUpstream, Stall, ndjson, sse, whole

ASK: dict[str, Any] = {"model": "llama3", "prompt": "x" * 40}
CHAT: dict[str, Any] = {"model": "llama3", "messages": [{"role": "user", "content": "x"}]}
LINE = {"model": "llama3", "response": "Hi", "done": False}
DONE = {"model": "llama3", "response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 2, "eval_count": 1}
QUICK = {"retry_wait_s": 0.001}


def _first(*scripts: Script) -> Any:
    """A handler that plays one script after the other, and the last again and again."""
    left = list(scripts)
    return lambda _request: left.pop(0) if len(left) > 1 else left[0]


def _good(request: Request) -> Script:
    return whole({**DONE, "model": request.json["model"], "response": "Hi"})


@pytest.fixture
def second() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
def quick(tmp_path: Path, ollama: ScriptedUpstream) -> Generator[RunningGateway]:
    """A gateway in front of one upstream that waits next to nothing between attempts."""
    with gateway(tmp_path / "d", f"ollama={ollama.url}", **QUICK) as running:
        yield running


@pytest.fixture
def both(tmp_path: Path, ollama: ScriptedUpstream, second: ScriptedUpstream) -> Generator[RunningGateway]:
    """A gateway in front of two Ollamas with the same model."""
    with gateway(tmp_path / "d", f"one:ollama={ollama.url}", f"two:ollama={second.url}", **QUICK) as running:
        yield running


@pytest.mark.parametrize("failure", [whole({"error": "busy"}, 503), whole(b"", 429), whole(b"", 502)])
def test_a_failure_before_the_answer_is_followed_by_another_attempt(
    quick: RunningGateway, ollama: ScriptedUpstream, failure: Script
) -> None:
    ollama.on("/api/generate", _first(failure, ndjson(LINE, DONE)))
    answer = quick.post("/api/generate", ASK)
    assert (answer.status, answer.lines) == (200, [LINE, DONE])
    row = quick.row()
    assert (row["status"], row["error"], row["attempts"]) == (200, 0, 2)
    assert row["cost_nusd"] == 2 * 150 + 1 * 300, "charged once"
    log = json.loads(row["attempt_log"])
    assert [attempt["upstream"] for attempt in log] == ["ollama", "ollama"]
    assert log[0]["error_code"] in ("upstream_error", None)
    assert (log[1]["status"], log[1]["error_code"]) == (200, None)
    assert log[1]["started_ms"] >= log[0]["duration_ms"]


def test_an_upstream_that_hangs_up_is_asked_again(quick: RunningGateway, ollama: ScriptedUpstream) -> None:
    # The first is a kept-alive connection that may have been closed while it lay idle: the transport's business.
    ollama.on("/api/generate", _first([Cut()], [Cut()], ndjson(LINE, DONE)))
    assert quick.post("/api/generate", ASK).lines == [LINE, DONE]
    assert quick.row()["attempts"] == 2


def test_one_attempt_needs_no_log(quick: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", ndjson(LINE, DONE))
    quick.post("/api/generate", ASK)
    row = quick.row()
    assert (row["attempts"], row["attempt_log"], row["requested_model"]) == (1, None, None)


def test_attempts_are_bounded_and_the_last_answer_passes(quick: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole(b'{"error":"so  busy"}', 503))
    answer = quick.post("/api/generate", ASK)
    assert (answer.status, answer.body) == (503, b'{"error":"so  busy"}')
    assert len(ollama.asked("/api/generate")) == 1 + 2
    row = quick.row()
    assert (row["attempts"], row["error_code"], row["cost_nusd"]) == (3, "upstream_error", None)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [("/api/ollama/generate", {**ASK, "use_retry": False}, {}), ("/api/generate", ASK, {"X-GemmaPy-Retry": "off"})],
)
def test_a_request_can_turn_it_off(
    quick: RunningGateway, ollama: ScriptedUpstream, path: str, body: Any, headers: dict[str, str]
) -> None:
    ollama.on("/api/generate", whole({"error": "busy"}, 503))
    assert quick.post(path, body, headers=headers).status == 503
    assert len(ollama.asked("/api/generate")) == 1


def test_nothing_is_repeated_once_an_answer_has_begun(quick: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", ndjson(LINE, Cut(), finish=False))
    quick.post("/api/generate", ASK)
    ollama.on("/api/chat", [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{", Cut()])
    assert quick.post("/api/chat", {**CHAT, "stream": False}).status == 502
    assert len(ollama.asked("/api/generate")) == len(ollama.asked("/api/chat")) == 1


def test_what_may_be_the_questions_fault_is_not_repeated(quick: RunningGateway, ollama: ScriptedUpstream) -> None:
    for status in (400, 404, 500):
        ollama.on("/api/generate", whole({"error": "no"}, status))
        assert quick.post("/api/generate", ASK).status == status
    assert len(ollama.asked("/api/generate")) == 3


@pytest.mark.parametrize(("allowed", "asked"), [(False, 1), (True, 3)])
def test_a_time_out_is_repeated_only_where_the_operator_says_so(
    tmp_path: Path, ollama: ScriptedUpstream, *, allowed: bool, asked: int
) -> None:
    ollama.on("/api/generate", [Stall()])
    settings = {**QUICK, "first_byte_timeout_s": 0.1, "retry_timeouts": allowed}
    with gateway(tmp_path / "d", f"ollama={ollama.url}", **settings) as running:
        assert running.post("/api/generate", ASK).status == 504
        assert len(ollama.asked("/api/generate")) == asked


def test_retry_after_is_waited_for_and_one_that_is_too_long_is_not(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with gateway(tmp_path / "d", f"ollama={ollama.url}", **QUICK, retry_longest_wait_s=2) as running:
        ollama.on("/api/generate", _first(whole(b"", 503, Retry_After="1"), ndjson(LINE, DONE)))
        began = time.monotonic()
        assert running.post("/api/generate", ASK).status == 200
        assert time.monotonic() - began >= 1
        assert json.loads(running.row()["attempt_log"])[1]["wait_ms"] >= 1000
        ollama.on("/api/generate", whole(b"", 503, Retry_After="30"))
        answer = running.post("/api/generate", ASK)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        assert running.row(2)["attempts"] == 1


def test_another_upstream_with_the_model_is_asked_at_once(
    both: RunningGateway, ollama: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    for upstream in (ollama, second):
        upstream.on("/api/generate", _good)
    before = both.post("/api/generate", {**ASK, "stream": False})
    assert before.status == 200
    down, up = (ollama, second) if both.row()["upstream"] == "one" else (second, ollama)
    down.close()
    answer = both.post("/api/generate", {**ASK, "stream": False})
    assert answer.status == 200
    row = both.row(2)
    assert row["upstream"] == ("two" if down is ollama else "one")
    log = json.loads(row["attempt_log"])
    assert [attempt["error_code"] for attempt in log] == ["upstream_unreachable", None]
    assert log[1]["wait_ms"] == 0
    assert len(up.asked("/api/generate")) == 1


def test_a_conversation_stays_with_its_upstream(
    both: RunningGateway, ollama: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    for upstream in (ollama, second):
        upstream.on("/api/chat", _good)
    for number in range(8):
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": f"question {number}"}]
        for _ in range(3):
            both.post("/api/chat", {"model": "llama3", "messages": messages, "stream": False})
            messages += [{"role": "assistant", "content": "so"}, {"role": "user", "content": "and then?"}]
    both.settle()
    used = [row["upstream"] for row in both.rows()]
    assert all(len(set(used[start : start + 3])) == 1 for start in range(0, 24, 3))
    assert set(used) == {"one", "two"}


def test_upstreams_of_one_model_share_the_load(
    both: RunningGateway, ollama: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    hold = Hold()
    for upstream in (ollama, second):
        upstream.on("/api/generate", ndjson(hold, LINE, DONE))
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(both.post, "/api/generate", ASK) for _ in range(8)]
        _until(lambda: len(ollama.asked("/api/generate")) + len(second.asked("/api/generate")) == 8)
        states = {state["name"]: state for state in both.get("/api/ollama/status").json["upstreams"]}
        hold.event.set()
        assert all(answer.result().status == 200 for answer in answers)
    # One and the same prompt: its home gets a little more, and not all.
    shares = Counter({name: state["in_flight"] for name, state in states.items()})
    assert shares.total() == 8
    assert min(shares.values()) >= 3
    assert {s["in_flight"] for s in both.get("/api/ollama/status").json["upstreams"]} == {0}


def test_a_breaker_opens_and_lets_nobody_wait_and_a_list_that_answers_closes_it(
    tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", whole({"error": "gone"}, 502))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", **QUICK, retries=0, breaker_failures=3) as running:
        for _ in range(3):
            assert running.post("/api/generate", ASK).status == 502
        answer = running.post("/api/generate", ASK)
        assert answer.status == 503
        assert "failed too often just now" in answer.json["error"]
        assert answer.headers["Retry-After"]
        assert len(ollama.asked("/api/generate")) == 3
        row = running.row(4)
        assert (row["error_code"], row["attempts"]) == ("upstream_unreachable", 0)
        ready = running.get("/readyz")
        assert (ready.status, ready.json["upstreams"][0]["breaker"]) == (503, "open")
        (state,) = running.get("/api/retry/stats").json["upstreams"]
        assert (state["breaker"], state["opened"], state["failures"]) == ("open", 1, 3)
        ollama.on("/api/generate", ndjson(LINE, DONE))
        _until(lambda: running.get("/api/ollama/status").json["upstreams"][0]["breaker"] == "half-open")
        assert running.post("/api/generate", ASK).status == 200
        assert running.get("/readyz").json["upstreams"][0]["breaker"] == "closed"


def test_where_nobody_can_serve_a_model_the_next_in_its_chain_does(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with (
        ScriptedUpstream("mistral") as other,
        gateway(
            tmp_path / "d", f"a:ollama={ollama.url}", f"b:ollama={other.url}", **QUICK, fallbacks="llama3>phi4>mistral"
        ) as running,
    ):
        ollama.on("/api/generate", whole({"error": "out of memory"}, 500))
        other.on("/api/generate", _good)
        running.post("/api/admin/prices", {"model": "mistral", "input_cost": 0.001, "output_cost": 0.002})
        answer = running.post("/api/ollama/generate", ASK)
        assert answer.status == 200
        assert (answer.json["model"], answer.json["fallback_from"]) == ("mistral", "llama3")
        assert answer.headers["X-GemmaPy-Model"] == "mistral"
        assert answer.headers["X-GemmaPy-Fallback"] == "llama3 -> mistral"
        assert other.asked("/api/generate")[0].json["model"] == "mistral"
        row = running.row()
        assert (row["model"], row["requested_model"], row["upstream"]) == ("mistral", "llama3", "b")
        assert row["cost_nusd"] == 2 * 1_000 + 1 * 2_000, "at the price of the one that answered"
        story = running.get(f"/api/metrics/requests/{answer.json['metric_id']}").json
        assert (story["model"], story["requested_model"], story["attempts"]) == ("mistral", "llama3", 2)
        assert [(a["upstream"], a["model"], a["status"]) for a in story["attempt_log"]] == [
            ("a", "llama3", 500),
            ("b", "mistral", 200),
        ]
        stats = running.get("/api/retry/stats").json
        assert (stats["fallbacks"], stats["recovered"], stats["exhausted"]) == (1, 1, 0)


def test_a_model_that_nobody_has_falls_back_before_it_is_admitted(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    hold = Hold()
    ollama.on("/v1/chat/completions", sse({"choices": [{"delta": {"content": "Hi"}}]}, hold, "[DONE]"))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", fallbacks="gpt-5>llama3") as running:
        response = running.request(
            "POST", "/v1/chat/completions", {**CHAT, "model": "gpt-5", "stream": True}, preload=False
        )
        assert response.headers["X-GemmaPy-Fallback"] == "gpt-5 -> llama3"
        with running.store.read() as connection:
            row = connection.exec_driver_sql("SELECT model, requested_model FROM inflight").one()
        assert tuple(row) == ("llama3", "gpt-5")
        hold.event.set()
        response.read()
        assert (running.row()["model"], running.row()["requested_model"]) == ("llama3", "gpt-5")
        refused = running.post("/api/ollama/chat", {**CHAT, "model": "gpt-5", "use_retry": False})
        assert refused.status == 404


def test_a_key_never_falls_back_to_a_model_that_it_may_not_use(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with (
        ScriptedUpstream("mistral") as other,
        gateway(
            tmp_path / "d", f"a:ollama={ollama.url}", f"b:ollama={other.url}", fallbacks="llama3>mistral"
        ) as running,
    ):
        ollama.on("/api/generate", whole({"error": "out of memory"}, 500))
        key = running.post("/api/keys", {"name": "llama only", "models": ["llama3"]}).json["key"]
        assert running.post("/api/generate", ASK, key=key).status == 500
        assert other.asked("/api/generate") == []


def test_a_client_that_leaves_while_it_waits_ends_the_attempts(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole(b"", 503, Retry_After="5"))
    with gateway(tmp_path / "d", f"ollama={ollama.url}") as running:
        response = threading.Thread(target=lambda: _leave(running))
        response.start()
        response.join(10)
        row = running.row()
        assert (row["status"], row["attempts"]) == (499, 1)
        assert len(ollama.asked("/api/generate")) == 1


def _leave(running: RunningGateway) -> None:
    """Asks, and hangs up after a moment."""
    import urllib3

    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.request(
            "POST",
            f"{running.url}/api/generate",
            json=ASK,
            headers={"Authorization": f"Bearer {running.key}"},
            timeout=0.3,
            retries=False,
        )


def _until(condition: Any) -> None:
    """Waits for what the other side does."""
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come to pass")
