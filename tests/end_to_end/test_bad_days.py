"""Bad input and bad days: each gets the right status, the right shape, and a row where a request was admitted."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import Cut, Hold, Reset, ScriptedUpstream, Stall, chunked, ndjson, sse, whole

ASK = {"model": "llama3", "prompt": "x" * 40}
CHAT = {"model": "llama3", "messages": [{"role": "user", "content": "x"}], "stream": True}
LINE = {"model": "llama3", "response": "Hi", "done": False}
CHUNK = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}


def _error(path: str, answer: Any) -> str:
    """The message, from the shape that the path's API has."""
    said = answer.json["error"]
    if path.startswith("/v1/"):
        assert set(said) == {"message", "type", "param", "code"}
        return said["message"]
    if path.startswith("/api/ollama/"):
        assert {"error", "code", "hint"} <= set(answer.json)
    return said


PATHS = ["/api/generate", "/api/chat", "/v1/chat/completions", "/api/ollama/generate"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[1]", "Expected `object`"),
        (b'{"model": 7}', "Expected `str"),
        (b'{"model":"llama3","stream":"yes"}', "`$.stream`"),
        (b"{}", "model is required"),
        (b'{"model":"' + b"m" * 300 + b'"}', "at most 200 characters"),
        (b"[" * 100_000, "not"),
        (b"\xff\xfe", "not valid"),
    ],
)
def test_a_malformed_request_is_400_and_no_request(running: RunningGateway, path: str, body: bytes, says: str) -> None:
    answer = running.post(path, body)
    assert answer.status == 400
    assert says in _error(path, answer)
    running.settle()
    assert running.rows() == []


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_model_is_ollamas_404_and_recorded(running: RunningGateway, path: str) -> None:
    answer = running.post(path, {"model": "nope", "prompt": "x"})
    assert answer.status == 404
    assert _error(path, answer) == "model 'nope' not found"
    row = running.row()
    assert (row["status"], row["error"], row["error_code"], row["cost_nusd"]) == (404, 1, "model_not_found", None)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", [None, "gp-unknown", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "x" * 5000])
def test_an_unknown_caller_is_401_without_a_row(running: RunningGateway, path: str, key: str | None) -> None:
    answer = running.post(path, ASK, key=key)
    assert answer.status == 401
    assert "Sign in first" in _error(path, answer)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    running.settle()
    assert running.rows() == []


@pytest.mark.parametrize("path", PATHS)
def test_a_get_on_a_metered_path_is_405(running: RunningGateway, path: str) -> None:
    answer = running.get(path)
    assert answer.status == 405
    assert "takes POST, not GET" in _error(path, answer)


