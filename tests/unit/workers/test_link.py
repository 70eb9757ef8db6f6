"""Workers hand their records to the process that keeps the books: as durable, as exactly once, as with a writer of
their own, whichever of them dies. Real sockets and real stores; the processes are played by objects."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy.core.errors import InvalidRequest, StorageUnavailable
from gemmapy.core.ids import RequestIds
from gemmapy.core.records import Attempt, Cost, Intent, Outcome, Timings, Usage
from gemmapy.metering.audit import Audit, audit
from gemmapy.storage import ledger
from gemmapy.storage.store import Store
from gemmapy.workers import wire
from gemmapy.workers.keeper import Keeper
from gemmapy.workers.link import Link

IDS = RequestIds()
CLOCK = FixedClock()


def intent() -> Intent:
    return Intent(IDS.new(), 1, "llama3", "/api/chat", CLOCK.now(), prompt_estimate=9)


def outcome(of: Intent | None = None) -> Outcome:
    log = (Attempt("a", "llama3", 0, 5, status=503), Attempt("b", "llama3", 9, 5, status=200))
    return Outcome(of or intent(), 200, Usage(5, 7), Timings(100), cost=Cost(1, 10, 20), attempt_log=log)


class Gateway:
    """A keeper and its workers."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.path = folder / "books"
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(self.path))
        self._listening.listen()
        self._listening.setblocking(False)
        self._stores: list[Store] = []
        self.keeper = Keeper(store)

    async def start(self) -> None:
        """A keeper begins; the socket is the supervisor's and outlives it."""
        self.keeper = Keeper(self.store)
        await self.keeper.start(self._listening.dup())

    async def kill_keeper(self) -> None:
        """It says nothing any more, whatever it has written."""
        for worker in [*self.keeper.workers.values()]:
            worker.told = lambda _results: None
            if worker._transport is not None:
                worker._transport.abort()
        await self.keeper.stop()

    async def keeper_that_dies_as_it_begins(self) -> None:
        """It takes a worker's connection, and is gone before it says anything."""
        hung_up = asyncio.Event()

        async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            hung_up.set()

        async with await asyncio.start_unix_server(hang_up, sock=self._listening.dup()) as server:
            await hung_up.wait()
            server.close()

    async def worker(self) -> tuple[Store, Link]:
        link = Link(self.path, CLOCK)
        store = Store.join(self.store.data_dir, link.open, CLOCK)
        self._stores.append(store)
        await link.connect()
        return store, link

    async def kill(self, store: Store, link: Link) -> None:
        """The kernel closes what a process had open."""
        self._stores.remove(store)
        link._closed = True
        assert link._connecting is not None
        assert link._writer is not None
        link._connecting.cancel()
        if link._line is not None and link._line._transport is not None:
            link._line._transport.abort()
        await asyncio.to_thread(link._writer.close, 1)
        store._lease.release()
        store._reading.dispose()
        store._writing.dispose()

    async def stop(self) -> None:
        for store in self._stores:
            await asyncio.to_thread(store.close, 5)
        await self.keeper.stop()
        self._listening.close()

    def rows(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        with self.store.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(f"SELECT {columns} FROM {table} ORDER BY 1")]


@pytest.fixture
async def running(store: Store, tmp_path: Path) -> AsyncGenerator[Gateway]:
    gateway = Gateway(store, tmp_path)
    await gateway.start()
    yield gateway
    await gateway.stop()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in other threads
            await asyncio.sleep(0.005)


async def test_a_workers_request_is_in_flight_under_its_own_slot_until_it_is_recorded(running: Gateway) -> None:
    store, _ = await running.worker()
    begun = intent()
    await store.admit(begun)
    assert running.rows("inflight", "request_id, writer") == [(begun.request_id, store.slot)]
    assert store.slot != running.store.slot
    metric_id = await store.finish(outcome(begun), admitted=True)
    assert running.rows("inflight", "writer") == []
    assert running.rows("llm_metrics", "id, total_tokens, cost_nusd, attempts") == [(metric_id, 12, 30, 1)]


async def test_requests_of_all_workers_are_rows_each_with_an_id_of_its_own(running: Gateway) -> None:
    stores = [(await running.worker())[0] for _ in range(3)]
    begun = [(store, intent()) for store in stores for _ in range(40)]
    admitted = [store.admit(one) for store, one in begun]
    finished = [store.finish(outcome(one), admitted=True) for store, one in begun]
    await asyncio.gather(*admitted)
    assert sorted(await asyncio.gather(*finished)) == list(range(1, 121))
    assert running.rows("inflight", "writer") == []


async def test_other_writes_are_made_by_the_worker_when_it_is_lent_the_turn(running: Gateway) -> None:
    store, _ = await running.worker()
    metric_id = await store.finish(outcome(), admitted=False)
    rated = await asyncio.to_thread(store.write, lambda c: ledger.rate(c, store.slot, metric_id, 1, 1))
    assert rated
    assert running.rows("llm_metrics", "user_rating") == [(1,)]

    def refuse(_connection: ledger.Connection) -> None:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest, match="no"):
        await asyncio.to_thread(store.write, refuse)


