"""Asks upstreams until one answers: attempts, retries, and other models.

Called by `handle.py` while nothing has been sent to the client. What comes back is an answer whose head is there and
whose body is still coming, or a refusal read to its end. Every attempt is noted, and each upstream's health is told how
it went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from gemmapy.core.clock import Clock
from gemmapy.core.errors import Overloaded, UpstreamError, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from gemmapy.core.records import Attempt
from gemmapy.gateway import retrying
from gemmapy.gateway.exchange import Exchange, prepare
from gemmapy.gateway.retrying import RetryPolicy, RetryStats
from gemmapy.gateway.routing import Route, Routing
from gemmapy.gateway.tally import Tally
from gemmapy.upstreams.places import Place
from gemmapy.upstreams.transport import Answer, Transport
from gemmapy.upstreams.upstream import Upstream

ANSWER_LIMIT = 256 * 1024 * 1024


@dataclass(slots=True)
class Course:
    """What has been tried for one request so far."""

    route: Route
    request_id: bytes
    tally: Tally
    """Of the attempt that is under way, or was last, or comes first."""
    attempts: int = 0
    dispatched_ns: int | None = None
    """When the last attempt was sent."""
    log: list[Attempt] = field(default_factory=list[Attempt])
    caller: Hashable = None
    """In whose line it waits."""
    weight: float = 1.0
    queued_ns: int = 0
    """How long it has waited for places."""
    place: Place | None = None
    """At the upstream of the attempt that is under way, or in the queue for one."""

    def leave(self, now_ns: int) -> None:
        """Gives the place back; again changes nothing."""
        if self.place is not None:
            self.place.give_back(now_ns)
            self.place = None


class Opened:
    """An upstream's answer: its head, and its body in pieces, or of a refusal (400 and more) whole."""

    def __init__(self, exchange: Exchange, answer: Answer, clock: Clock, *, is_try: bool) -> None:
        self.exchange = exchange
        self.answer = answer
        self.refusal: bytes | None = None
        self._clock = clock
        self._is_try = is_try

    def broke(self) -> None:
        """It broke off in the middle, which speaks against the upstream."""
        self.exchange.upstream.health.failed(self._clock.monotonic_ns(), is_try=self._is_try)

    def close(self) -> None:
        """Lets go of the connection, and of the upstream's place."""
        self.answer.close()
        self.exchange.upstream.health.end()


@dataclass(slots=True)
class _Failed:
    """An attempt that may be followed by another."""

    error: UpstreamError | None
    opened: Opened | None = None
    """Where the upstream refused in words, these."""
    asks_for_s: float | None = None
    is_repeatable: bool = True


