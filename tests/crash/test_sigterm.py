"""SIGTERM under load: whatever can finish does, nothing new begins, and the process ends soon."""

from __future__ import annotations

import json
import random
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.crash import books
from tests.crash.gateways import Gateway, Launcher
from tests.crash.load import Load, upstream_for
from tests.support.scripted import ScriptedUpstream, ndjson


@pytest.mark.timeout(120)
def test_sigterm_under_load_cuts_nothing_that_could_finish(launcher: Launcher, tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    ends_s: list[float] = []
    with upstream_for(chance) as upstream:
        gateway = Gateway(launcher, tmp_path / "data", upstream.url)
        assert gateway.start() is None
        with Load(8, gateway.key, chance) as load:
            for _ in range(10):
                load.go(gateway.port)
                time.sleep(chance.uniform(0.1, 0.3))
                began = time.monotonic()
                gateway.signal(signal.SIGTERM)
                assert gateway.wait() == 0
                ends_s.append(time.monotonic() - began)
                load.pause()
                rows, running = books.ledger(gateway.data / "gemmapy.db")
                assert not running
                books.check(rows, running, load.seen, errors=())
                known = {row["client_request_id"] for row in rows}
                for one in load.seen:
                    if one.status == 200:
                        assert one.is_complete or one.kind.leaves, f"cut: {one}"
                    elif one.status:
                        assert (one.status, one.headers["retry-after"]) == (503, "5"), one
                    else:
                        assert one.asked_as not in known, f"it was taken, and never answered: {one}"
                assert gateway.start() is None
        assert sum(one.is_complete for one in load.seen) > 50
        assert books.audit_of(gateway.data) == []
        gateway.close()
    print(f"ended {sorted(ends_s)} s after SIGTERM")
    assert min(ends_s) < 2


def test_a_client_that_reads_nothing_does_not_keep_the_process_alive(
    launcher: Launcher, tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", ndjson(*[{"model": "llama3", "response": "x" * 100_000, "done": False}] * 300))
    limits = {"GEMMAPY_DRAIN_TIMEOUT_S": "0.5", "GEMMAPY_CLIENT_TIMEOUT_S": "1"}
    gateway = Gateway(launcher, tmp_path / "data", ollama.url, **limits)
    assert gateway.start() is None
    body = json.dumps({"model": "llama3", "prompt": "x"}).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as stuck:
        head = f"POST /api/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
        stuck.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert stuck.recv(10).startswith(b"HTTP/1.1 2")
        began = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert time.monotonic() - began < 10
    rows, running = books.ledger(gateway.data / "gemmapy.db")
    assert (len(rows), running) == (1, set())
