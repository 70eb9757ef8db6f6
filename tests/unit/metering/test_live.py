"""The live feed by itself: one look for everybody, nothing gathers for a slow listener, and it ends when told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from tests.support.clock import FixedClock

from gemmapy.core.errors import Draining, TooManyRequests
from gemmapy.core.ids import RequestIds, id_text
from gemmapy.core.records import Intent
from gemmapy.metering import live
from gemmapy.metering.collector import MetricsCollector
from gemmapy.metering.live import LiveFeed
from gemmapy.storage.store import Store

QUICK_S = 0.005


@pytest.fixture
def collector(store: Store) -> MetricsCollector:
    return MetricsCollector(store)


@pytest.fixture
async def feed(store: Store, collector: MetricsCollector, clock: FixedClock) -> AsyncGenerator[LiveFeed]:
    made = LiveFeed(store, collector, clock, poll_s=QUICK_S)
    yield made
    await made.close()


def always() -> bool:
    return True


def events(piece: bytes) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for event in piece.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if line)
        if b"event" in fields:
            found.append((fields[b"event"].decode(), json.loads(fields[b"data"])))
    return found


async def begun(feed: LiveFeed, user_id: int | None = None, since: int | None = None) -> AsyncGenerator[bytes]:
    """A stream that has had its first state."""
    stream = feed.listen(user_id, always, since)
    assert await anext(stream) == b"retry: 2000\n\n"
    while not (first := events(await anext(stream))):
        pass  # a heartbeat, where the machine is slow
    assert [name for name, _ in first][-1] == "state"
    return stream


async def record(collector: MetricsCollector, user_id: int = 1) -> int:
    return await asyncio.to_thread(collector.record, user_id, "llama3", "/api/chat", prompt_tokens=1, response_tokens=1)


async def looked(feed: LiveFeed, times: int = 2) -> None:
    """Waits until the database has been looked at so many times more."""
    goal = feed.looks + times
    while feed.looks < goal:  # noqa: ASYNC110
        await asyncio.sleep(QUICK_S)


async def test_twenty_listeners_cost_one_look(feed: LiveFeed, collector: MetricsCollector) -> None:
    streams = [await begun(feed) for _ in range(20)]
    made = await record(collector)
    told = [await anext(stream) for stream in streams]
    assert len({bytes(piece) for piece in told}) == 1
    ((name, data),) = events(told[0])
    assert (name, [entry["id"] for entry in data["requests"]], data["skipped"]) == ("requests", [made], 0)
    before = feed.looks
    await looked(feed, 3)
    assert feed.looks - before < 20
    for stream in streams:
        await stream.aclose()
    assert feed.listeners == 0


async def test_a_slow_listener_is_told_how_much_it_missed_and_nothing_gathers(
    feed: LiveFeed, collector: MetricsCollector
) -> None:
    slow, quick = await begun(feed), await begun(feed)
    ids: list[int] = []
    for _ in range(live.WAITING_AT_MOST + 5):
        ids.append(await record(collector))
        assert [entry["id"] for _, data in events(await anext(quick)) for entry in data["requests"]] == ids[-1:]
    ((name, data),) = events(await anext(slow))
    assert (name, data) == ("requests", {"requests": [], "skipped": len(ids)})
    last = await record(collector)
    ((_, data),) = events(await anext(slow))
    assert ([entry["id"] for entry in data["requests"]], data["skipped"]) == ([last], 0)
    await slow.aclose()
    await quick.aclose()


async def test_many_at_once_are_told_as_the_newest_fifty_and_a_number(
    feed: LiveFeed, collector: MetricsCollector
) -> None:
    first = await record(collector)
    for _ in range(60):
        await record(collector, 2)
    await record(collector)
    stream = feed.listen(2, always, first)
    await anext(stream)
    (_, data), (_, state) = events(await anext(stream))
    assert len(data["requests"]) == 50
    assert data["skipped"] == 10
    assert [entry["id"] for entry in data["requests"]] == sorted(entry["id"] for entry in data["requests"])
    assert {entry["user_id"] for entry in data["requests"]} == {2}
    assert state["last_id"] == first + 61
    await stream.aclose()


async def test_a_state_follows_another_at_most_twice_a_second_and_is_the_newest(
    feed: LiveFeed, store: Store, clock: FixedClock
) -> None:
    stream = await begun(feed)
    ids = RequestIds()
    begin = [Intent(ids.new(), 1, "llama3", "/api/chat", clock.now()) for _ in range(3)]
    await store.admit(begin[0])
    ((_, state),) = events(await anext(stream))
    assert [one["request_id"] for one in state["running"]] == [id_text(begin[0].request_id)]
    waiting = asyncio.ensure_future(anext(stream))
    await store.admit(begin[1])
    await store.admit(begin[2])
    await looked(feed, 3)
    assert not waiting.done()  # the clock stands still
    clock.go_on(seconds=live.STATE_EVERY_S)
    ((_, state),) = events(await waiting)
    assert {one["request_id"] for one in state["running"]} == {id_text(intent.request_id) for intent in begin}
    assert state["running_total"] == 3
    await stream.aclose()


async def test_a_hundred_running_requests_are_shown_and_all_are_counted(
    feed: LiveFeed, store: Store, clock: FixedClock
) -> None:
    ids = RequestIds()
    for number in range(105):
        await store.admit(Intent(ids.new(), 1 + number % 2, "llama3", "/api/chat", clock.now()))
    state = feed.state(None)
    assert (len(state["running"]), state["running_total"]) == (100, 105)
    own = feed.state(2)
    assert own["running_total"] == 52
    assert {one["username"] for one in own["running"]} == {"bob"}


async def test_a_quiet_stream_has_a_heartbeat(store: Store, collector: MetricsCollector, clock: FixedClock) -> None:
    feed = LiveFeed(store, collector, clock, poll_s=QUICK_S, heartbeat_s=0.02)
    stream = await begun(feed)
    assert (await anext(stream)).startswith(b":")
    await stream.aclose()
    await feed.close()


async def test_who_may_no_longer_listen_is_told_nothing_more(feed: LiveFeed, collector: MetricsCollector) -> None:
    allowed = [True]
    stream = feed.listen(None, lambda: allowed[0])
    await anext(stream)
    await anext(stream)
    allowed[0] = False
    await record(collector)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert feed.listeners == 0


async def test_closing_ends_every_stream_and_refuses_new_ones(feed: LiveFeed) -> None:
    streams = [await begun(feed) for _ in range(3)]
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    await feed.close()
    for one in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(one, bytes | StopAsyncIteration)
    for stream in streams:
        assert [piece async for piece in stream] == []
    with pytest.raises(Draining):
        feed.listen(None, always)


async def test_a_thousand_streams_are_enough(feed: LiveFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LISTENERS_AT_MOST", 1)
    stream = await begun(feed)
    with pytest.raises(TooManyRequests):
        feed.listen(None, always)
    await stream.aclose()


async def test_a_database_that_fails_for_a_moment_does_not_end_the_stream(
    feed: LiveFeed, collector: MetricsCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await begun(feed)

    def fail(*_: object) -> None:
        raise OSError("disk on fire")

    with monkeypatch.context() as broken:
        broken.setattr(live.live, "newest_metric_id", fail)
        made = await record(collector)
        await looked(feed)
    ((_, data),) = events(await anext(stream))
    assert [entry["id"] for entry in data["requests"]] == [made]
    await stream.aclose()
