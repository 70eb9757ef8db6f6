"""Clients that ask on and on through real sockets, and write down exactly what they saw.

Every question has a number, from which both sides know what the answer must be: the upstream here how many tokens it
says, the test what the ledger must have. Whatever a client saw of an answer is a `Seen`, also where the gateway died in
the middle.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httptools

from tests.support.scripted import Pause, Request, Script, ScriptedUpstream, Step, ndjson, sse, whole

MODEL = "llama3"
INPUT_NUSD, OUTPUT_NUSD = 150, 300  # the bundled price of llama3, for each token
REPEATED = 40
"""Questions with a number below this are asked again and again, and may be answered from the cache."""


def tokens(number: int) -> tuple[int, int]:
    """What the upstream counts for a question: prompt and response."""
    return 11 + number % 1_000_003, 3 + number % 47


@dataclass(frozen=True)
class Kind:
    """A way to ask."""

    path: str
    stream: bool
    usage_chunk: bool = False
    repeated: bool = False
    leaves: bool = False
    """The client is gone after the first piece."""

    def body(self, number: int) -> bytes:
        text = f"question {number}"
        body: dict[str, Any] = {"model": MODEL, "stream": self.stream}
        if self.path.endswith("/generate"):
            body["prompt"] = text
        elif self.path.endswith("embed"):
            body = {"model": MODEL, "input": text}
        else:
            body["messages"] = [{"role": "user", "content": text}]
        if self.usage_chunk:
            body["stream_options"] = {"include_usage": True}
        if self.repeated:
            body["temperature"] = 0
        return json.dumps(body).encode()


KINDS = (
    Kind("/api/generate", stream=True),
    Kind("/api/generate", stream=False),
    Kind("/api/chat", stream=True),
    Kind("/api/chat", stream=True, leaves=True),
    Kind("/api/ollama/generate", stream=True),
    Kind("/api/ollama/chat", stream=False),
    Kind("/api/ollama/chat", stream=True, repeated=True),
    Kind("/api/ollama/generate", stream=False, repeated=True),
    Kind("/v1/chat/completions", stream=True, usage_chunk=True),
    Kind("/v1/chat/completions", stream=True),
    Kind("/v1/chat/completions", stream=False),
    Kind("/api/embed", stream=False),
)


@dataclass
class Seen:
    """What one client saw of one answer."""

    asked_as: str
    """The id that the client gave its request."""
    number: int
    kind: Kind
    status: int = 0
    """0: not a byte."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    """HTTP says that this is all of it."""
    port: int = 0
    """The client's own, by which its connection is known."""
    over_s: float = 0
    """When it was, by the monotonic clock; 0: the connection ended before."""

    @property
    def request_id(self) -> bytes:
        return bytes.fromhex(self.headers["x-request-id"].replace("-", ""))

    @property
    def is_complete(self) -> bool:
        """The client has what a client waits for, by its dialect: the last word, be the connection cut after it."""
        if self.status != 200:
            return False
        if not self.kind.stream:
            return self.ended
        if self.kind.path.startswith("/v1/"):
            return b"data: [DONE]\n\n" in self.body
        return bool(re.search(rb'"done": ?true.*\n', bytes(self.body)))

    @property
    def last(self) -> dict[str, Any]:
        """The object that ends an answer in Ollama's dialect."""
        return json.loads(bytes(self.body).strip().splitlines()[-1])


