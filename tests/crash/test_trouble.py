"""Bad days under load: no space, a locked database, an upstream that dies and one that talks nonsense.

Each time the books hold what clients saw, and once it is over all is as before, without a restart.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.crash import books
from tests.crash.gateways import Gateway, Launcher
from tests.crash.load import Load, Seen, upstream_for
from tests.support.scripted import Cut, Reset, Script

STORAGE = ("storage_unavailable",)
UPSTREAM = ("upstream_error", "upstream_unreachable", "upstream_timeout")


@dataclass
class Served:
    """A gateway under load."""

    gateway: Gateway
    load: Load

    def serve(self, seconds: float) -> list[Seen]:
        """Lets the clients ask for so long; what they saw of it."""
        before = len(self.load.seen)
        self.load.go(self.gateway.port)
        time.sleep(seconds)
        self.load.pause()
        return self.load.seen[before:]

    def ask(self) -> tuple[int, bool, float]:
        """One request by itself: its status, whether it says when to come again, and how long that took."""
        began = time.monotonic()
        with urllib3.PoolManager(retries=False, timeout=30) as pool:
            answer = pool.request(
                "POST",
                f"http://127.0.0.1:{self.gateway.port}/api/generate",
                body=b'{"model": "llama3", "prompt": "question 1000000", "stream": false}',
                headers={"Authorization": f"Bearer {self.gateway.key}"},
            )
        return answer.status, "Retry-After" in answer.headers, time.monotonic() - began

    def is_well(self) -> bool:
        with urllib3.PoolManager(retries=False, timeout=5) as pool:
            return pool.request("GET", f"http://127.0.0.1:{self.gateway.port}/readyz").status == 200

    def recover_s(self) -> float:
        """How long it takes until it says that it is well."""
        began = time.monotonic()
        while not self.is_well():
            assert time.monotonic() - began < 20, "it does not recover"
            time.sleep(0.02)
        return time.monotonic() - began

    def check(self, errors: Sequence[str]) -> list[books.Row]:
        """Ends it in peace and holds the books against the clients."""
        self.gateway.signal(signal.SIGTERM)
        assert self.gateway.wait() == 0
        rows, running = books.ledger(self.gateway.data / "gemmapy.db")
        assert not running
        books.check(rows, running, self.load.seen, errors)
        assert books.audit_of(self.gateway.data) == []
        return rows


@contextmanager
def served(launcher: Launcher, folder: Path, upstream: str, chance: random.Random, **settings: str) -> Any:
    gateway = Gateway(launcher, folder / "data", upstream, **settings)
    try:
        assert gateway.start() is None, gateway.log.read_text()
        with Load(6, gateway.key, chance, pause_s=0.005) as load:
            yield Served(gateway, load)
    finally:
        gateway.close()


@pytest.fixture
def chance(seed: int) -> random.Random:
    print(f"seed {seed}")
    return random.Random(seed)


@contextmanager
def _limited(served: Served) -> Generator[None]:
    """No file of the gateway may grow: what a full disk is, without one."""
    log = served.gateway.data / "gemmapy.db-wal"
    with closing(sqlite3.connect(served.gateway.data / "gemmapy.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else the log has room from before
    assert served.gateway.pid is not None
    _, most = resource.prlimit(served.gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(served.gateway.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 20_000, most))
    yield
    resource.prlimit(served.gateway.pid, resource.RLIMIT_FSIZE, (most, most))


def closed_door(served: Served, trouble: AbstractContextManager[Any], seconds: float) -> list[Seen]:
    """Under load the books cannot be written for so long, and the gateway says so; what its clients saw of it."""
    before = len(served.load.seen)
    with trouble:
        served.load.go(served.gateway.port)
        time.sleep(seconds)
        answers = [served.ask() for _ in range(5)]
        assert not served.is_well()
    served.load.pause()
    assert {(status, says_when) for status, says_when, _ in answers} == {(503, True)}
    assert max(took_s for _, _, took_s in answers) < 3
    during = served.load.seen[before:]
    assert {one.status for one in during} - {0} <= {200, 503}
    return during


def _bad_day(served: Served, trouble: AbstractContextManager[Any], seconds: float = 1) -> None:
    """As on any day before and after, and nothing of it is lost."""
    assert any(one.is_complete for one in served.serve(0.4))
    closed_door(served, trouble, seconds)
    assert served.recover_s() < 3
    after = served.serve(0.4)
    assert {one.status for one in after} == {200}
    assert any(one.is_complete for one in after)
    served.check(STORAGE)


@pytest.mark.timeout(120)
def test_a_disk_without_space_closes_the_door_and_loses_nothing(
    launcher: Launcher, tmp_path: Path, chance: random.Random
) -> None:
    with upstream_for(chance) as upstream, served(launcher, tmp_path, upstream.url, chance) as gateway:
        _bad_day(gateway, _limited(gateway))


def test_a_full_file_system_closes_the_door_and_loses_nothing(
    launcher: Launcher, tmp_path: Path, chance: random.Random
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(small)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system of its own takes root")

    @contextmanager
    def full() -> Generator[None]:
        ballast = small / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (65_536, 4_096, 512):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
        yield
        ballast.unlink()

    try:
        with upstream_for(chance) as upstream, served(launcher, small, upstream.url, chance) as gateway:
            _bad_day(gateway, full())
    finally:
        subprocess.run(["umount", str(small)], check=True)


@contextmanager
def locked(served: Served) -> Generator[None]:
    """Another process holds the write lock."""
    with closing(sqlite3.connect(served.gateway.data / "gemmapy.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.timeout(120)
def test_a_database_that_another_process_locks_closes_the_door_and_loses_nothing(
    launcher: Launcher, tmp_path: Path, chance: random.Random
) -> None:
    with upstream_for(chance) as upstream, served(launcher, tmp_path, upstream.url, chance) as gateway:
        _bad_day(gateway, locked(gateway), 3)


@pytest.mark.timeout(120)
def test_an_upstream_that_is_killed_and_comes_back_is_asked_again(
    launcher: Launcher, tmp_path: Path, chance: random.Random
) -> None:
    settings = {"GEMMAPY_BREAKER_OPEN_S": "0.5", "GEMMAPY_RETRIES": "0"}
    with upstream_for(chance) as first, served(launcher, tmp_path, first.url, chance, **settings) as gateway:
        gateway.load.go(gateway.gateway.port)
        time.sleep(0.4)
        first.close()
        time.sleep(0.6)
        gateway.load.pause()
        during = {one.status for one in gateway.load.seen}
        assert during - {0} <= {200, 502, 503}
        assert 503 in during
        with upstream_for(chance, port=first.port):
            deadline = time.monotonic() + 15
            while any(one.status != 200 for one in gateway.serve(0.3)):
                assert time.monotonic() < deadline, "it does not ask the upstream again"
            assert any(one.is_complete for one in gateway.serve(0.3))
        rows = gateway.check(UPSTREAM)
    assert {row["error_code"] for row in rows} >= {None, "upstream_unreachable"}


NONSENSE: tuple[Callable[[bytes, random.Random], Any], ...] = (
    lambda data, chance: bytes(byte ^ (chance.random() < 0.05) * chance.randrange(256) for byte in data),
    lambda data, chance: data[: chance.randrange(len(data))],
    lambda data, chance: data + data,
    lambda data, chance: chance.randbytes(len(data)),
    lambda data, chance: data.replace(b'"eval_count": ', b'"eval_count": -').replace(b'tokens": ', b'tokens": 1e'),
    lambda data, chance: data.replace(b'count": ', b'count": 99999999999999999999').replace(b'": "', b'": {"'),
    lambda data, chance: b"",
    lambda data, chance: Cut(),
    lambda data, chance: Reset(),
)


def spoiled(script: Script, chance: random.Random, share: float = 0.1) -> Script:
    """A script, of whose frames so many are made nonsense, in one way or another; HTTP itself holds."""
    steps: list[Any] = []
    for step in script:
        is_frame = isinstance(step, bytes) and step != b"0\r\n\r\n" and b"chunked\r\n" not in step
        if not is_frame or chance.random() >= share:
            steps.append(step)
            continue
        head, _, data = step.partition(b"\r\n\r\n") if step.startswith(b"HTTP/") else (b"", b"", step)
        if not head:
            data = data[data.index(b"\r\n") + 2 : -2]
        said = chance.choice(NONSENSE)(data, chance)
        if not isinstance(said, bytes):
            steps.append(said)
        elif head:
            length = f"\r\nContent-Length: {len(said)}".encode()
            steps.append(re.sub(rb"\r\nContent-Length: \d+", length, head) + b"\r\n\r\n" + said)
        elif said:
            steps.append(f"{len(said):x}\r\n".encode() + said + b"\r\n")
    return steps


@pytest.mark.timeout(120)
def test_whatever_an_upstream_sends_every_request_has_its_row_and_the_books_balance(
    launcher: Launcher, tmp_path: Path, chance: random.Random
) -> None:
    settings = {"GEMMAPY_BREAKER_FAILURES": "100000", "GEMMAPY_RETRIES": "0", "GEMMAPY_IDLE_TIMEOUT_S": "1"}
    settings["GEMMAPY_FIRST_BYTE_TIMEOUT_S"] = "1"
    with (
        upstream_for(chance, longest_pause_s=0.002, spoil=lambda script: spoiled(script, chance)) as upstream,
        served(launcher, tmp_path, upstream.url, chance, **settings) as gateway,
    ):
        gateway.serve(4)
        gateway.gateway.signal(signal.SIGTERM)
        assert gateway.gateway.wait() == 0
        rows, running = books.ledger(gateway.gateway.data / "gemmapy.db")
        seen = gateway.load.seen
        assert "Traceback" not in gateway.gateway.log.read_text()
    assert not running
    known = {row["client_request_id"]: row for row in rows}
    assert len(known) == len(rows) == len(seen)
    for one in seen:
        row = known[one.asked_as]
        assert row["error_code"] in (None, *UPSTREAM), row
        assert one.kind.leaves or one.status in (200, 502, 504) or row["status"] == one.status, one
        if one.status:
            answered = one.is_complete and b'"error"' not in one.body
            assert row["request_id"] == one.request_id
            assert not (row["error"] and answered), (row, one)
            if row["status"] == 200 and not row["error"]:  # OpenAI's [DONE] may be missing: the answer is whole without
                assert answered or one.kind.leaves or b'"finish_reason": "stop"' in one.body, (row, one)
    for column in ("prompt_tokens", "response_tokens", "cost_nusd", "duration_ms", "ttft_ms", "generation_ms"):
        assert min(row[column] or 0 for row in rows) >= 0
    assert {row["error_code"] for row in rows} >= {None, "upstream_error"}
    assert books.audit_of(gateway.gateway.data) == []
