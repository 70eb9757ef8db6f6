"""One request, from its first byte to the last: the whole story.

Who is it, what do they ask, may they; ask the upstream, relay its answer, count along, price it, write it down. No byte
of an answer goes out before the in-flight row is on disk, and what completes an answer (Ollama's `done` line, OpenAI's
usage and `[DONE]`, a whole body) is held until the metric row is. Whatever happens in between, one row is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from gemmapy.core.clock import Clock
from gemmapy.core.errors import Draining, GemmaPyError, InvalidRequest, StorageUnavailable, UpstreamError
from gemmapy.core.ids import RequestIds, id_text
from gemmapy.core.money import usd_or_none
from gemmapy.core.records import Outcome, Timings, Usage, speed_mtps
from gemmapy.gateway.admission import Admission, Ticket
from gemmapy.gateway.asked import Asked, Envelope, read
from gemmapy.gateway.auth import Auth, Caller
from gemmapy.gateway.exchange import Exchange, decorate, prepare
from gemmapy.gateway.tally import Tally
from gemmapy.pricing import cost_of
from gemmapy.storage.store import Store
from gemmapy.upstreams import tokenizer
from gemmapy.upstreams.frames import FRAME_LIMIT
from gemmapy.upstreams.translation import is_load, load_answer, message_of
from gemmapy.upstreams.transport import Answer, Transport

CLIENT_LEFT = 499
"""The status of a request whose client was gone before its answer: nginx's, since HTTP has none."""
ANSWER_LIMIT = 256 * 1024 * 1024
RECORD_TIMEOUT_S = 10
INTERRUPTED = "interrupted"
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade"
    b" content-length date server set-cookie x-request-id".split()
)
_log = structlog.stdlib.get_logger()
RawHeaders = list[tuple[bytes, bytes]]


class Reply(Protocol):
    """Where the answer goes; `api/proxy.py` has it over ASGI."""

    started: bool
    status: int

    def identify(self, request_id: bytes, client_request_id: str | None) -> None:
        """Sets the ids that every answer's head carries."""
        ...

    async def start(self, status: int, headers: RawHeaders) -> None: ...
    async def send(self, data: bytes) -> None: ...
    async def end(self, data: bytes = b"") -> None: ...
    async def client_left(self) -> None:
        """Returns once the client's connection is gone."""
        ...