async def test_writes_of_workers_get_their_turn_while_requests_pour_in(running: Gateway) -> None:
    store, _ = await running.worker()
    other, _ = await running.worker()
    stop = asyncio.Event()

    async def pour() -> int:
        count = 0
        while not stop.is_set():
            count += len(await asyncio.gather(*(store.finish(outcome(), admitted=False) for _ in range(20))))
        return count

    pouring = asyncio.create_task(pour())
    for number in range(20):
        await asyncio.to_thread(other.write, lambda c, n=number: ledger.rate(c, other.slot, n, 1, 1))
    stop.set()
    poured = await pouring
    assert len(running.rows("llm_metrics", "id")) == poured


async def test_what_a_dead_keeper_has_not_acknowledged_is_handed_over_again_and_is_there_once(
    running: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, link = await running.worker()
    begun = [intent() for _ in range(30)]
    await asyncio.gather(*(store.admit(one) for one in begun[:20]))
    for worker in running.keeper.workers.values():
        monkeypatch.setattr(worker, "told", lambda _results: None)  # written, and never said
    finished = [store.finish(outcome(one), admitted=True) for one in begun[:10]]
    await until(lambda: len(running.rows("llm_metrics", "id")) == 10)
    admitted = [store.admit(one) for one in begun[20:]]
    await until(lambda: len(running.rows("inflight", "writer")) == 20)
    await running.kill_keeper()
    await until(lambda: store.trouble is not None)
    finished += [store.finish(outcome(one), admitted=True) for one in begun[10:]]
    with pytest.raises(StorageUnavailable, match="starting again"):
        store.admit(intent())
    await running.start()
    assert sorted(await asyncio.gather(*finished)) == list(range(1, 31))
    await asyncio.gather(*admitted)
    assert (store.trouble, link.waiting) == (None, 0)
    assert running.rows("inflight", "writer") == []
    assert len(running.rows("llm_metrics", "DISTINCT request_id")) == 30
    assert list(audit(running.store, Audit())) == []


async def test_waiting_for_a_keeper_ends_when_one_is_there_however_many_died_before(
    running: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemmapy.workers.link.ADMISSIONS_WAIT_S", 0.15)
    store, _ = await running.worker()
    await running.kill_keeper()
    await running.keeper_that_dies_as_it_begins()
    await running.start()
    await until(lambda: store.trouble is None)
    told: list[Any] = []
    (worker,) = running.keeper.workers.values()
    monkeypatch.setattr(worker, "told", told.append)  # this keeper lives, and takes its time
    admitted = store.admit(intent())
    await until(lambda: bool(told))
    await asyncio.sleep(0.2)
    worker._tell(told[0])
    await admitted


async def test_what_a_dead_worker_had_in_flight_is_recorded_as_interrupted_at_once(running: Gateway) -> None:
    living, _ = await running.worker()
    store, link = await running.worker()
    await living.admit(intent())
    for _ in range(3):
        await store.admit(intent())
    await running.kill(store, link)
    await until(lambda: len(running.rows("llm_metrics", "id")) == 3)
    assert running.rows("inflight", "writer") == [(living.slot,)]
    assert running.rows("llm_metrics", "DISTINCT error_code") == [("interrupted",)]


async def test_a_new_process_with_a_dead_ones_slot_has_nothing_in_flight(running: Gateway) -> None:
    store, link = await running.worker()
    await store.admit(intent())
    await running.kill_keeper()  # nobody is there to see the worker die
    await until(lambda: store.trouble is not None)
    await running.kill(store, link)
    await running.start()
    new, _ = await running.worker()
    assert new.slot == store.slot
    assert running.rows("inflight", "writer") == []


async def test_all_hear_what_one_says_and_answer_what_one_asks(running: Gateway) -> None:
    links = [(await running.worker())[1] for _ in range(3)]
    heard: list[str] = []
    for place, peers in enumerate([running.keeper, *links]):
        peers.on("news", lambda said, p=place: heard.append(f"{p} {said}"))
        peers.on("size", lambda said, p=place: p * said)
        peers.on("broken", lambda _said: 1 / 0)
    links[0].tell("news", "x")
    await until(lambda: len(heard) == 3)
    assert sorted(heard) == ["0 x", "2 x", "3 x"]
    assert sorted(await links[1].ask("size", 10)) == [0, 10, 30]
    assert sorted(await running.keeper.ask("size", 10)) == [10, 20, 30]
    assert await asyncio.to_thread(links[2].ask_keeper, "size", 10) == 0
    assert await links[1].ask("nothing anybody knows of") == []
    with contextlib.suppress(ZeroDivisionError):
        assert await links[1].ask("broken") == []


MESSAGES: list[wire.Message] = [
    wire.Hello(3, is_new=True),
    wire.Begun(1, intent()),
    wire.Ended(2, outcome(), admitted=True, again=True),
    wire.Written([(1, None), (2, 77)]),
    wire.Refused(3, "full", 1.5),
    wire.Question(4, "cache", {"pattern": "a*"}),
]


@given(st.lists(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=4), max_size=4), st.data())
def test_messages_arrive_as_they_were_said_however_their_bytes_are_cut(
    said: list[list[wire.Message]], data: st.DataObject
) -> None:
    sent = b"".join(wire.frame(messages) for messages in said)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=12)))
    frames = wire.Frames()
    heard = [
        message
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)
        for message in frames.feed(sent[start:end])
    ]
    assert heard == [message for messages in said for message in messages]