class Attempts:
    """Asks, and asks again."""

    def __init__(
        self,
        *,
        routing: Routing,
        transport: Transport,
        clock: Clock,
        policy: RetryPolicy,
        ready_timeout_s: float,
        sleep: Callable[[float], Awaitable[None]],
        chance: Callable[[], float],
    ) -> None:
        self._routing = routing
        self._transport = transport
        self._clock = clock
        self._policy = policy
        self.ready_timeout_s = ready_timeout_s
        self._sleep = sleep
        self._chance = chance
        self.stats = RetryStats()

    async def open(self, course: Course) -> Opened:
        """The first answer that will do, else the last refusal. The caller closes it.

        Raises UpstreamUnreachable, UpstreamLost, UpstreamTimeout or UpstreamError where the last attempt got none, and
        InvalidRequest where the question cannot be put into the upstream's dialect, and LimitReached or Overloaded
        where it would wait too long. The course holds a place until it is told to leave it.
        """
        self.stats.requests += 1
        wait_s = 0.0
        retries = 0
        while True:
            place = course.place or await self.line_up(course)
            failed = await self._turn(course, place) if place.is_waiting else None
            result = failed or await self._attempt(course, wait_s)
            if isinstance(result, Opened):
                if course.attempts > 1 or course.route.fallback_from is not None:
                    self.stats.recovered += result.refusal is None
                return result
            course.leave(self._clock.monotonic_ns())
            following = await self._following(course, result, retries)
            if following is None:
                self.stats.exhausted += course.attempts > 1
                if result.opened is not None:
                    return result.opened
                assert result.error is not None
                raise result.error
            if result.opened is not None:
                result.opened.close()
            wait_s, retries = following
            course.tally = Tally.of(course.route.asked, course.route.upstream)

    async def line_up(self, course: Course) -> Place:
        """Takes a place at the route's upstream, or one in the queue for it.

        Raises LimitReached or Overloaded where that is full or the wait would be too long.
        """
        route = course.route
        course.place = place = route.upstream.places.ask(course.caller, course.weight, self._clock.monotonic_ns())
        if place.is_waiting and len(route.candidates) > 1:
            place.elsewhere = [upstream.places for upstream in route.candidates]
        await place.lined_up()
        return place

    async def _turn(self, course: Course, place: Place) -> _Failed | None:
        """Waits for the place, which may be at another upstream in the end; what has failed where that has, meanwhile.

        Raises Overloaded after too long.
        """
        upstream = course.route.upstream
        limits = upstream.places.limits
        since_ns = self._clock.monotonic_ns()
        try:
            async with asyncio.timeout(limits.longest_wait_s):
                await place.turn()
        except TimeoutError:
            if place.is_waiting:
                again_s = upstream.places.wait_s(course.caller, course.weight)
                raise Overloaded(
                    f"No place at the model server was free in {limits.longest_wait_s:g} s.", retry_after_s=again_s or 1
                ) from None
        if place.places is not upstream.places:
            upstream = next(other for other in course.route.candidates if other.places is place.places)
            course.route.upstream = upstream
            course.tally = Tally.of(course.route.asked, upstream)
        now_ns = self._clock.monotonic_ns()
        course.queued_ns += now_ns - since_ns
        if upstream.health.allows(now_ns):
            return None
        wait_s = upstream.health.breaker.retry_after_s(now_ns)
        return _Failed(
            UpstreamUnreachable(f"{upstream.title} failed while this request waited for it.", retry_after_s=wait_s)
        )

    async def _following(self, course: Course, failed: _Failed, retries: int) -> tuple[float, int] | None:
        """Waits and turns to whom to ask next; how long was waited, and how many retries that makes with the model.
        None where there is nobody to ask."""
        route, policy = course.route, self._policy
        if not route.asked.use_retry or not self._time_left_s(course):
            return None
        if isinstance(failed.error, UpstreamTimeout) and not policy.timeouts:
            return None
        if failed.is_repeatable and retries < policy.retries:
            tried = {attempt.upstream for attempt in course.log if attempt.model == route.asked.model}
            upstream = self._routing.again(route, tried)
            if upstream is not None:
                wait_s = 0.0
                if upstream.name in tried:  # nobody new is left, so give it time
                    wait_s = policy.wait_s(retries + 1, failed.asks_for_s, self._chance())
                if wait_s is not None and wait_s < self._time_left_s(course):
                    if wait_s:
                        await self._sleep(wait_s)
                    route.upstream = upstream
                    self.stats.retries += 1
                    return wait_s, retries + 1
        if await self._routing.fall_back(route):
            self.stats.fallbacks += 1
            return 0.0, 0
        return None

    async def _attempt(self, course: Course, wait_s: float) -> Opened | _Failed:
        """One question to the route's upstream, noted."""
        upstream = course.route.upstream
        began_ns = self._clock.monotonic_ns()
        health = upstream.health
        is_try = health.begin(began_ns)
        is_judged = is_held = False
        status: int | None = None
        code: str | None = None
        try:
            opened = await self._send(course, is_try=is_try)
            status = opened.answer.status
            is_judged = True
            if status in retrying.FAILED:
                health.failed(self._clock.monotonic_ns(), is_try=is_try)
            else:
                health.succeeded(self._clock.monotonic_ns(), is_try=is_try)
            is_held = True
            if status < 500 and status not in retrying.REPEATED:
                return opened
            wants_s = retrying.retry_after_s(opened.answer.header("retry-after"), self._clock.now())
            if wants_s and status in (429, 503):
                health.rest(self._clock.monotonic_ns(), min(wants_s, retrying.LONGEST_REST_S))
            code = "upstream_error" if status >= 500 else None
            return _Failed(None, opened, wants_s, is_repeatable=status in retrying.REPEATED)
        except (UpstreamUnreachable, UpstreamLost, UpstreamTimeout) as error:
            is_judged = True
            health.failed(self._clock.monotonic_ns(), is_try=is_try)
            code = error.code
            return _Failed(error)
        except UpstreamError as error:
            code = error.code
            raise
        finally:
            if not is_held:
                health.end()
            if not is_judged:
                health.abandoned(self._clock.monotonic_ns(), is_try=is_try)
            course.log.append(self._noted(course, upstream, began_ns, wait_s, status, code))

    async def _send(self, course: Course, *, is_try: bool) -> Opened:
        """Sends the question; a refusal is read whole. One that the upstream refuses for `stream_options` alone, which
        the gateway has put in, is sent again without."""
        upstream, asked = course.route.upstream, course.route.asked
        if upstream.is_waited_for:
            await upstream.ready(self.ready_timeout_s)
        exchange = prepare(asked, upstream, course.request_id, self._clock)
        while True:
            opened = Opened(exchange, await self._ask(course, exchange), self._clock, is_try=is_try)
            if opened.answer.status < 400:
                return opened
            try:
                opened.refusal = await opened.answer.read(ANSWER_LIMIT)
            finally:
                opened.answer.close()
            if exchange.without_usage is None:
                return opened
            if opened.answer.status not in (400, 422) or b"stream_options" not in opened.refusal:
                return opened
            upstream.takes_stream_options = False
            exchange = exchange.without_usage

    async def _ask(self, course: Course, exchange: Exchange) -> Answer:
        course.attempts += 1
        self.stats.attempts += 1
        course.dispatched_ns = self._clock.monotonic_ns()
        upstream = exchange.upstream
        return await self._transport.send(
            "POST", upstream.address(exchange.path), exchange.headers, exchange.body, where=upstream.title
        )

    def _noted(
        self, course: Course, upstream: Upstream, began_ns: int, wait_s: float, status: int | None, code: str | None
    ) -> Attempt:
        started_ns = course.route.asked.started_ns
        return Attempt(
            upstream=upstream.name,
            model=course.route.asked.model,
            started_ms=(began_ns - started_ns) // 1_000_000,
            duration_ms=(self._clock.monotonic_ns() - began_ns) // 1_000_000,
            wait_ms=round(wait_s * 1000),
            status=status,
            error_code=code,
        )

    def _time_left_s(self, course: Course) -> float:
        """For further attempts; what it waited for a place does not count."""
        since_ns = self._clock.monotonic_ns() - course.route.asked.started_ns - course.queued_ns
        return max(0.0, self._policy.total_s - since_ns / 1e9)
