"""`gemmapy serve --workers 2`: one gateway, whichever of its processes answers, and whichever of them is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import ollama as ollama_client
import openai
import pytest
import urllib3
from tests.support.processes import children, lives
from tests.support.scripted import Hold, ScriptedUpstream, ndjson, sse

PASSWORD = "correct horse battery"
LINE = {"model": "llama3", "response": "Hi", "done": False}
DONE = {"model": "llama3", "response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}
QUESTION = {"model": "llama3", "prompt": "x", "stream": True, "use_cache": False}
CONNECTIONS = 24
"""Spread over two workers by chance: all with one of them in one run of eight million."""


class Program:
    """The gateway's processes, from outside."""

    def __init__(self, data: Path, upstream: str, workers: int = 2, **settings: str) -> None:
        self.data = data
        environment = {
            **os.environ,
            "GEMMAPY_ADMIN_PASSWORD": PASSWORD,
            "GEMMAPY_UPSTREAMS": upstream if upstream == "llamacpp" else f"ollama={upstream}",
            "GEMMAPY_PORT": "0",
            "GEMMAPY_DATA": str(data),
            "GEMMAPY_WORKERS": str(workers),
            **settings,
        }
        self.log = data.parent / "log"
        command = [str(Path(sys.executable).parent / "gemmapy"), "serve"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        printed = ""
        while "/api/metrics/dashboard" not in printed and "API reference" not in printed:
            line = self.process.stdout.readline()
            assert line, printed + self.log.read_text()
            printed += line
        self.port = int(re.findall(r"http://localhost:(\d+)", printed)[0])
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = "".join(re.findall(r"gp-[\w-]{43}", printed)[:1])

    def pids(self, name: str) -> list[int]:
        """The living processes whose name begins so."""
        return children(self.process.pid, name)

    def kill(self, name: str) -> int:
        """Kills one of them, and returns which."""
        pid = self.pids(name)[-1]
        os.kill(pid, signal.SIGKILL)
        return pid

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=40)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def ask(self, method: str, path: str, body: Any = None, *, key: str = "") -> tuple[int, Any]:
        """On a connection of its own, so that it may be any worker that answers; of a stream, its last line."""
        with urllib3.PoolManager(retries=False, timeout=20) as pool:
            response = self.on(pool, method, path, body, key=key)
            return response.status, json.loads(response.data.splitlines()[-1])

    def on(self, pool: urllib3.PoolManager, method: str, path: str, body: Any = None, *, key: str = "") -> Any:
        headers = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"}
        raw = None if body is None else json.dumps(body).encode()
        return pool.request(method, self.url + path, body=raw, headers=headers)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'gemmapy.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def audit(self) -> str:
        command = [str(Path(sys.executable).parent / "gemmapy"), "audit", "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


class Load:
    """Clients that ask streams, each on a connection of its own, until they are told to stop."""

    def __init__(self, program: Program, clients: int = 8) -> None:
        self._program = program
        self._stop = threading.Event()
        self.complete: set[str] = set()
        """Requests whose client saw the end of the answer."""
        self.seen: set[str] = set()
        """Requests of which a client saw a byte."""
        self.refused = 0
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def after(self, count: int) -> None:
        """Returns once so many more have been answered."""
        wanted = len(self.complete) + count
        until(lambda: len(self.complete) >= wanted, 60)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.is_set():
            with urllib3.PoolManager(retries=False, timeout=20) as pool:
                try:
                    for _ in range(20):
                        self._once(pool)
                except urllib3.exceptions.HTTPError:
                    self._stop.wait(0.01)

    def _once(self, pool: urllib3.PoolManager) -> None:
        if self._stop.is_set():
            return
        headers = {"Authorization": f"Bearer {self._program.key}"}
        body = json.dumps({"model": "llama3", "prompt": "x"}).encode()
        url = f"{self._program.url}/api/generate"
        response = pool.request("POST", url, body=body, headers=headers, preload_content=False)
        request_id = response.headers["X-Request-Id"].replace("-", "")
        if response.status != 200:
            response.read()
            assert response.status == 503, response.status
            assert int(response.headers["Retry-After"]) >= 1
            self.refused += 1
            self._stop.wait(0.01)
            return
        self.seen.add(request_id)
        if b'"done": true' in response.read():
            self.complete.add(request_id)


def until(is_so: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def program(ollama: ScriptedUpstream) -> Generator[Program]:
    ollama.on("/api/generate", ndjson(LINE, DONE))
    with tempfile.TemporaryDirectory(prefix="gp-") as folder:  # short: a socket's path has at most a hundred bytes
        started = Program(Path(folder) / "data", ollama.url)
        yield started
        started.end(signal.SIGKILL)


def check(program: Program, load: Load, errors: set[str | None]) -> None:
    """After everything: whatever was promised is in the books, once, and they balance."""
    rows = program.rows("SELECT lower(hex(request_id)), error_code, status, response_tokens FROM llm_metrics")
    ids = [row[0] for row in rows]
    assert len(ids) == len(set(ids)), "a request is in the ledger twice"
    assert load.seen <= set(ids), "a byte went out of a request that has no row"
    good = {row[0] for row in rows if row[1:] == (None, 200, 2)}
    assert load.complete <= good, f"{len(load.complete - good)} answers that were complete are not in the books"
    assert {row[1] for row in rows} <= errors
    assert program.rows("SELECT * FROM inflight") == []
    assert "balance" in program.audit()


def test_unmodified_clients_stream_and_the_books_balance(program: Program, ollama: ScriptedUpstream) -> None:
    text = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    end = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    ollama.on("/v1/chat/completions", sse(text, {"choices": [{"delta": {}, "finish_reason": "stop"}]}, end, "[DONE]"))
    load = Load(program)
    for _ in range(6):
        client = ollama_client.Client(host=program.url, headers={"Authorization": f"Bearer {program.key}"})
        assert [part.response for part in client.generate("llama3", "x", stream=True)] == ["Hi", ""]
        client._client.close()
        with openai.OpenAI(base_url=f"{program.url}/v1", api_key=program.key, max_retries=0) as other:
            question = [{"role": "user", "content": "x"}]
            stream = other.chat.completions.create(model="llama3", messages=question, stream=True)  # pyright: ignore
            assert next(part.choices[0].delta.content for part in stream if part.choices) == "Hi"
    load.after(200)
    load.end()
    assert program.end() == 0
    check(program, load, {None})
    assert load.refused == 0
    writers = {row[0] for row in program.rows("SELECT count(*) FROM llm_metrics")}
    assert writers == {len(load.complete) + 12}
    assert list((program.data / "processes").iterdir()) == []


def test_whatever_one_worker_did_all_others_know(program: Program) -> None:
    status, said = program.ask("POST", "/api/login", {"username": "admin", "password": PASSWORD})
    assert status == 200
    for _ in range(CONNECTIONS):
        assert program.ask("GET", "/api/profile", key=said["token"])[0] == 200
        answer = program.ask("POST", "/api/ollama/generate", QUESTION)[1]
        path = f"/api/metrics/{answer['metric_id']}/rate"
        assert program.ask("POST", path, {"rating": 1})[0] == 200
    assert program.rows("SELECT count(*) FROM llm_metrics WHERE user_rating = 1") == [(CONNECTIONS,)]
    price = {"model": "llama3", "input_cost": 1, "output_cost": 1}
    assert program.ask("PUT", "/api/admin/costs/pricing", price)[0] == 200
    with contextlib.ExitStack() as stack:
        pools = [stack.enter_context(urllib3.PoolManager(retries=False, timeout=20)) for _ in range(CONNECTIONS)]
        changed = time.monotonic()

        def price_of(pool: urllib3.PoolManager) -> float:
            answer = program.on(pool, "POST", "/api/ollama/generate", QUESTION)
            return json.loads(answer.data.splitlines()[-1])["cost"]

        while any(price_of(pool) != 0.005 for pool in pools):
            assert time.monotonic() - changed < 5
        made = program.ask("POST", "/api/keys", {"name": "short"})[1]
        until(lambda: all(program.on(p, "GET", "/api/profile", key=made["key"]).status == 200 for p in pools))
        assert program.ask("DELETE", f"/api/keys/{made['id']}")[0] == 200
        revoked = time.monotonic()
        refused_at: list[float] = []
        for pool in pools:
            while program.on(pool, "GET", "/api/profile", key=made["key"]).status != 401:
                pass
            refused_at.append(time.monotonic() - revoked)
        assert refused_at[0] < 1
        assert refused_at[-1] < 2, "on a busy machine; alone it is 250 ms"


def test_kept_answers_are_counted_and_forgotten_in_all_workers(program: Program) -> None:
    question = {**QUESTION, "use_cache": True, "options": {"temperature": 0}}
    for _ in range(CONNECTIONS):
        assert program.ask("POST", "/api/ollama/generate", question)[0] == 200
    stats = program.ask("GET", "/api/cache/stats")[1]
    assert (stats["hits"], stats["misses"], stats["entries"]) == (CONNECTIONS - 2, 2, 2)
    assert [(model["model"], model["entries"]) for model in stats["by_model"]] == [("llama3", 2)]
    assert program.ask("GET", "/api/retry/stats")[1]["requests"] == 2
    assert program.ask("POST", "/api/cache/clear", {"model": "llama3"})[1]["removed"] == 2
    assert program.ask("GET", "/api/cache/stats")[1]["entries"] == 0
    assert program.ask("GET", "/api/queue/stats")[1]["upstreams"][0]["name"] == "ollama"


def test_failed_logins_are_counted_together(program: Program) -> None:
    statuses = [program.ask("POST", "/api/login", {"username": "admin", "password": f"no {n}"})[0] for n in range(7)]
    assert statuses[:5] == [401] * 5
    assert 429 in statuses[5:]


@pytest.mark.timeout(180)
def test_a_worker_that_is_killed_is_started_again_and_what_it_answered_is_interrupted_at_once(
    program: Program, ollama: ScriptedUpstream
) -> None:
    load = Load(program)
    load.after(50)
    for _ in range(3):
        killed = program.kill("worker")
        until(lambda k=killed: len(program.pids("worker")) == 2 and k not in program.pids("worker"))
        load.after(50)
    load.end()
    hold = Hold()
    ollama.on("/api/generate", ndjson(LINE, hold, DONE))
    connections = [_stream(program) for _ in range(8)]
    before = program.rows("SELECT count(*) FROM llm_metrics WHERE error_code = 'interrupted'")[0][0]
    by_writer = dict(program.rows("SELECT writer, count(*) FROM inflight GROUP BY writer"))
    began = time.monotonic()
    program.kill("worker")
    counts = {8 - count for count in by_writer.values()}
    until(lambda: program.rows("SELECT count(*) FROM inflight")[0][0] in counts)
    assert time.monotonic() - began < 5
    after = program.rows("SELECT count(*) FROM llm_metrics WHERE error_code = 'interrupted'")[0][0]
    assert after - before in set(by_writer.values())
    hold.event.set()
    for connection in connections:
        connection.close()
    assert program.end() == 0
    check(program, load, {None, "interrupted"})


@pytest.mark.timeout(180)
def test_a_keeper_that_is_killed_loses_nothing_and_counts_nothing_twice(program: Program) -> None:
    load = Load(program)
    load.after(50)
    for _ in range(4):
        killed = program.kill("keeper")
        until(lambda k=killed: len(program.pids("keeper")) == 1 and k not in program.pids("keeper"))
        load.after(50)
    load.end()
    assert program.end() == 0
    check(program, load, {None, "storage_unavailable"})


@pytest.mark.timeout(120)
def test_sigterm_finishes_what_runs_in_every_worker(program: Program, ollama: ScriptedUpstream) -> None:
    load = Load(program)
    load.after(30)
    load.end()
    hold = Hold()
    ollama.on("/api/generate", ndjson(LINE, hold, DONE))
    connections = [_stream(program) for _ in range(12)]
    program.process.send_signal(signal.SIGTERM)
    hold.event.set()
    for connection in connections:
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            piece = connection.recv(4096)
            assert piece, rest
            rest += piece
        assert b'"done": true' in rest
        connection.close()
    assert program.process.wait(timeout=30) == 0
    check(program, load, {None})
    assert program.rows("SELECT count(*) FROM llm_metrics")[0][0] == len(load.complete) + 12


@pytest.mark.timeout(120)
def test_the_embedded_model_runs_once_for_all_workers(tmp_path: Path) -> None:
    program = Program(tmp_path / "data", "llamacpp")
    question = {"model": "smollm2:135m", "prompt": "x", "stream": False, "options": {"num_predict": 2}}
    try:
        for _ in range(8):
            assert program.ask("POST", "/api/generate", question)[0] == 200
        program.kill("keeper")  # whose child it is
        until(lambda: program.ask("POST", "/api/generate", question)[0] == 200)
        for _ in range(8):
            assert program.ask("POST", "/api/generate", question)[0] == 200
        assert "could not be dealt with" not in program.log.read_text()
    finally:
        assert program.end() == 0
    assert "balance" in program.audit()


def test_nobody_else_can_reach_the_socket_of_the_books(program: Program) -> None:
    folder = program.data / "processes"
    (socket_of_books,) = folder.iterdir()
    assert [path.stat().st_mode & 0o077 for path in (folder, socket_of_books)] == [0, 0]


def test_no_process_outlives_a_supervisor_that_is_killed(program: Program) -> None:
    pids = program.pids("")
    assert len(pids) == 3
    program.end(signal.SIGKILL)
    until(lambda: not any(lives(pid) for pid in pids))
    # The port is free, the books are, and what the sockets left behind is in nobody's way.
    again = Program(program.data, "http://127.0.0.1:9", GEMMAPY_PORT=str(program.port), GEMMAPY_ADMIN_PASSWORD="")
    assert again.end() == 0


def test_a_port_that_is_taken_is_told_before_anything_begins(tmp_path: Path, program: Program) -> None:
    command = [str(Path(sys.executable).parent / "gemmapy"), "serve", "--workers", "2", "--port", str(program.port)]
    said = subprocess.run(
        [*command, "--data", str(tmp_path / "other")], capture_output=True, text=True, check=False, timeout=30
    )
    assert said.returncode == 2
    assert "cannot be listened on" in said.stderr
    assert not (tmp_path / "other").exists()


def _stream(program: Program) -> socket.socket:
    """A request whose answer has begun."""
    body = json.dumps({"model": "llama3", "prompt": "x"}).encode()
    connection = socket.create_connection(("127.0.0.1", program.port), timeout=20)
    head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {program.key}\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    got = b""
    while b'"Hi"' not in got:
        piece = connection.recv(4096)
        assert piece, got
        got += piece
    return connection