def test_a_body_that_is_too_large_is_413_before_it_is_read(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with gateway(tmp_path / "d", f"ollama={ollama.url}", max_body_mb=1) as small:
        host, port = small.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.key}\r\n"
            connection.sendall(f"{head}Content-Length: 104857600\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"at most 1048576 bytes" in answer
        assert b"connection: close" in answer.lower()


def test_a_chunked_body_without_end_is_413(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with gateway(tmp_path / "d", f"ollama={ollama.url}", max_body_mb=1) as small:
        answer = small.request("POST", "/api/generate", None, headers={}, preload=True)
        assert answer.status == 400
        host, port = small.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {small.key}\r\n"
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
            for _ in range(17):
                connection.sendall(chunk)
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_refused_connection_is_503_and_recorded(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.close()
    answer = running.post("/api/generate", ASK)
    assert answer.status == 503
    assert "cannot be reached" in answer.json["error"]
    row = running.row()
    assert (row["status"], row["error"], row["error_code"]) == (503, 1, "upstream_unreachable")
    assert row["duration_ms"] is not None


@pytest.mark.parametrize("step", [Cut(), Reset()])
def test_an_upstream_that_closes_without_an_answer_is_502(
    running: RunningGateway, ollama: ScriptedUpstream, step: Any
) -> None:
    ollama.on("/api/generate", [step])
    answer = running.post("/api/generate", ASK)
    assert answer.status == 502
    assert running.row()["error_code"] == "upstream_error"


def test_an_upstream_that_hangs_is_504(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", [Stall()])
    with gateway(tmp_path / "d", f"ollama={ollama.url}", first_byte_timeout_s=0.2) as running:
        answer = running.post("/api/ollama/generate", ASK)
        assert (answer.status, answer.json["code"]) == (504, "upstream_timeout")
        assert running.row()["error_code"] == "upstream_timeout"
        assert ollama.left.wait(5)


def test_an_upstream_that_hangs_mid_stream_ends_in_an_error_frame(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", ndjson(LINE, Stall(), finish=False))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", idle_timeout_s=0.2) as running:
        lines = running.post("/api/generate", ASK).lines
        assert lines[0] == LINE
        assert "sent nothing for 0.2 s" in lines[1]["error"]
        row = running.row()
        assert (row["status"], row["error_code"], row["estimated"]) == (200, "upstream_timeout", 1)
        assert (row["prompt_tokens"], row["response_tokens"]) == (10, 1)


@pytest.mark.parametrize(
    "steps",
    [
        [json.dumps(LINE).encode() + b"\n", Cut()],
        [json.dumps(LINE).encode() + b"\n", Reset()],
        [json.dumps(LINE).encode() + b"\n", b'{"model":"llama3","respo', Cut()],
        [json.dumps(LINE).encode() + b"\n", b"<html>oh no</html>\n"],
        [json.dumps(LINE).encode() + b"\n", b"[1,2]\n"],
    ],
)
def test_a_stream_that_breaks_delivers_what_was_good_and_says_that_it_broke(
    running: RunningGateway, ollama: ScriptedUpstream, steps: Any
) -> None:
    ollama.on("/api/generate", chunked(steps, "application/x-ndjson"))
    lines = running.post("/api/generate", ASK).lines
    assert lines[0] == LINE
    assert list(lines[1]) == ["error"]
    row = running.row()
    assert (row["status"], row["error"], row["error_code"], row["estimated"]) == (200, 1, "upstream_error", 1)
    assert row["response_tokens"] == 1
    assert row["cost_nusd"] == 10 * 150 + 1 * 300  # what was delivered is paid for


@pytest.mark.parametrize("steps", [[CHUNK, Cut()], [CHUNK, b"data: {oops\n\n"], [CHUNK]])
def test_the_same_in_openais_dialect(running: RunningGateway, ollama: ScriptedUpstream, steps: Any) -> None:
    ollama.on("/v1/chat/completions", sse(*steps, finish=Cut not in map(type, steps)))
    answer = running.post("/v1/chat/completions", CHAT)
    events = [json.loads(line[6:]) for line in answer.body.splitlines() if line.startswith(b"data: {")]
    assert events[0] == CHUNK
    assert "error" in events[1]
    assert b"[DONE]" not in answer.body
    assert running.row()["error_code"] == "upstream_error"


def test_garbage_before_anything_was_sent_is_502(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    for script in (
        chunked([b"<html>\n"], "application/x-ndjson"),
        whole(b"<html>", content_type="text/html"),
        [b"garbage\r\n\r\n", Cut()],
        chunked([Cut()], "application/x-ndjson"),
        chunked([], "application/x-ndjson"),
    ):
        ollama.on("/api/generate", script)
        answer = running.post("/api/generate", ASK)
        assert answer.status == 502
        row = running.row()
        assert (row["status"], row["error_code"]) == (502, "upstream_error")
        assert row["response_tokens"] is None


def test_an_error_inside_a_200_stream_passes_and_is_recorded(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", ndjson(LINE, {"error": "out of memory"}))
    assert running.post("/api/generate", ASK).lines == [LINE, {"error": "out of memory"}]
    row = running.row()
    assert (row["status"], row["error"], row["error_message"]) == (200, 1, "out of memory")


def test_a_frame_without_end_does_not_fill_the_memory(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on(
        "/api/generate",
        chunked([b'{"response":"' + b"a" * 1_000_000] + [b"a" * 1_000_000] * 20, "application/x-ndjson"),
    )
    answer = running.post("/api/generate", ASK)
    assert answer.status == 502
    assert "a frame of more than" in answer.json["error"]


def test_a_client_that_leaves_ends_the_upstreams_work_and_pays_for_what_it_got(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", ndjson(LINE, LINE, Stall(), finish=False))
    response = running.request("POST", "/api/generate", ASK, preload=False)
    assert response.read1(10_000)
    response.close()
    response.connection.close() if response.connection else None
    assert ollama.left.wait(5), "the upstream was not told"
    row = running.row()
    assert (row["status"], row["error"], row["estimated"]) == (499, 0, 1)
    assert (row["prompt_tokens"], row["response_tokens"]) == (10, 2)
    assert row["cost_nusd"] == 10 * 150 + 2 * 300
    assert running.in_flight() == 0


def test_a_client_that_leaves_before_the_first_byte_is_recorded(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", [Stall()])
    host, port = running.url.removeprefix("http://").split(":")
    body = json.dumps({**ASK, "stream": False}).encode()
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.key}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        for _ in range(500):
            if ollama.asked("/api/generate"):
                break
            time.sleep(0.01)
    assert ollama.left.wait(5)
    assert running.row()["status"] == 499


def test_the_first_byte_waits_for_the_in_flight_row(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    hold = Hold()
    ollama.on("/api/generate", ndjson(LINE, hold, {**LINE, "done": True, "eval_count": 1}))
    response = running.request("POST", "/api/generate", ASK, preload=False)
    assert response.read1(10_000)
    assert running.in_flight() == 1
    assert running.rows() == []
    hold.event.set()
    response.read()
    assert running.in_flight() == 0
    assert len(running.rows()) == 1


def test_an_answer_that_comes_whole_and_not_at_once_has_an_in_flight_row(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    hold = Hold()
    ollama.on("/api/generate", [hold, *whole({**LINE, "done": True, "eval_count": 1})])
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(running.request, "POST", "/api/generate", {**ASK, "stream": False})
        for _ in range(500):
            if running.in_flight():
                break
            time.sleep(0.01)
        assert running.in_flight() == 1
        hold.event.set()
        assert asking.result().status == 200
    assert running.in_flight() == 0
    assert len(running.rows()) == 1


def test_the_last_byte_waits_for_the_metric_row(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    # The upstream has said all; a lock holds the books; the client gets the text and not the end.
    ollama.on("/api/generate", ndjson(LINE, {**LINE, "done": True, "eval_count": 1}))
    hold = Hold()
    ollama.on("/api/generate", ndjson(LINE, hold, {**LINE, "response": "", "done": True, "eval_count": 1}))
    response = running.request("POST", "/api/generate", ASK, preload=False)
    assert response.read1(10_000)
    lock = sqlite3.connect(running.store.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    hold.event.set()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(response.read()))
    reader.start()
    reader.join(0.3)
    assert reader.is_alive(), "the answer was complete before its row was on disk"
    lock.execute("ROLLBACK")
    reader.join(10)
    lock.close()
    assert b'"done": true' in got[0]
    assert len(running.rows()) == 1


def test_books_that_cannot_be_written_take_no_requests(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", ndjson({**LINE, "done": True, "eval_count": 1}))
    lock = sqlite3.connect(running.store.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    answer = running.post("/api/generate", ASK)
    assert answer.status == 503
    assert "cannot write its records" in answer.json["error"]
    assert answer.headers["Retry-After"]
    lock.execute("ROLLBACK")
    lock.close()
    for _ in range(100):
        if running.store.trouble is None:
            break
        time.sleep(0.05)
    assert running.post("/api/generate", ASK).status == 200
    assert running.rows()[-1]["status"] == 200


def test_a_request_that_comes_while_it_drains_is_turned_away(running: RunningGateway) -> None:
    running.services.gateway.draining = True
    answer = running.post("/api/generate", ASK)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert running.get("/readyz").status == 503


def test_silent_connections_are_closed_and_others_served(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", ndjson({**LINE, "done": True, "eval_count": 1}))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", client_timeout_s=0.5) as running:
        host, port = running.url.removeprefix("http://").split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(200)]
        for connection in silent[:100]:
            connection.sendall(b"POST /api/generate HTTP/1.1\r\nHost: x\r\n")
        assert running.post("/api/generate", ASK).status == 200
        for connection in silent:
            connection.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
            connection.close()


def test_a_body_that_stalls_is_408(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with gateway(tmp_path / "d", f"ollama={ollama.url}", client_timeout_s=0.3) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.key}\r\n"
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_no_secret_and_no_prompt_reach_the_log(
    running: RunningGateway,
    ollama: ScriptedUpstream,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ollama.on("/api/generate", whole(b"<html>", content_type="text/html"))
    running.post(f"/k/{running.key}/api/generate", {"model": "llama3", "prompt": "my diary"}, key=None)
    running.post("/api/login", {"username": "admin", "password": "wrong password 1"})
    said = caplog.text + "".join(capfd.readouterr())
    assert running.key not in said
    assert "my diary" not in said
    assert "wrong password 1" not in said


def test_silent_connections_make_room_for_those_that_ask(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", ndjson({**LINE, "done": True, "eval_count": 1}))
    with gateway(tmp_path / "d", f"ollama={ollama.url}", max_connections=50) as running:
        host, port = running.url.removeprefix("http://").split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(120)]
        assert running.post("/api/generate", ASK).status == 200
        for connection in silent:
            connection.close()
