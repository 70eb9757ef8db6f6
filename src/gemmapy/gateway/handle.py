"""One request, from its first byte to the last: the whole story.

Who is it, what do they ask, may they, do we have it; ask an upstream, pass its answer on, write it down. No byte of an
answer goes out before the in-flight row is on disk, and what completes an answer (Ollama's `done` line, OpenAI's usage
and `[DONE]`, a whole body) is held until the metric row is. Whatever happens in between, one row is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gemmapy.core.clock import Clock
from gemmapy.core.delay import Delay
from gemmapy.core.errors import Draining, GemmaPyError, InvalidRequest, LimitReached, Overloaded, StorageUnavailable
from gemmapy.core.foreign import UNREADABLE
from gemmapy.core.ids import RequestIds, id_text
from gemmapy.core.records import Outcome, Timings, Usage
from gemmapy.gateway.admission import Admission, Ticket
from gemmapy.gateway.asked import Asked, Envelope, read
from gemmapy.gateway.attempts import Attempts, Course
from gemmapy.gateway.auth import Auth, Caller
from gemmapy.gateway.cache import AnswerCache
from gemmapy.gateway.delivery import Delivery
from gemmapy.gateway.door import Door, Visit
from gemmapy.gateway.entry import NOTHING_YET, Entry
from gemmapy.gateway.flight import Flight
from gemmapy.gateway.limits import Limits
from gemmapy.gateway.record import CLIENT_LEFT, RECORD_TIMEOUT_S, Record
from gemmapy.gateway.reply import RawHeaders, Reply
from gemmapy.gateway.sharing import Sharing
from gemmapy.gateway.tally import Tally
from gemmapy.storage.store import Store
from gemmapy.upstreams.translation import is_load
from gemmapy.upstreams.transport import Transport

__all__ = ["CLIENT_LEFT", "Gateway", "RawHeaders", "Reply"]
INTERRUPTED = "interrupted"
_log = structlog.stdlib.get_logger()


def _unreadable(error: Exception) -> InvalidRequest:
    """Of a body that was read as far as its first look went, and holds something deeper in that cannot be."""
    return InvalidRequest(f"The request body cannot be read: {type(error).__name__}, {str(error)[:200]}.")


class Gateway:
    """What the requests share."""

    def __init__(
        self,
        *,
        auth: Auth,
        admission: Admission,
        sharing: Sharing,
        attempts: Attempts,
        store: Store,
        transport: Transport,
        clock: Clock,
        max_body_bytes: int,
        door: Door,
        limits: Limits,
    ) -> None:
        self.auth = auth
        self.admission = admission
        self.sharing = sharing
        self.attempts = attempts
        self.store = store
        self.transport = transport
        self.clock = clock
        self.max_body_bytes = max_body_bytes
        self.door = door
        self.limits = limits
        self.ids = RequestIds()
        self.record_timeout = Delay(RECORD_TIMEOUT_S)
        self.running: set[asyncio.Task[None]] = set()
        self.draining = False
        self.ground: Callable[[Caller, Asked], Awaitable[Asked]] | None = None
        """Puts passages of documents into a grounded request; set by whoever has documents."""

    @property
    def cache(self) -> AnswerCache:
        return self.sharing.cache

    async def handle(
        self, envelope: Envelope, credential: str | None, body: Callable[[Visit], Awaitable[bytes]], reply: Reply
    ) -> None:
        """Answers one request. Raises GemmaPyError, recorded already, for the caller to put in the client's dialect."""
        request_id = self.ids.new()
        reply.identify(request_id, envelope.client_request_id)
        caller = self.auth.identify(credential)
        if self.draining:
            raise Draining(retry_after_s=5)
        visit = self.door.enter(caller.user_id)
        try:
            await self.serve(caller, envelope, request_id, body, reply, visit, is_limited=True)
        finally:
            visit.leave()

    async def serve(
        self,
        caller: Caller,
        envelope: Envelope,
        request_id: bytes,
        body: Callable[[Visit], Awaitable[bytes]],
        reply: Reply,
        visit: Visit,
        *,
        is_limited: bool = False,
    ) -> None:
        """The same for a caller who is known: those who ask from inside the gateway begin here."""
        task = asyncio.current_task()
        assert task is not None
        self.running.add(task)
        try:
            asked = read(envelope, await body(visit), self.max_body_bytes)
            ticket = await self._admit(caller, asked, request_id, is_limited=is_limited)
            if ticket.taken is not None:
                reply.note(ticket.taken.headers)
            await _Request(self, ticket, reply, task).run()
        except UNREADABLE as error:
            raise _unreadable(error) from error
        finally:
            self.running.discard(task)

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing new, lets what runs finish, and ends what has not after `timeout_s`, which is recorded."""
        self.draining = True
        if self.running:
            _log.info("finishing the running requests", running=len(self.running), timeout_s=timeout_s)
            await asyncio.wait(self.running, timeout=timeout_s)
        for task in self.running:
            task.cancel()
        if self.running:
            await asyncio.wait(self.running, timeout=5)

    async def _admit(self, caller: Caller, asked: Asked, request_id: bytes, *, is_limited: bool) -> Ticket:
        """Lets it in, or writes down that it was refused."""
        taken = None
        try:
            if is_limited and not self.limits.leave_alone(caller):
                taken = await self.limits.take(caller, asked)
            if asked.endpoint.is_grounded and self.ground is not None:
                self.admission.check(caller, asked)
                asked = await self.ground(caller, asked)
            ticket = await self.admission.admit(caller, asked, request_id)
            ticket.taken, taken = taken, None
            return ticket
        except (StorageUnavailable, InvalidRequest):
            raise  # nowhere to write it down; nothing that could be read
        except GemmaPyError as refusal:
            if not self.door.notes(caller.user_id):
                raise
            self.store.finish_unwatched(
                Outcome(
                    intent=self.admission.refused(caller, asked, request_id),
                    status=refusal.status,
                    usage=Usage(),
                    timings=Timings(duration_ms=(self.clock.monotonic_ns() - asked.started_ns) // 1_000_000),
                    error_code=refusal.code,
                    error_message=refusal.message,
                    attempts=0,
                ),
                admitted=False,
            )
            raise
        finally:
            if taken is not None:
                taken.give_back(0)


class _Request:
    """One admitted request."""

    def __init__(self, gateway: Gateway, ticket: Ticket, reply: Reply, task: asyncio.Task[None]) -> None:
        self._gateway = gateway
        self._ticket = ticket
        self._reply = reply
        self._task = task
        self._client_left = False
        route = ticket.route
        intent = ticket.intent
        self._course = Course(
            route,
            intent.request_id,
            Tally.of(route.asked, route.upstream),
            caller=(intent.user_id, intent.end_user),
            weight=ticket.weight,
        )
        self._record = Record(gateway.store, gateway.clock, gateway.record_timeout, ticket, self._course)
        self._delivery = Delivery(gateway, ticket, self._course, self._record, reply)
        self._flight: Flight | None = None

    async def run(self) -> None:
        """Answers it, and records it whatever happens."""
        unwatch = self._reply.watch(self._client_leaves)
        try:
            await self._answer_or_fail()
        except GemmaPyError:
            raise
        except asyncio.CancelledError:
            if not self._client_left:
                message = "The gateway was shut down while this request was under way."
                self._record.write_unwatched(0, INTERRUPTED, message)
                raise
            self._task.uncancel()
            self._record.write_unwatched(CLIENT_LEFT, None, "The client left before its answer was complete.")
        except UNREADABLE as failure:
            refusal = _unreadable(failure)
            await self._fail(refusal)
            raise refusal from failure
        except Exception as failure:
            self._record.write_unwatched(500, "internal_error", f"The gateway failed: {type(failure).__name__}.")
            raise
        finally:
            self._client_left = True  # what is heard from here on is of no interest
            unwatch()
            self._ticket.settle()
            if self._ticket.taken is not None:
                self._ticket.taken.give_back(self._record.tokens)

    async def _answer_or_fail(self) -> None:
        try:
            await self._answer()
        except GemmaPyError as failure:
            await self._fail(failure)  # during which the client may leave, too
            raise

    async def _answer(self) -> None:
        """From the cache, along with somebody who asked the same just now, or from an upstream."""
        sharing = self._gateway.sharing
        key = await sharing.key(self._ticket) if sharing.may_share(self._ticket.route.asked) else None
        if key is None:
            await self._ask()
            return
        cache = self._gateway.cache
        entry = await cache.find(key)
        if entry is None:
            flight = cache.flight(key)
            if flight is not None:
                entry = await self._follow(flight)
        if entry is None:
            await self._lead(key)
            return
        outcome = await self._delivery.kept(entry)
        cache.hit(entry.model, outcome.saved_nusd)

    async def _ask(self) -> None:
        """Asks an upstream and passes its answer on."""
        gateway, course = self._gateway, self._course
        asked, upstream = course.route.asked, course.route.upstream
        always_loaded = asked.endpoint.dialect == "ollama" and not upstream.speaks("ollama")
        if always_loaded and is_load(asked.endpoint.relayed_as, asked.body):
            self._begin()
            await upstream.ready(gateway.attempts.ready_timeout_s)
            await self._delivery.load()
            return
        await gateway.attempts.line_up(course)  # first, since who is turned away here is not written down
        try:
            self._begin()
            opened = await gateway.attempts.open(course)
            try:
                await self._delivery.upstreams(opened)
            finally:
                opened.close()
        finally:
            course.leave(gateway.clock.monotonic_ns())

    def _begin(self) -> None:
        if not self._ticket.is_begun:
            self._gateway.admission.begin(self._ticket)

    async def _lead(self, key: bytes) -> None:
        """Asks, for all who ask the same until it is answered."""
        cache = self._gateway.cache
        flight = self._flight = Flight(self._end)
        cache.miss(self._ticket.intent.model)
        cache.take_off(key, flight)
        self._delivery.share(key, flight)
        error: Exception | None = None
        try:
            await self._ask()
        except Exception as failure:
            error = failure
            raise
        finally:
            if not flight.is_over:
                cache.land(key, flight, None, error)

    async def _follow(self, flight: Flight) -> Entry | None:
        """Waits for another's answer; None where it failed."""
        self._gateway.admission.begin(self._ticket)
        self._record.shared = NOTHING_YET
        with flight.following():
            if await self._delivery.along(flight):
                self._gateway.cache.counts.joined += 1
                return flight.entry
        self._record.shared = None
        return None

    def _client_leaves(self) -> None:
        """Ends the work for a client that is gone, unless others wait for the same: nobody reads it, and it costs."""
        if self._client_left:
            return
        self._client_left = True
        flight = self._flight
        if flight is not None and flight.followers and not flight.is_over:
            flight.is_orphan = self._record.client_left = True
        else:
            self._end()

    def _end(self) -> None:
        self._task.cancel()

    async def _fail(self, failure: GemmaPyError) -> None:
        record = self._record
        if record.is_written:
            return
        status = self._reply.status if self._reply.started else failure.status
        if isinstance(failure, StorageUnavailable):
            if self._ticket.is_begun:  # else it was never let in, and there is nowhere to write it down
                record.write_unwatched(status, failure.code, failure.message)
        elif self._ticket.is_begun or not isinstance(failure, LimitReached | Overloaded):
            await record.write(status, failure.code, failure.message)
        elif isinstance(failure, LimitReached) and self._gateway.door.notes(self._ticket.intent.user_id):
            record.write_unwatched(status, failure.code, failure.message)  # and load that is shed is counted
        if not isinstance(failure, InvalidRequest | LimitReached | Overloaded):
            _log.warning(
                "a request failed",
                request_id=id_text(self._ticket.intent.request_id),
                upstream=self._course.route.upstream.name,
                code=failure.code,
                reason=failure.message,
            )
