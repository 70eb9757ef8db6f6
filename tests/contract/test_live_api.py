"""The live stream over HTTP: who sees what, how soon, and how it ends."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import Hold, ScriptedUpstream, ndjson, whole

ASK = {"model": "llama3", "prompt": "x", "stream": False}
DONE = {"model": "llama3", "response": "Hi", "done": True, "prompt_eval_count": 1, "eval_count": 1}


@pytest.fixture(scope="module")
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream() as started:
        yield started


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    with gateway(tmp_path_factory.mktemp("live") / "data", f"ollama={upstream.url}") as started:
        yield started


@pytest.fixture(autouse=True)
def answers(upstream: ScriptedUpstream) -> None:
    upstream.on("/api/generate", whole(DONE))


_made = iter(range(10_000))


@pytest.fixture
def user(api: RunningGateway) -> dict[str, Any]:
    """Somebody who is no admin: id, key."""
    made = api.post("/api/admin/users", {"username": f"user{next(_made)}", "password": PASSWORD}).json
    return {**made, "key": api.post(f"/api/admin/users/{made['id']}/keys", {"name": "k"}).json["key"]}


class Stream:
    """Reads server-sent events in a thread of its own."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.raw: list[bytes] = []
        self._events: queue.Queue[tuple[str, Any, float] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(Exception):
            for piece in self.response.stream(65536):
                rest += piece
                *events, rest = rest.split(b"\n\n")
                for event in events:
                    self.raw.append(event)
                    fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if not line.startswith(b":"))
                    if b"event" in fields:
                        said = (fields[b"event"].decode(), json.loads(fields[b"data"]), time.monotonic())
                        self._events.put(said)
        self._events.put(None)

    def next(self, event: str, timeout: float = 5) -> tuple[Any, float]:
        """The data of the next event of that name, and when it came; fails where the stream ends first."""
        while True:
            got = self._events.get(timeout=timeout)
            assert got is not None, "the stream ended"
            if got[0] == event:
                return got[1], got[2]

    def ended(self, timeout: float = 5) -> bool:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if self._events.get(timeout=0.1) is None:
                    return True
            except queue.Empty:
                continue
        return False

    def close(self) -> None:
        connection = self.response.connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self.response.release_conn()


@contextlib.contextmanager
def listening(api: RunningGateway, path: str = "/api/live", **how: Any) -> Iterator[Stream]:
    response = api.get(path, preload=False, **how)
    assert response.status == 200
    stream = Stream(response)
    try:
        yield stream
    finally:
        stream.close()


def test_the_stream_begins_with_how_to_come_back_and_the_state(api: RunningGateway) -> None:
    with listening(api) as stream:
        state, _ = stream.next("state")
        assert set(state) == {"now", "running", "running_total", "last_id"}
        assert state["running"] == []
        assert stream.raw[0] == b"retry: 2000"
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert stream.response.headers["Cache-Control"] == "no-store"
        assert stream.response.headers["X-Accel-Buffering"] == "no"


def test_a_request_is_seen_while_it_runs_and_when_it_has_finished(
    api: RunningGateway, upstream: ScriptedUpstream
) -> None:
    hold = Hold()
    upstream.on("/api/generate", ndjson(hold, DONE))
    with listening(api) as stream:
        before, _ = stream.next("state")
        asking = threading.Thread(target=api.post, args=("/api/generate", {**ASK, "stream": True}))
        began = time.monotonic()
        asking.start()
        state, came = stream.next("state")
        assert came - began < 2
        (one,) = state["running"]
        expected = {"user_id": 1, "username": "admin", "model": "llama3", "endpoint": "/api/generate", "stream": True}
        assert {name: one[name] for name in expected} == expected
        assert (one["upstream"], state["running_total"]) == ("ollama", 1)
        assert set(one) == {*expected, "upstream", "request_id", "started_at"}
        assert api.get("/api/running").json["running"] == state["running"]
        hold.event.set()
        finished = time.monotonic()
        told, came = stream.next("requests")
        assert came - finished < 2
        asking.join()
        (entry,) = told["requests"]
        assert told["skipped"] == 0
        assert entry == api.get("/api/metrics/requests?limit=1").json["requests"][0]
        assert (entry["request_id"], entry["id"] > before["last_id"]) == (one["request_id"], True)
        state, _ = stream.next("state")
        assert (state["running"], state["last_id"]) == ([], entry["id"])


def test_a_user_sees_their_own_and_an_admin_everybodys_or_one_users(api: RunningGateway, user: dict[str, Any]) -> None:
    with (
        listening(api) as everybody,
        listening(api, key=user["key"]) as own,
        listening(api, f"/api/live?user_id={user['id']}") as chosen,
    ):
        for stream in (everybody, own, chosen):
            stream.next("state")
        api.post("/api/generate", ASK)
        api.post("/api/generate", ASK, key=user["key"])
        for stream in (own, chosen):
            told, _ = stream.next("requests")
            assert [entry["user_id"] for entry in told["requests"]] == [user["id"]]
        seen: list[int] = []
        while len(seen) < 2:
            seen += [entry["user_id"] for entry in everybody.next("requests")[0]["requests"]]
        assert seen == [1, user["id"]]
    refused = api.get("/api/live?user_id=1", key=user["key"])
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert api.get("/api/running?user_id=1", key=user["key"]).status == 403


def test_who_comes_back_is_told_what_was_missed(api: RunningGateway) -> None:
    last = api.post("/api/ollama/generate", ASK).json["metric_id"]
    ids = [api.post("/api/ollama/generate", ASK).json["metric_id"] for _ in range(53)]
    for how in ({"path": f"/api/live?last_id={last}"}, {"headers": {"Last-Event-ID": str(last)}}):
        with listening(api, **how) as stream:
            told, _ = stream.next("requests")
            assert [entry["id"] for entry in told["requests"]] == ids[-50:]
            assert told["skipped"] == 3
            assert stream.raw[1].startswith(b"id: %d\n" % ids[-1])
    for strange in ("", "x", "-1", "9" * 30, str(10**17)):
        with listening(api, headers={"Last-Event-ID": strange}) as stream:
            stream.next("state")
            assert not any(b"event: requests" in event for event in stream.raw)


def test_the_stream_needs_a_credential_and_takes_the_pages_cookie(api: RunningGateway) -> None:
    assert api.get("/api/live", key=None).status == 401
    assert api.get("/api/running", key=None).status == 401
    signed_in = api.post("/api/session", {"username": "admin", "password": PASSWORD}, key=None)
    cookie = signed_in.headers["Set-Cookie"].partition(";")[0]
    with listening(api, key=None, headers={"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}) as stream:
        stream.next("state")


def test_a_stream_ends_when_its_user_is_kept_out(api: RunningGateway, user: dict[str, Any]) -> None:
    with listening(api, key=user["key"]) as stream:
        stream.next("state")
        api.request("PATCH", f"/api/admin/users/{user['id']}", {"disabled": True})
        with api.store.read() as connection:
            connection.exec_driver_sql("SELECT 1")
        api.services.collector.record(user["id"], "llama3", "/x", prompt_tokens=1)  # what it would be told of
        assert stream.ended()
        assert not any(b"event: requests" in event for event in stream.raw)


def test_nobody_asks_the_database_while_nobody_listens(api: RunningGateway) -> None:
    with listening(api) as stream:
        stream.next("state")
    deadline = time.monotonic() + 5
    while api.services.live.listeners and time.monotonic() < deadline:
        time.sleep(0.01)
    assert api.services.live.listeners == 0
    looks = api.services.live.looks
    threading.Event().wait(0.6)
    assert api.services.live.looks <= looks + 1
