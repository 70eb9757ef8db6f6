"""One request's row: what is written down when it is over, whatever became of it, once.

Called by `handle.py` and `delivery.py`; calls `storage`. Priced here, with the price that was in force when the request
was admitted and the model that answered.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from gemmapy.core.clock import Clock
from gemmapy.core.delay import Delay
from gemmapy.core.errors import StorageUnavailable
from gemmapy.core.records import Intent, Outcome, Timings, Usage, speed_mtps
from gemmapy.gateway.admission import Ticket
from gemmapy.gateway.attempts import Course
from gemmapy.gateway.entry import Entry
from gemmapy.pricing import cost_of
from gemmapy.storage.store import Store

CLIENT_LEFT = 499
"""The status of a request whose client was gone before its answer: nginx's, since HTTP has none."""
RECORD_TIMEOUT_S = 10


class Record:
    """Of one request."""

    def __init__(self, store: Store, clock: Clock, timeout: Delay, ticket: Ticket, course: Course) -> None:
        self._timeout = timeout
        self._store = store
        self._clock = clock
        self._ticket = ticket
        self._course = course
        self.is_written = False
        self.shared: Entry | None = None
        """The answer that was given from the cache, or from another request's, in place of one of its own."""
        self.first_shared_ns: int | None = None
        """When the first of it went out."""
        self.tokens = 0
        """Used, as the row says; an answer from the cache uses none."""
        self.client_left = False
        """The client is gone, but others wait for the same answer; it is recorded as what was answered, with 499."""

    async def write(
        self, status: int, error_code: str | None = None, message: str | None = None
    ) -> tuple[int, Outcome]:
        """Writes the row and returns its id, and what it says, once it is on disk.

        Raises StorageUnavailable where that takes too long; the row is still written, as soon as it can be.
        """
        admitted = self._ticket.settle()
        if admitted is not None and admitted.done():
            await admitted  # raises where the in-flight row was refused
        outcome = self._outcome(status, error_code, message)
        self.is_written = True
        recorded = self._store.finish(outcome, admitted=admitted is not None)
        if admitted is not None and not admitted.done():
            # Of an answer that is quick both are in the writer's queue, and may share a transaction.
            admitted.add_done_callback(lambda admitted: _refused(recorded, admitted))
        timer = self._timeout.after(lambda: _late(recorded))
        try:
            return await recorded, outcome
        finally:
            timer.cancel()

    def write_unwatched(self, status: int, error_code: str | None, message: str) -> None:
        """Writes the row, unless it is written, with nobody waiting for it."""
        if not self.is_written:
            self.is_written = True
            admitted = self._ticket.settle() is not None
            self._store.finish_unwatched(self._outcome(status, error_code, message), admitted=admitted)

    def _outcome(self, status: int, error_code: str | None, message: str | None) -> Outcome:
        if self.shared is not None:
            return self._shared_outcome(self.shared, status, error_code, message)
        tally, course = self._course.tally, self._course
        now_ns = self._clock.monotonic_ns()
        usage = tally.usage()
        if error_code is not None and not tally.content_frames and not tally.has_usage:
            usage = Usage(estimated=True) if course.attempts else Usage()  # nothing was delivered, nothing is charged
        refused_by_upstream = 400 <= status < 500 and status != CLIENT_LEFT
        if refused_by_upstream and not tally.has_usage:
            usage = Usage()
        timings = tally.timings(now_ns, course.dispatched_ns)
        if course.dispatched_ns is None and not tally.complete:  # it never came to be asked
            usage, timings = Usage(), replace(timings, queue_ms=timings.duration_ms)
        intent = self._intent()
        price = self._ticket.price_of(intent.model)
        cost = None
        if price is not None and usage.total_tokens is not None:
            cost = cost_of(price, usage, timings.compute_ms)
        self.tokens = usage.total_tokens or 0
        if self.client_left and status == 200:
            status, message = CLIENT_LEFT, "The client left before its answer was complete; others waited for the same."
        return Outcome(
            intent=intent,
            status=status,
            usage=usage,
            timings=timings,
            error_code=error_code,
            error_message=message,
            finish_reason=tally.finish_reason,
            cost=cost,
            attempts=course.attempts,
            attempt_log=tuple(course.log) if len(course.log) > 1 or intent.requested_model is not None else (),
            speed_mtps=speed_mtps(usage.response_tokens, timings.generation_ms),
        )

    def _shared_outcome(self, shared: Entry, status: int, error_code: str | None, message: str | None) -> Outcome:
        """Of an answer that cost nothing: the tokens are those that the engine counted when it was made."""
        now_ns, started_ns = self._clock.monotonic_ns(), self._course.route.asked.started_ns
        first_ns = self.first_shared_ns or now_ns
        would_cost = None
        if self._ticket.price is not None and shared.usage.total_tokens is not None:
            would_cost = cost_of(self._ticket.price, shared.usage, shared.compute_ms)
        timings = Timings(duration_ms=(now_ns - started_ns) // 1_000_000, ttft_ms=(first_ns - started_ns) // 1_000_000)
        return Outcome(
            intent=replace(self._ticket.intent, upstream=None),
            status=status,
            usage=shared.usage,
            timings=timings,
            error_code=error_code,
            error_message=message,
            finish_reason=shared.finish_reason,
            cached=error_code is None,
            cost=None if would_cost is None else would_cost.nothing(),
            saved_nusd=None if would_cost is None else would_cost.total_nusd,
            attempts=0,
        )

    def _intent(self) -> Intent:
        """The ticket's, with the model and the upstream that were asked in the end."""
        intent, route = self._ticket.intent, self._course.route
        if route.asked.model == intent.model and route.upstream.name == intent.upstream:
            return intent
        price = self._ticket.price_of(route.asked.model)
        return replace(
            intent,
            model=route.asked.model,
            requested_model=route.fallback_from,
            upstream=route.upstream.name,
            price_id=None if price is None else price.id,
        )


def _refused(recorded: asyncio.Future[int], admitted: asyncio.Future[None]) -> None:
    """Whoever waits for the row learns at once that the in-flight row was refused."""
    error = None if admitted.cancelled() else admitted.exception()
    if error is not None and not recorded.done():
        recorded.set_exception(error)


def _late(recorded: asyncio.Future[int]) -> None:
    if not recorded.done():
        late = StorageUnavailable("The record of this request could not be written in time.", retry_after_s=1)
        recorded.set_exception(late)