def upstream_for(
    chance: random.Random,
    *,
    longest_pause_s: float = 0.02,
    port: int = 0,
    spoil: Callable[[Script], Script] = lambda script: script,
) -> ScriptedUpstream:
    """An upstream that answers every question by its number, in a few pieces with short pauses. `spoil` may do
    something to an answer before it is sent."""

    def answer(request: Request) -> Script:
        number = int(re.search(rb"question (\d+)", request.body)[1])  # pyright: ignore[reportOptionalSubscript]
        prompt, response = tokens(number)
        stream = request.json.get("stream", request.path != "/v1/chat/completions")
        if request.path == "/api/embed":
            return whole({"model": MODEL, "embeddings": [[0.5, 1]], "prompt_eval_count": prompt})
        pauses = [Pause(chance.uniform(0, longest_pause_s)) for _ in range(4)]
        if request.path == "/v1/chat/completions":
            usage = {"prompt_tokens": prompt, "completion_tokens": response, "total_tokens": prompt + response}
            if not stream:
                choice = {"index": 0, "message": {"role": "assistant", "content": "abc"}, "finish_reason": "stop"}
                return [pauses[0], *whole({"id": "x", "model": MODEL, "choices": [choice], "usage": usage})]
            pieces: list[Any] = []
            for pause, text in zip(pauses, "abc", strict=False):
                pieces += [pause, {"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]}]
            pieces.append({"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            return sse(*pieces, pauses[3], {"id": "x", "choices": [], "usage": usage}, "[DONE]")
        field_name = "message" if request.path == "/api/chat" else "response"

        def line(text: str) -> dict[str, Any]:
            value: Any = {"role": "assistant", "content": text} if field_name == "message" else text
            return {"model": MODEL, field_name: value, "done": False}

        done = {**line(""), "done": True, "done_reason": "stop", "prompt_eval_count": prompt, "eval_count": response}
        if not stream:
            return [pauses[0], *whole({**done, field_name: line("abc")[field_name]})]
        steps: list[Step | dict[str, Any]] = []
        for pause, text in zip(pauses, "abc", strict=False):
            steps += [pause, line(text)]
        return ndjson(*steps, pauses[3], done)

    upstream = ScriptedUpstream(MODEL, port=port)
    for path in ("/api/generate", "/api/chat", "/api/embed", "/v1/chat/completions"):
        upstream.on(path, lambda request: spoil(answer(request)))
    return upstream


class Load:
    """So many clients, each of which asks as soon as it has its answer. Begins paused.

    `go` says where; `pause` returns once no client has a request under way. Where the gateway dies, clients wait for
    the next `go` by themselves.
    """

    def __init__(
        self, clients: int, key: str, chance: random.Random, kinds: Sequence[Kind] = KINDS, *, pause_s: float = 0
    ) -> None:
        self.seen: list[Seen] = []
        """Of every request that was sent whole; only to be read while paused."""
        self._key = key
        self._kinds = kinds
        self._pause_s = pause_s
        self._chance = chance
        self._numbers = REPEATED
        self._port: int | None = None
        self._busy = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._tasks: list[asyncio.Task[None]] = []
        self._run(self._begin(clients))

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def go(self, port: int) -> None:
        """Asks a gateway."""
        self._run(self._gate(port))

    def pause(self) -> None:
        """Asks no more; what is under way goes on to its end, or to the gateway's."""
        self._run(self._gate(None))
        self._run(self._idle())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _begin(self, clients: int) -> None:
        self._changed = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        for failure in done:
            if isinstance(failure, Exception):
                raise failure

    async def _gate(self, port: int | None) -> None:
        async with self._changed:
            self._port = port
            self._changed.notify_all()

    async def _idle(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._busy)
        for task in self._tasks:
            if task.done():
                task.result()

    async def _client(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._port is not None)
                port = self._port
                self._busy += 1
            try:
                await self._converse(port)
            finally:
                async with self._changed:
                    self._busy -= 1
                    if self._port == port:
                        self._port = None  # it is gone
                    self._changed.notify_all()

    async def _converse(self, port: int | None) -> None:
        """One kept-alive connection after the other, until the gateway is gone or this one is told to pause."""
        while self._port == port:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            try:
                while self._port == port and await self._ask(reader, writer):
                    pass
            except OSError:
                pass
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection can be used again."""
        self._numbers += 1
        kind = self._chance.choice(self._kinds)
        number = self._chance.randrange(REPEATED) if kind.repeated else self._numbers
        body = kind.body(number)
        seen = Seen(f"c{self._numbers}", number, kind)
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        head = (
            f"POST {kind.path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self._key}\r\n"
            f"X-Request-Id: {seen.asked_as}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.seen.append(seen)
        seen.port = writer.get_extra_info("sockname")[1]
        writer.write(head.encode() + body)
        parts = Parts(seen)
        parser = parts.parser
        while not seen.ended:
            data = await reader.read(65_536)
            if not data:
                return False
            parser.feed_data(data)
            seen.status = parser.get_status_code()
            if kind.leaves and seen.body:
                return False
        seen.over_s = time.monotonic()
        if seen.status == 503:
            await asyncio.sleep(0.02)
        return parts.may_go_on


class Parts:
    """What the parser tells, put into a `Seen`."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.parser = httptools.HttpResponseParser(self)
        self.may_go_on = False
        """The connection can be used for another request; the parser knows that only at this one's end."""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._seen.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._seen.body += body

    def on_message_complete(self) -> None:
        self._seen.ended = True
        self.may_go_on = self.parser.should_keep_alive()
