"""Killed at any moment: nothing acknowledged is lost, nothing is counted twice, and what was under way is found."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from tests.support.scripted import Hold, ScriptedUpstream, ndjson

PASSWORD = "correct horse battery"
LINE = {"model": "llama3", "response": "Hi", "done": False}
DONE = {"model": "llama3", "response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2}


class Program:
    """`gemmapy serve` in a process of its own."""

    def __init__(self, data: Path, upstream: str, **settings: str) -> None:
        self.data = data
        self._environment = {
            **os.environ,
            "GEMMAPY_ADMIN_PASSWORD": PASSWORD,
            "GEMMAPY_UPSTREAMS": f"ollama={upstream}",
            "GEMMAPY_PORT": "0",
            "GEMMAPY_DATA": str(data),
            **settings,
        }
        self.key = ""
        self.start()

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "gemmapy"), "serve"]
        self.process = subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        printed = ""
        while "API reference" not in printed and "/api/metrics/dashboard" not in printed:
            line = self.process.stdout.readline()
            assert line, printed
            printed += line
        found = re.search(r"http://localhost:(\d+)", printed)
        assert found is not None
        self.port = int(found[1])
        keys = re.findall(r"gp-[\w-]{43}", printed)
        self.key = keys[0] if keys else self.key

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def ask(self, pool: urllib3.PoolManager) -> tuple[str, bool]:
        """One streamed request; its id, and whether its answer was complete."""
        response = pool.request(
            "POST",
            f"http://127.0.0.1:{self.port}/api/generate",
            body=json.dumps({"model": "llama3", "prompt": "x"}).encode(),
            headers={"Authorization": f"Bearer {self.key}"},
            preload_content=False,
            retries=False,
            timeout=10,
        )
        body = response.read()
        return response.headers["X-Request-Id"].replace("-", ""), b'"done": true' in body

    def ledger(self) -> list[dict[str, Any]]:
        connection = sqlite3.connect(f"file:{self.data / 'gemmapy.db'}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM llm_metrics")]
        left = connection.execute("SELECT count(*) FROM inflight").fetchone()[0]
        connection.close()
        return [*rows, {"in_flight": left}] if left else rows


@pytest.fixture
def program(tmp_path: Path, ollama: ScriptedUpstream) -> Generator[Program]:
    started = Program(tmp_path / "data", ollama.url)
    yield started
    started.end(signal.SIGKILL)


@pytest.mark.timeout(120)
def test_kill_9_under_load_loses_nothing_acknowledged_and_counts_nothing_twice(
    program: Program, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", ndjson(LINE, DONE))
    acknowledged: set[str] = set()
    seen: set[str] = set()
    stop = threading.Event()
    chance = random.Random(7)

    def ask_on() -> None:
        with urllib3.PoolManager() as pool:
            while not stop.is_set():
                try:
                    request_id, complete = program.ask(pool)
                except urllib3.exceptions.HTTPError:
                    stop.wait(0.02)
                    continue
                seen.add(request_id)
                if complete:
                    acknowledged.add(request_id)

    threads = [threading.Thread(target=ask_on) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        time.sleep(chance.uniform(0.2, 0.8))
        program.end(signal.SIGKILL)
        program.start()
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    program.end(signal.SIGTERM)

    rows = program.ledger()
    ids = [row["request_id"].hex() for row in rows]
    assert len(acknowledged) > 50
    assert len(ids) == len(set(ids)), "a request is in the ledger twice"
    assert acknowledged <= set(ids), f"{len(acknowledged - set(ids))} acknowledged requests are lost"
    complete = {row["request_id"].hex() for row in rows if row["error_code"] is None and row["status"] == 200}
    assert acknowledged <= complete
    assert seen <= set(ids), "a byte went out of a request that has no row"
    assert {row["error_code"] for row in rows} <= {None, "interrupted"}


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


def test_what_was_under_way_is_recorded_as_interrupted_at_the_next_start(
    program: Program, ollama: ScriptedUpstream
) -> None:
    hold = Hold()
    ollama.on("/api/generate", ndjson(LINE, hold, DONE))
    connections = [_stream(program) for _ in range(3)]
    program.end(signal.SIGKILL)
    assert program.ledger() == [{"in_flight": 3}]
    for _ in range(2):
        program.start()
        program.end(signal.SIGTERM)
    rows = program.ledger()
    assert [(row["error_code"], row["estimated"]) for row in rows] == [("interrupted", 1)] * 3
    hold.event.set()
    for connection in connections:
        connection.close()


def test_sigterm_finishes_what_runs_and_takes_nothing_new(program: Program, ollama: ScriptedUpstream) -> None:
    hold = Hold()
    ollama.on("/api/generate", ndjson(LINE, hold, DONE))
    connection = _stream(program)
    program.process.send_signal(signal.SIGTERM)
    with urllib3.PoolManager(retries=False) as pool:
        address = f"http://127.0.0.1:{program.port}"
        deadline = time.monotonic() + 10
        while pool.request("GET", f"{address}/readyz").status != 503 and time.monotonic() < deadline:
            time.sleep(0.01)
        headers = {"Authorization": f"Bearer {program.key}"}
        refused = pool.request("POST", f"{address}/api/generate", body=b'{"model":"llama3"}', headers=headers)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
    hold.event.set()
    rest = b""
    while piece := connection.recv(4096):
        rest += piece
        if rest.endswith(b"0\r\n\r\n"):
            break
    connection.close()
    assert b'"done": true' in rest
    assert program.process.wait(timeout=20) == 0
    assert [(row["status"], row["error_code"], row["response_tokens"]) for row in program.ledger()] == [(200, None, 2)]


def test_what_does_not_finish_in_time_is_recorded_as_interrupted(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    hold = Hold()
    ollama.on("/api/generate", ndjson(LINE, hold, DONE))
    program = Program(tmp_path / "data", ollama.url, GEMMAPY_DRAIN_TIMEOUT_S="0.2")
    connection = _stream(program)
    assert program.end(signal.SIGTERM) == 0
    hold.event.set()
    connection.close()
    (row,) = program.ledger()
    assert (row["error_code"], row["prompt_tokens"], row["response_tokens"], row["estimated"]) == (
        "interrupted",
        1,
        1,
        1,
    )