class Gateway:
    """What the requests share."""

    def __init__(
        self,
        *,
        auth: Auth,
        admission: Admission,
        store: Store,
        transport: Transport,
        clock: Clock,
        max_body_bytes: int,
        ready_timeout_s: float,
    ) -> None:
        self.auth = auth
        self.admission = admission
        self.store = store
        self.transport = transport
        self.clock = clock
        self.max_body_bytes = max_body_bytes
        self.ready_timeout_s = ready_timeout_s
        self.ids = RequestIds()
        self.running: set[asyncio.Task[None]] = set()
        self.draining = False
        self.ground: Callable[[Caller, Asked], Awaitable[Asked]] | None = None
        """Puts passages of documents into a grounded request; set by whoever has documents."""

    async def handle(
        self, envelope: Envelope, credential: str | None, body: Callable[[], Awaitable[bytes]], reply: Reply
    ) -> None:
        """Answers one request. Raises GemmaPyError, recorded already, for the caller to put in the client's dialect."""
        request_id = self.ids.new()
        reply.identify(request_id, envelope.client_request_id)
        caller = self.auth.identify(credential)
        if self.draining:
            raise Draining(retry_after_s=5)
        await self.serve(caller, envelope, request_id, body, reply)

    async def serve(
        self,
        caller: Caller,
        envelope: Envelope,
        request_id: bytes,
        body: Callable[[], Awaitable[bytes]],
        reply: Reply,
    ) -> None:
        """The same for a caller who is known: those who ask from inside the gateway begin here."""
        task = asyncio.current_task()
        assert task is not None
        self.running.add(task)
        try:
            asked = read(envelope, await body(), self.max_body_bytes)
            try:
                if asked.endpoint.is_grounded and self.ground is not None:
                    self.admission.check(caller, asked)
                    asked = await self.ground(caller, asked)
                ticket = await self.admission.admit(caller, asked, request_id)
            except (StorageUnavailable, InvalidRequest):
                raise  # nowhere to write it down; nothing that could be read
            except GemmaPyError as refusal:
                intent = self.admission.refused(caller, asked, request_id)
                self.store.finish_unwatched(
                    Outcome(
                        intent=intent,
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
            await _Request(self, asked, ticket, reply, task).run()
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


class _Request:
    """One admitted request."""

    def __init__(self, gateway: Gateway, asked: Asked, ticket: Ticket, reply: Reply, task: asyncio.Task[None]) -> None:
        self._gateway = gateway
        self._asked = asked
        self._ticket = ticket
        self._reply = reply
        self._task = task
        self._now_ns = gateway.clock.monotonic_ns
        self._client_left = False
        self._recorded = False
        self._dispatched_ns: int | None = None
        self._attempts = 0
        upstream = ticket.upstream
        speaks = upstream.speaks(asked.endpoint.dialect)
        self._tally = Tally(
            asked.endpoint.dialect if speaks else ("ollama" if asked.endpoint.dialect == "openai" else "openai"),
            asked.started_ns,
            asked.prompt_estimate,
            keep_text=not upstream.reports_usage and upstream.kind != "ollama",
        )

    async def run(self) -> None:
        """Answers it, and records it whatever happens."""
        watcher = asyncio.create_task(self._watch())
        try:
            await self._answer()
        except GemmaPyError as failure:
            await self._fail(failure)
            raise
        except asyncio.CancelledError:
            if not self._client_left:
                self._record_unwatched(0, INTERRUPTED, "The gateway was shut down while this request was under way.")
                raise
            self._task.uncancel()
            self._record_unwatched(CLIENT_LEFT, None, "The client left before its answer was complete.")
        except Exception as failure:
            self._record_unwatched(500, "internal_error", f"The gateway failed: {type(failure).__name__}.")
            raise
        finally:
            self._client_left = True  # what the watcher sees from here on is of no interest
            watcher.cancel()

    async def _watch(self) -> None:
        """Ends the work for a client that is gone: nobody reads it, and it costs."""
        await self._reply.client_left()
        if not self._client_left:
            self._client_left = True
            self._task.cancel()

    async def _answer(self) -> None:
        asked, upstream = self._asked, self._ticket.upstream
        await upstream.ready(self._gateway.ready_timeout_s)
        always_loaded = asked.endpoint.dialect == "ollama" and not upstream.speaks("ollama")
        if always_loaded and is_load(asked.endpoint.relayed_as, asked.body):
            await self._answer_load()
            return
        exchange = prepare(asked, upstream, self._ticket.intent.request_id, self._gateway.clock)
        answer = await self._ask(exchange)
        try:
            if answer.status >= 400 and exchange.without_usage is not None:
                body = await answer.read(ANSWER_LIMIT)
                if answer.status in (400, 422) and b"stream_options" in body:
                    upstream.takes_stream_options = False
                    exchange = exchange.without_usage
                    answer = await self._ask(exchange)
                else:
                    await self._relay_error(exchange, answer, body)
                    return
            if answer.status >= 400:
                await self._relay_error(exchange, answer, await answer.read(ANSWER_LIMIT))
            elif asked.stream and not _is_json(answer):
                await self._relay_stream(exchange, answer)
            else:
                await self._relay_whole(exchange, answer)
        finally:
            answer.close()

    async def _ask(self, exchange: Exchange) -> Answer:
        self._attempts += 1
        self._dispatched_ns = self._now_ns()
        upstream = exchange.upstream
        return await self._gateway.transport.send(
            "POST", upstream.address(exchange.path), exchange.headers, exchange.body, where=upstream.title
        )

    async def _answer_load(self) -> None:
        """A request that loads or unloads a model, of an upstream that has it loaded always."""
        self._tally.nothing_used()
        self._tally.complete = True
        body = load_answer(self._asked.endpoint.relayed_as, self._asked.body, self._gateway.clock.now())
        self._tally.finish_reason = "load"
        metric = await self._record(200)
        kind = b"application/x-ndjson" if self._asked.stream else b"application/json; charset=utf-8"
        body = self._decorated(body, metric)
        await self._reply.start(200, [(b"content-type", kind)])
        await self._reply.end(body + b"\n" if self._asked.stream else body)

    async def _relay_whole(self, exchange: Exchange, answer: Answer) -> None:
        body = await answer.read(ANSWER_LIMIT)
        self._tally.whole(body, self._now_ns())
        if self._tally.error is not None:
            raise UpstreamError(self._tally.error)
        rewritten = exchange.rewriting.answer(body)
        if self._asked.addition is not None:
            self._asked.addition.see(rewritten)
        await self._count(exchange)
        metric = await self._record(answer.status)
        rewritten = self._decorated(rewritten, metric)
        headers = _head(answer, exchange.rewriting.content_type)
        headers.append((b"content-length", str(len(rewritten)).encode()))
        await self._reply.start(answer.status, headers)
        await self._reply.end(rewritten)

    async def _relay_error(self, exchange: Exchange, answer: Answer, body: bytes) -> None:
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
            await self._record(answer.status, None, message)
            raise failure
        rewritten = exchange.rewriting.error(answer.status, body)
        await self._record(answer.status, "upstream_error" if is_error else None, message)
        translated = exchange.dialect != self._asked.endpoint.dialect
        headers = _head(answer, "application/json" if translated else None)
        headers.append((b"content-length", str(len(rewritten)).encode()))
        await self._reply.start(answer.status, headers)
        await self._reply.end(rewritten)

    async def _relay_stream(self, exchange: Exchange, answer: Answer) -> None:
        """Passes frames on as they come, and holds back those that complete the answer."""
        decoder = exchange.decoder()
        held: list[bytes] = []
        held_size = 0
        async for data in answer.chunks():
            ready: list[bytes] = []
            try:
                for frame in decoder.feed(data):
                    held_size += self._take(exchange, frame, ready, held)
                if held_size > FRAME_LIMIT:
                    raise UpstreamError(f"{exchange.upstream.title} went on and on after the end of its answer.")
            finally:
                if ready:  # also what came before a frame that is garbage
                    await self._start(exchange, answer)
                    await self._reply.send(b"".join(ready))
        ready = []
        rest = decoder.rest
        if rest.strip():
            self._take(exchange, rest, ready, held)
        if self._tally.error is None and not self._tally.complete:
            if self._tally.finish_reason is None:
                raise UpstreamError(f"{exchange.upstream.title} ended its answer before it was complete.")
            self._tally.complete = True  # a server that leaves out [DONE]
        closing = exchange.rewriting.end() if self._tally.error is None else []
        await self._count(exchange)
        if self._tally.error is None:
            metric = await self._record(200)
        else:
            metric = await self._record(200, "upstream_error", self._tally.error)
        tail = [*ready, *held, *closing]
        if self._asked.endpoint.is_contract and self._tally.error is None:
            last = max(place for place, frame in enumerate(tail) if frame.strip())
            tail[last] = self._decorated(tail[last], metric)
        await self._start(exchange, answer)
        await self._reply.end(b"".join(tail))

    def _take(self, exchange: Exchange, frame: bytes, ready: list[bytes], held: list[bytes]) -> int:
        """Counts a frame and puts it with those to send or those to hold; returns how many bytes are held more."""
        self._tally.see(frame, self._now_ns())
        client_frames = exchange.rewriting.frame(frame)
        if self._asked.addition is not None:
            for client_frame in client_frames:
                self._asked.addition.see(client_frame)
        if self._tally.closing:
            held.extend(client_frames)
            return sum(len(client_frame) for client_frame in client_frames)
        ready.extend(client_frames)
        return 0

    async def _start(self, exchange: Exchange, answer: Answer) -> None:
        if not self._reply.started:
            await self._ticket.durable
            await self._reply.start(answer.status, _head(answer, exchange.rewriting.content_type))

    async def _count(self, exchange: Exchange) -> None:
        """Where an upstream has not said what was used, asks its tokenizer; where it has none, estimates stay."""
        tally, upstream = self._tally, exchange.upstream
        if tally.has_usage:
            upstream.reports_usage = True
            return
        if exchange.dialect != "openai" or tally.error is not None:
            return
        transport = self._gateway.transport
        prompt = await tokenizer.count_prompt(upstream, transport, self._asked.endpoint.kind, exchange.body)
        response = 0
        if self._asked.endpoint.kind != "embed":
            response = await tokenizer.count_response(upstream, transport, self._asked.model, tally.text)
        if prompt is not None and response is not None:
            tally.count(prompt, response)

    def _outcome(self, status: int, error_code: str | None, message: str | None) -> Outcome:
        now_ns = self._now_ns()
        usage = self._tally.usage()
        if error_code is not None and not self._tally.content_frames and not self._tally.has_usage:
            usage = Usage(estimated=True) if self._attempts else Usage()  # nothing was delivered, nothing is charged
        timings = self._tally.timings(now_ns)
        if self._dispatched_ns is not None:
            queue_ms = max(0, (self._dispatched_ns - self._asked.started_ns) // 1_000_000)
            timings = Timings(
                duration_ms=timings.duration_ms,
                ttft_ms=timings.ttft_ms,
                queue_ms=queue_ms,
                load_ms=timings.load_ms,
                prompt_ms=timings.prompt_ms,
                generation_ms=timings.generation_ms,
            )
        cost = None
        refused_by_upstream = 400 <= status < 500 and status != CLIENT_LEFT
        if refused_by_upstream and not self._tally.has_usage:
            usage = Usage()
        if self._ticket.price is not None and usage.total_tokens is not None:
            cost = cost_of(self._ticket.price, usage, timings.compute_ms)
        return Outcome(
            intent=self._ticket.intent,
            status=status,
            usage=usage,
            timings=timings,
            error_code=error_code,
            error_message=message,
            finish_reason=self._tally.finish_reason,
            cost=cost,
            attempts=self._attempts,
            speed_mtps=speed_mtps(usage.response_tokens, timings.generation_ms),
        )

    async def _record(
        self, status: int, error_code: str | None = None, message: str | None = None
    ) -> tuple[int, Outcome]:
        """Writes the metric row and returns its id once it is on disk.

        Raises StorageUnavailable where that takes too long; the row is still written, as soon as it can be.
        """
        admitted = self._ticket.durable
        if admitted.done():
            await admitted  # raises where the in-flight row was refused
        outcome = self._outcome(status, error_code, message)
        self._recorded = True
        recorded = self._gateway.store.finish(outcome, admitted=True)
        # Both, since either may be in the writer's queue still; of an answer that is quick they share a transaction.
        await asyncio.wait({recorded, admitted}, timeout=RECORD_TIMEOUT_S, return_when=asyncio.FIRST_EXCEPTION)
        if admitted.done():
            await admitted
        if not recorded.done():
            raise StorageUnavailable("The record of this request could not be written in time.", retry_after_s=1)
        return await recorded, outcome

    def _record_unwatched(self, status: int, error_code: str | None, message: str) -> None:
        if not self._recorded:
            self._recorded = True
            self._gateway.store.finish_unwatched(self._outcome(status, error_code, message), admitted=True)

    async def _fail(self, failure: GemmaPyError) -> None:
        if self._recorded:
            return
        status = self._reply.status if self._reply.started else failure.status
        is_refusal = isinstance(failure, InvalidRequest)
        if isinstance(failure, StorageUnavailable):
            self._record_unwatched(status, failure.code, failure.message)
        else:
            await self._record(status, failure.code, failure.message)
        if not is_refusal:
            _log.warning(
                "a request failed",
                request_id=id_text(self._ticket.intent.request_id),
                upstream=self._ticket.upstream.name,
                code=failure.code,
                reason=failure.message,
            )

    def _decorated(self, body: bytes, recorded: tuple[int, Outcome]) -> bytes:
        """What `/api/ollama/*` and `/api/rag/generate` add to Ollama's object."""
        if not self._asked.endpoint.is_contract:
            return body
        metric_id, outcome = recorded
        return decorate(
            body,
            {
                "cached": outcome.cached,
                "metric_id": metric_id,
                "request_id": id_text(outcome.intent.request_id),
                "cost": usd_or_none(None if outcome.cost is None else outcome.cost.total_nusd),
                **(self._asked.addition.fields() if self._asked.addition is not None else {}),
            },
        )


def _is_json(answer: Answer) -> bool:
    """A server that was asked to stream and answered in one piece."""
    return (answer.header("content-type") or "").split(";")[0].strip().lower() == "application/json"


def _head(answer: Answer, content_type: str | None) -> RawHeaders:
    """The upstream's headers that go on to the client: all but those that belong to its own connection."""
    named_by_connection = {name.strip().lower().encode() for name in (answer.header("connection") or "").split(",")}
    headers = [
        (name, value)
        for name, value in answer.headers
        if name not in _HOP_BY_HOP
        and name not in named_by_connection
        and not name.startswith(b"access-control-")
        and not (content_type is not None and name == b"content-type")
    ]
    if content_type is not None:
        headers.append((b"content-type", content_type.encode()))
    return headers
