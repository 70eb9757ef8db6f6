"""The live feed: what runs and what has just finished, to any number of listeners for the price of one.

One task looks into the database four times a second while somebody listens, and not at all while nobody does. What has
changed is put into words once for each scope (everybody's requests, or one user's) and handed to all who listen there.
A listener who is slow gets the newest state only, and a count of the requests that it missed: nothing gathers for it.
The database is asked, not this process, so that requests of every gateway on it are seen.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import structlog
from typing_extensions import TypedDict

from gemmapy.core.clock import Clock
from gemmapy.core.errors import Draining, TooManyRequests
from gemmapy.core.ids import id_text
from gemmapy.metering.answers import RequestEntry
from gemmapy.metering.collector import MetricsCollector
from gemmapy.storage import live
from gemmapy.storage.figures import Filter
from gemmapy.storage.store import Store

POLL_S = 0.25
STATE_EVERY_S = 0.5
"""A state follows another no sooner."""
HEARTBEAT_S = 15.0
RECONNECT_MS = 2_000
SHOWN = 50
RUNNING_SHOWN = 100
RUNNING_READ = 2_000
WAITING_AT_MOST = 8
"""Frames that wait for one listener; past that, it is told how many requests it has missed."""
LISTENERS_AT_MOST = 1_000
_log = structlog.stdlib.get_logger()
Scope = int | None
"""Whose requests: a user's, or everybody's."""


class RunningRequest(TypedDict):
    request_id: str
    user_id: int
    username: str | None
    model: str
    endpoint: str
    started_at: datetime
    upstream: str | None
    stream: bool


class LiveState(TypedDict):
    """What runs, the oldest first, 100 of `running_total` at most; `last_id` is the ledger's newest metric id."""

    now: datetime
    running: list[RunningRequest]
    running_total: int
    last_id: int


class FinishedRequests(TypedDict):
    """What has finished, the newest last, and how many more there were."""

    requests: list[RequestEntry]
    skipped: int


@dataclass(slots=True, eq=False)
class _Listener:
    """One who listens: its newest state, and what finished since it last looked."""

    scope: Scope
    is_allowed: Callable[[], bool]
    since: int | None
    """The last metric id that it knows; None for one that begins now."""
    is_new: bool = True
    state: bytes | None = None
    waiting: deque[tuple[bytes, int]] = field(default_factory=deque[tuple[bytes, int]])
    """Frames, and how many requests each tells of."""
    missed: int = 0
    last_id: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, frame: bytes, requests: int) -> None:
        """Puts a frame in line, or counts it where the line is full."""
        if len(self.waiting) >= WAITING_AT_MOST or self.missed:
            self.missed += requests + sum(count for _, count in self.waiting)
            self.waiting.clear()
        else:
            self.waiting.append((frame, requests))
        self.woken.set()

    def take(self) -> bytes:
        """All that waits, as one piece."""
        self.woken.clear()
        pieces = [frame for frame, _ in self.waiting]
        self.waiting.clear()
        if self.missed:
            pieces.append(_frame("requests", {"requests": [], "skipped": self.missed}, self.last_id))
            self.missed = 0
        if self.state is not None:
            pieces.append(self.state)
            self.state = None
        return b"".join(pieces)


@dataclass(slots=True)
class _Look:
    """What one look into the database has found; frames where there is news."""

    newest: int
    running: dict[Scope, tuple[bytes, ...]] = field(default_factory=dict[Scope, tuple[bytes, ...]])
    """The ids of what runs."""
    changed: set[Scope] = field(default_factory=set[Scope])
    states: dict[Scope, bytes] = field(default_factory=dict[Scope, bytes])
    finished: dict[tuple[Scope, int], tuple[bytes, int]] = field(
        default_factory=dict[tuple[Scope, int], tuple[bytes, int]]
    )
    """Since which metric id, and how many requests the frame tells of."""


