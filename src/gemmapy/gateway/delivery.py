"""Passes an answer on to the client: an upstream's, whole or as it comes, or one that is kept.

Called by `handle.py`. No byte goes out before the in-flight row is on disk, and what completes the answer is held until
the metric row is. What goes out is the bytes that came wherever client and upstream speak the same dialect.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gemmapy.core.errors import InvalidRequest, UpstreamError, UpstreamLost, UpstreamTimeout
from gemmapy.core.foreign import UNREADABLE
from gemmapy.core.ids import id_text
from gemmapy.core.money import usd_or_none
from gemmapy.core.records import Outcome
from gemmapy.gateway import replay
from gemmapy.gateway.admission import Ticket
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.attempts import ANSWER_LIMIT, Course, Opened
from gemmapy.gateway.entry import Entry
from gemmapy.gateway.exchange import Exchange, decorate
from gemmapy.gateway.flight import Flight
from gemmapy.gateway.record import Record
from gemmapy.gateway.reply import RawHeaders, Reply
from gemmapy.upstreams import tokenizer
from gemmapy.upstreams.frames import FRAME_LIMIT
from gemmapy.upstreams.translation import load_answer, message_of
from gemmapy.upstreams.transport import Answer

if TYPE_CHECKING:
    from gemmapy.gateway.handle import Gateway

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade"
    b" content-length date server set-cookie x-request-id".split()
)


HOLD_UP_S = 0.5
"""So long those who asked the same may be held up by the client of the one who asked first."""


class _Lag:
    """A client that takes its answer more slowly than others wait for it: what it has not been sent yet."""

    def __init__(self, sending: asyncio.Future[None], reply: Reply) -> None:
        self._reply = reply
        self._backlog: list[bytes] = []
        self.caught_up = asyncio.create_task(self._go_on(sending))

    def put(self, data: bytes) -> None:
        self._backlog.append(data)

    async def _go_on(self, sending: asyncio.Future[None]) -> None:
        try:
            await sending
        finally:
            sending.cancel()
        while self._backlog:
            data = b"".join(self._backlog)
            self._backlog.clear()
            await self._reply.send(data)


class Delivery:
    """Of one request's answer."""

    def __init__(self, gateway: Gateway, ticket: Ticket, course: Course, record: Record, reply: Reply) -> None:
        self._gateway = gateway
        self._ticket = ticket
        self._course = course
        self._record = record
        self._reply = reply
        self._now_ns = gateway.clock.monotonic_ns
        self._key: bytes | None = None
        self._flight: Flight | None = None
        self._lag: _Lag | None = None
        self._sent = 0
        """Bytes of another's stream that the client has been sent."""
        self._notes: RawHeaders = []
        """What the gateway itself has to say in the head."""

    def share(self, key: bytes, flight: Flight) -> None:
        """From here on, what is delivered is published for those who asked the same, and kept."""
        self._key, self._flight = key, flight
        self._notes = [(b"x-gemmapy-cache", b"miss")]

    async def upstreams(self, opened: Opened) -> None:
        """An upstream's answer, whatever it is."""
        exchange, answer = opened.exchange, opened.answer
        fallback_from = self._course.route.fallback_from
        if fallback_from is not None:
            model = self._course.route.asked.model
            self._notes += [
                (b"x-gemmapy-model", _header(model)),
                (b"x-gemmapy-fallback", _header(f"{fallback_from} -> {model}")),
            ]
        try:
            if opened.refusal is not None:
                await self._refusal(exchange, answer, opened.refusal)
            elif self._asked.stream and not _is_json(answer):
                await self._stream(exchange, answer)
            else:
                await self._whole(exchange, answer)
        except (UpstreamLost, UpstreamTimeout):
            opened.broke()
            raise
        except UNREADABLE as error:
            title, kind = exchange.upstream.title, type(error).__name__
            raise UpstreamError(f"{title} sent something that is not an answer ({kind}).") from error
        finally:
            if self._lag is not None:
                self._lag.caught_up.cancel()

    async def load(self) -> None:
        """A request that loads or unloads a model, of an upstream that has it loaded always."""
        asked, tally = self._asked, self._course.tally
        tally.nothing_used()
        tally.complete = True
        body = load_answer(asked.endpoint.relayed_as, asked.body, self._gateway.clock.now())
        tally.finish_reason = "load"
        recorded = await self._record.write(200)
        kind = b"application/x-ndjson" if asked.stream else b"application/json; charset=utf-8"
        body = self._decorated(body, recorded)
        await self._reply.start(200, [(b"content-type", kind)])
        await self._reply.end(body + b"\n" if asked.stream else body)

    async def along(self, flight: Flight) -> bool:
        """Another's answer: a stream in the same shape as it comes, anything else once it is complete, which `kept`
        then delivers. False where it failed, and this request has to be asked by itself.

        Raises what the other got where the client has been sent some of it already.
        """
        await flight.begun()
        alike = self._asked.stream and flight.content_type is not None and self._asked.addition is None
        if alike and self._asked.endpoint.dialect == "openai":
            alike = flight.has_usage_chunk == self._asked.wants_usage
        if alike and not flight.is_over:
            async for data in flight.pieces():
                await self._start(200, [(b"content-type", (flight.content_type or "").encode()), _HIT])
                self._record.first_shared_ns = self._record.first_shared_ns or self._now_ns()
                self._sent += len(data)
                await self._reply.send(data)
        else:
            await flight.over()
        if flight.entry is None and self._sent:
            raise flight.error or UpstreamError("The answer that this request shared broke off.")
        return flight.entry is not None

    async def kept(self, entry: Entry) -> Outcome:
        """A complete answer that is there already, in the shape that is asked for; what of it has gone out is left
        out."""
        asked = self._asked
        self._record.shared = entry
        body = replay.shaped(entry, asked)
        if asked.addition is not None:
            for piece in body.splitlines(keepends=True) if asked.stream else (body,):
                asked.addition.see(piece)
        outcome_of = await self._record.write(200)
        body = body[self._sent :]
        if asked.stream:
            cut = body.rstrip().rfind(b"\n") + 1
            body = body[:cut] + self._decorated(body[cut:], outcome_of)
        else:
            body = self._decorated(body, outcome_of)
        if not self._reply.started:
            headers = [(b"content-type", replay.content_type(entry, asked).encode()), _HIT]
            if not asked.stream:
                headers.append((b"content-length", str(len(body)).encode()))
            await self._reply.start(200, headers)
        await self._reply.end(body)
        return outcome_of[1]

    @property
    def _asked(self) -> Asked:
        return self._course.route.asked

    async def _whole(self, exchange: Exchange, answer: Answer) -> None:
        body = await answer.read(ANSWER_LIMIT)
        self._course.leave(self._now_ns())  # before the disk and the client, who may be slow
        tally = self._course.tally
        tally.whole(body, self._now_ns())
        if tally.error is not None:
            raise UpstreamError(tally.error)
        rewritten = exchange.rewriting.answer(body)
        if self._asked.addition is not None:
            self._asked.addition.see(rewritten)
        await self._count(exchange)
        recorded = await self._record.write(answer.status)
        headers = _head(answer, exchange.rewriting.content_type)
        self._keep(rewritten, headers, is_stream=False)
        rewritten = self._decorated(rewritten, recorded)
        headers.append((b"content-length", str(len(rewritten)).encode()))
        await self._reply.start(answer.status, headers + self._notes)
        await self._reply.end(rewritten)

    async def _refusal(self, exchange: Exchange, answer: Answer, body: bytes) -> None:
        """An upstream's refusal: status and body as they came, or in the client's dialect."""
        message = message_of(body) or f"{exchange.upstream.title} answered {answer.status}."
        is_error = answer.status >= 500
        if self._asked.endpoint.is_contract:
            failure = UpstreamError(message) if is_error else InvalidRequest(message, hint="The model server said so.")
            failure.status = answer.status
            failure.code = "upstream_error" if is_error else "upstream_refused"
            if answer.status == 404:
                failure.code = "model_not_found"
            if is_error:
                raise failure
            await self._record.write(answer.status, None, message)
            raise failure
        rewritten = exchange.rewriting.error(answer.status, body)
        await self._record.write(answer.status, "upstream_error" if is_error else None, message)
        translated = exchange.dialect != self._asked.endpoint.dialect
        headers = _head(answer, "application/json" if translated else None)
        headers.append((b"content-length", str(len(rewritten)).encode()))
        await self._reply.start(answer.status, headers + self._notes)
        await self._reply.end(rewritten)

    async def _stream(self, exchange: Exchange, answer: Answer) -> None:
        """Passes frames on as they come, and holds back those that complete the answer."""
        decoder = exchange.decoder()
        tally = self._course.tally
        headers = _head(answer, exchange.rewriting.content_type)
        held: list[bytes] = []
        held_size = 0
        async for data in answer.chunks():
            ready: list[bytes] = []
            now_ns = self._now_ns()
            try:
                held_size += self._take(exchange, decoder.feed(data), now_ns, ready, held)
                if held_size > FRAME_LIMIT:
                    raise UpstreamError(f"{exchange.upstream.title} went on and on after the end of its answer.")
            finally:
                if ready:  # also what came before a frame that is garbage
                    await self._start(answer.status, headers + self._notes)
                    await self._publish(b"".join(ready), headers)
        self._course.leave(self._now_ns())
        ready = []
        rest = decoder.rest
        if rest.strip():
            self._take(exchange, [rest], self._now_ns(), ready, held)
        if tally.error is None and not tally.complete:
            if tally.finish_reason is None:
                raise UpstreamError(f"{exchange.upstream.title} ended its answer before it was complete.")
            tally.complete = True  # a server that leaves out [DONE]
        closing = exchange.rewriting.end() if tally.error is None else []
        await self._count(exchange)
        if tally.error is None:
            recorded = await self._record.write(200)
        else:
            recorded = await self._record.write(200, "upstream_error", tally.error)
        tail = [*ready, *held, *closing]
        if tally.error is None:
            self._keep(b"".join(tail), headers, is_stream=True)
            if self._asked.endpoint.is_contract:
                last = max(place for place, frame in enumerate(tail) if frame.strip())
                tail[last] = self._decorated(tail[last], recorded)
        await self._start(answer.status, headers + self._notes)
        if self._lag is not None:
            await self._lag.caught_up
        await self._reply.end(b"".join(tail))

    def _take(self, exchange: Exchange, frames: list[bytes], now_ns: int, ready: list[bytes], held: list[bytes]) -> int:
        """Counts frames and puts them with those to send or those to hold; returns how many bytes are held more."""
        tally, rewrite, addition = self._course.tally, exchange.rewriting.frame, self._asked.addition
        size = 0
        for frame in frames:
            tally.see(frame, now_ns)
            for client_frame in rewrite(frame):
                if addition is not None:
                    addition.see(client_frame)
                if tally.closing:
                    held.append(client_frame)
                    size += len(client_frame)
                else:
                    ready.append(client_frame)
        return size

    async def _publish(self, data: bytes, headers: RawHeaders) -> None:
        """Sends a piece, to the client and to those who asked the same."""
        if self._flight is not None and self._course.route.fallback_from is None:
            self._flight.publish(data, _kind(headers), has_usage_chunk=self._asked.wants_usage)
        if self._flight is None or (self._lag is None and not self._flight.followers):
            await self._reply.send(data)
        else:
            await self._send_beside(data)

    async def _send_beside(self, data: bytes) -> None:
        """Sends a piece while others wait for the same: a client that does not take it falls behind by itself."""
        if self._lag is not None:
            if not self._lag.caught_up.done():
                self._lag.put(data)
                return
            await self._lag.caught_up
            self._lag = None
        sending = asyncio.ensure_future(self._reply.send(data))
        try:
            await asyncio.wait({sending}, timeout=HOLD_UP_S)
        except BaseException:
            sending.cancel()
            raise
        if sending.done():
            await sending
        else:
            self._lag = _Lag(sending, self._reply)

    def _keep(self, tail: bytes, headers: RawHeaders, *, is_stream: bool) -> None:
        """A complete answer, its row on disk, goes into the cache and to those who wait for it, unless another model
        than the asked one gave it."""
        if self._key is None or self._flight is None or self._course.route.fallback_from is not None:
            return
        tally = self._course.tally
        entry = Entry(
            model=self._asked.model,
            body=self._flight.published + tail,
            is_stream=is_stream,
            has_usage_chunk=is_stream and self._asked.wants_usage,
            content_type=_kind(headers),
            usage=tally.usage(),
            compute_ms=tally.timings(self._now_ns()).compute_ms,
            finish_reason=tally.finish_reason,
        )
        if not self._record.client_left:
            self._gateway.cache.put(self._key, entry, self._ticket.intent.user_id)
        self._gateway.cache.land(self._key, self._flight, entry)

    async def _start(self, status: int, headers: RawHeaders) -> None:
        if not self._reply.started:
            assert self._ticket.durable is not None
            await self._ticket.durable
            await self._reply.start(status, headers)

    async def _count(self, exchange: Exchange) -> None:
        """Where an upstream has not said what was used, asks its tokenizer; where it has none, estimates stay."""
        tally, upstream = self._course.tally, exchange.upstream
        if tally.has_usage:
            upstream.reports_usage = True
            return
        if exchange.dialect != "openai" or tally.error is not None:
            return
        asked, transport = self._asked, self._gateway.transport
        prompt = await tokenizer.count_prompt(upstream, transport, asked.endpoint.kind, exchange.body)
        response = 0
        if asked.endpoint.kind != "embed":
            response = await tokenizer.count_response(upstream, transport, asked.model, tally.text)
        if prompt is not None and response is not None:
            tally.count(prompt, response)

    def _decorated(self, body: bytes, recorded: tuple[int, Outcome]) -> bytes:
        """What `/api/ollama/*` and `/api/rag/generate` add to Ollama's object."""
        if not self._asked.endpoint.is_contract:
            return body
        metric_id, outcome = recorded
        extra: dict[str, Any] = {
            "cached": outcome.cached,
            "metric_id": metric_id,
            "request_id": id_text(outcome.intent.request_id),
            "cost": usd_or_none(None if outcome.cost is None else outcome.cost.total_nusd),
        }
        if self._course.route.fallback_from is not None:
            extra["fallback_from"] = self._course.route.fallback_from
        if self._asked.addition is not None:
            extra |= self._asked.addition.fields()
        return decorate(body, extra)


_HIT = (b"x-gemmapy-cache", b"hit")


def _header(text: str) -> bytes:
    """A text that fits into a header."""
    return "".join(c if c.isprintable() else "?" for c in text).encode("latin-1", "replace")


def _kind(headers: RawHeaders) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == b"content-type"), "")


def _is_json(answer: Answer) -> bool:
    """A server that was asked to stream and answered in one piece."""
    return (answer.header("content-type") or "").split(";")[0].strip().lower() == "application/json"


def _head(answer: Answer, content_type: str | None) -> RawHeaders:
    """The upstream's headers that go on to the client: all but those that belong to its own connection."""
    headers = [(name, value) for name, value in answer.headers if _goes_on(name)]
    if any(name == b"connection" for name, _ in answer.headers):
        named = {name.strip().lower().encode() for name in (answer.header("connection") or "").split(",")}
        headers = [(name, value) for name, value in headers if name not in named]
    if content_type is not None:
        headers = [(name, value) for name, value in headers if name != b"content-type"]
        headers.append((b"content-type", content_type.encode()))
    return headers


@lru_cache(maxsize=256)
def _goes_on(name: bytes) -> bool:
    return name not in _HOP_BY_HOP and not name.startswith((b"access-control-", b"x-gemmapy-"))
