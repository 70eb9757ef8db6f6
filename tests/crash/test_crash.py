"""`gemmapy serve` itself, killed and told to end: what was under way is found, and what can finish does."""

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
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.crash import books
from tests.crash.load import Load, upstream_for
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
def test_the_program_itself_is_killed_and_serves_again_within_two_seconds(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    starts_s: list[float] = []
    with upstream_for(chance) as upstream:
        program = Program(tmp_path / "data", upstream.url)
        with Load(8, program.key, chance) as load:
            for _ in range(4):
                load.go(program.port)
                time.sleep(chance.uniform(0.2, 0.5))
                program.end(signal.SIGKILL)
                load.pause()
                began = time.monotonic()
                program.start()
                starts_s.append(time.monotonic() - began)
                books.check(*books.ledger(program.data / "gemmapy.db"), load.seen)
            complete = [one for one in load.seen if one.is_complete]
        program.end(signal.SIGTERM)
    print(f"started again in {starts_s} s")
    assert len(complete) > 20
    assert min(starts_s) < 2
    command = [str(Path(sys.executable).parent / "gemmapy"), "audit", "--data", str(program.data)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, "The books balance" in told.stdout) == (0, True), told


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