class LiveFeed:
    """Call `listen` for a stream and `state` for one look; `close` ends every stream."""

    def __init__(
        self,
        store: Store,
        collector: MetricsCollector,
        clock: Clock,
        *,
        poll_s: float = POLL_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._store = store
        self._collector = collector
        self._clock = clock
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._listeners: set[_Listener] = set()
        self._looking: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._shown: dict[Scope, tuple[tuple[bytes, ...], int]] = {}
        """Of each scope, what the last state told and when, in monotonic nanoseconds."""
        self.is_closed = False
        self.looks = 0
        """How often the database was asked; for measurements."""

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    def state(self, user_id: Scope) -> LiveState:
        """What runs now, of one user or of everybody. Blocks."""
        with self._store.read() as connection:
            rows = live.running(connection, RUNNING_READ)
            newest = live.newest_metric_id(connection)
        return _state(rows, user_id, newest, self._clock.now())

    def listen(self, user_id: Scope, is_allowed: Callable[[], bool], since: int | None = None) -> AsyncGenerator[bytes]:
        """Server-sent events, until the listener leaves, is no longer allowed to listen, or the gateway drains.

        The first is the state; after `since`, a metric id, also what has finished since then. Raises Draining, and
        TooManyRequests where a thousand listen already.
        """
        if self.is_closed:
            raise Draining(retry_after_s=5)
        if len(self._listeners) >= LISTENERS_AT_MOST:
            raise TooManyRequests("Too many streams are open.", retry_after_s=30)
        return self._stream(_Listener(user_id, is_allowed, since))

    async def close(self) -> None:
        """Ends every stream; those who ask anew are refused."""
        self.is_closed = True
        for listener in self._listeners:
            listener.woken.set()
        self._due.set()
        if self._looking is not None:
            await self._looking

    async def _stream(self, listener: _Listener) -> AsyncGenerator[bytes]:
        self._listeners.add(listener)
        self._due.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on())
        try:
            yield f"retry: {RECONNECT_MS}\n\n".encode()
            while not self.is_closed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._heartbeat_s):
                        await listener.woken.wait()
                if not listener.is_allowed():
                    return
                yield listener.take() or b": all quiet\n\n"
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._due.set()

    async def _look_on(self) -> None:
        """Looks again and again while somebody listens."""
        self._shown.clear()
        last_id: int | None = None
        is_failing = False
        while self._listeners and not self.is_closed:
            self._due.clear()
            listeners = list(self._listeners)
            try:
                look = await asyncio.to_thread(self._look, listeners, last_id)
            except Exception:  # noqa: BLE001 - the streams must go on, whatever the database says
                if not is_failing:
                    _log.exception("what happens now cannot be read; trying again")
                is_failing = True
            else:
                is_failing = False
                self._tell(listeners, look, last_id)
                last_id = look.newest
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._due.wait()

    def _look(self, listeners: Sequence[_Listener], last_id: int | None) -> _Look:
        """Reads, and puts into words what is news to somebody. In a thread of its own."""
        self.looks += 1
        with self._store.read() as connection:
            newest = live.newest_metric_id(connection)
            rows = live.running(connection, RUNNING_READ)
        now, now_ns = self._clock.now(), self._clock.monotonic_ns()
        look = _Look(newest)
        for listener in listeners:
            scope, since = listener.scope, _since(listener, last_id)
            if scope not in look.running:
                ids = tuple(row["request_id"] for row in rows if scope is None or row["user_id"] == scope)
                look.running[scope] = ids
                shown, shown_ns = self._shown.get(scope, ((), 0))
                if ids != shown and now_ns - shown_ns >= STATE_EVERY_S * 1e9:
                    look.changed.add(scope)
            if scope not in look.states and (scope in look.changed or listener.is_new):
                look.states[scope] = _frame("state", _state(rows, scope, newest, now), newest)
            if since is not None and since < newest and (scope, since) not in look.finished:
                look.finished[scope, since] = self._finished(scope, since, newest)
        for scope in look.changed:
            self._shown[scope] = (look.running[scope], now_ns)
        return look

    def _finished(self, scope: Scope, since: int, newest: int) -> tuple[bytes, int]:
        page = self._collector.get_requests(which=Filter(user_id=scope), limit=SHOWN, before=newest + 1, after=since)
        entries = page["requests"][::-1]
        count = len(entries)
        if page["next"] is not None:
            with self._store.read() as connection:
                count = live.count_between(connection, since, newest, scope)
        told: FinishedRequests = {"requests": entries, "skipped": max(0, count - len(entries))}
        return (_frame("requests", told, newest), count) if entries else (b"", 0)

    def _tell(self, listeners: Sequence[_Listener], look: _Look, last_id: int | None) -> None:
        for listener in listeners:
            since = _since(listener, last_id)
            listener.last_id = look.newest
            if since is not None:
                frame, count = look.finished.get((listener.scope, since), (b"", 0))
                if frame:
                    listener.tell(frame, count)
            if listener.is_new or listener.scope in look.changed:
                listener.state = look.states[listener.scope]
                listener.woken.set()
            listener.is_new = False


def _since(listener: _Listener, last_id: int | None) -> int | None:
    return listener.since if listener.is_new else last_id


def _state(rows: Sequence[Mapping[str, Any]], scope: Scope, newest: int, now: datetime) -> LiveState:
    mine = [row for row in rows if scope is None or row["user_id"] == scope]
    shown = [
        RunningRequest(**{**row, "request_id": id_text(row["request_id"])})  # pyright: ignore[reportArgumentType]
        for row in mine[:RUNNING_SHOWN]
    ]
    return {"now": now, "running": shown, "running_total": len(mine), "last_id": newest}


def _frame(event: str, data: LiveState | FinishedRequests, last_id: int) -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (last_id, event.encode(), msgspec.json.encode(data))
