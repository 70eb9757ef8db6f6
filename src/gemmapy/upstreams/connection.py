"""One connection to an upstream, and the answer that comes over it.

Made and kept by `transport.py`. A connection carries one question at a time. It is free for the next one where the
answer was read to its end and nothing followed it, and cut otherwise: an answer that is let go before its end takes its
connection with it, so that the upstream notices at once and stops working.

Where nobody takes what comes, reading stops and the upstream has to wait: of an answer at most `HELD_BYTES` and one
read of the socket are held.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Literal, cast

from gemmapy.core.errors import InvalidRequest, UpstreamError, UpstreamLost, UpstreamTimeout
from gemmapy.core.outbox import Outbox
from gemmapy.upstreams.http1 import Garbage, Reader

HELD_BYTES = 256 * 1024
KEPT_IDLE_S = 15
"""How long a connection is kept for the next question; servers close theirs after some time of their own."""


class Answer:
    """An upstream's answer, its head read, its body still coming."""

    def __init__(self, connection: Connection, where: str, wait_s: float, idle_s: float, *, is_head: bool) -> None:
        self.head: asyncio.Future[None] = connection.loop.create_future()
        """Resolves once status and headers are there."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """Names in lower case, values as they came."""
        self.is_untouched = True
        """Not a byte of it has come."""
        self.where = where
        self.wait_s = wait_s
        self.idle_s = idle_s
        self.reader = Reader(is_head=is_head)
        self._connection = connection
        self._is_complete = False
        self._error: UpstreamError | None = None
        self._pieces: list[bytes] = []
        self._news: asyncio.Future[None] | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for known, value in self.headers if known == wanted), None)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in the pieces it arrives in, never empty ones; those that came together are one.

        Raises UpstreamTimeout where nothing comes for too long, UpstreamLost where the connection breaks off; what had
        come until then comes first.
        """
        while True:
            if self._pieces:
                data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
                self._pieces = []
                self._connection.taken()
                yield data
            elif self._error is not None:
                raise self._error
            elif self._is_complete:
                return
            else:
                self._news = self._connection.loop.create_future()
                await self._news

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamError where it is longer than `limit` bytes."""
        if self._is_complete and len(self._pieces) == 1 and len(self._pieces[0]) <= limit:
            return self._pieces.pop()  # nearly always: it came together with its head
        pieces: list[bytes] = []
        size = 0
        async for data in self.chunks():
            pieces.append(data)
            size += len(data)
            if size > limit:
                raise UpstreamError(f"{self.where} answered with more than {limit} bytes.")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Lets go. The connection is kept where the answer came to its end, and cut where it did not."""
        if not self._is_complete and self._error is None:
            self._connection.abort()

    # What its connection tells it

    def came(self) -> int:
        """Takes over what the reader has; returns how many bytes of the body nobody has taken yet."""
        reader = self.reader
        if reader.pieces:
            self._pieces += reader.pieces
            reader.pieces.clear()
        self._is_complete = reader.is_complete
        if reader.has_head and not self.status:
            self.status, self.headers = reader.status, reader.headers
            if not self.head.done():
                self.head.set_result(None)
        if self._pieces or self._is_complete:
            self._tell()
        return sum(map(len, self._pieces))

    def fail(self, error: UpstreamError) -> None:
        """It will never be complete."""
        self._error = error
        if not self.head.done():
            self.head.set_exception(error)
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


class Connection(asyncio.Protocol):
    """`on_free` is called when it may carry another question, `on_gone` once it is closed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        on_free: Callable[[Connection], None],
        on_gone: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self._outbox = outbox
        self.deadline = math.inf
        """When `expire` is to be called, in the loop's time."""
        self._on_free = on_free
        self._on_gone = on_gone
        self._answer: Answer | None = None
        self._is_paused = False
        self._is_sending = False
        self._room: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def begin(self, answer: Answer, head: bytes, body: bytes | None) -> None:
        """Sends a question, or the beginning of one that `upload` goes on with."""
        assert self._transport is not None
        self._answer = answer
        self.deadline = self.loop.time() + answer.wait_s
        self._outbox.write(self._transport, head + body if body else head)

    async def upload(self, body: AsyncIterable[bytes], length: int | Literal["chunked"]) -> None:
        """Sends the rest of a question as it comes, no faster than it is taken.

        Raises InvalidRequest where there is more or less of it than was announced, and whatever `body` raises.
        """
        answer = self._answer
        sent = 0
        self._outbox.flush()
        self._is_sending = True
        self.deadline = math.inf  # who sends it to us has limits of their own
        async for piece in body:
            if self._transport is None or answer is None:
                return
            sent += len(piece)
            if length == "chunked":
                piece = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            elif sent > length:
                break
            self._transport.write(piece)
            if self._room is not None:
                self.deadline = self.loop.time() + answer.wait_s
                await self._room
                self.deadline = math.inf
        if length != "chunked" and sent != length:
            raise InvalidRequest(f"The request's body has {sent} bytes or more where {length} were announced.")
        if self._transport is None or answer is None:
            return
        if length == "chunked":
            self._transport.write(b"0\r\n\r\n")
        self._is_sending = False
        self.deadline = self.loop.time() + answer.wait_s

    def taken(self) -> None:
        """What was held has been taken: reading goes on."""
        if self._is_paused and self._answer is not None and self._transport is not None:
            self._is_paused = False
            self.deadline = self.loop.time() + self._answer.idle_s
            self._transport.resume_reading()

    def expire(self) -> None:
        """Its deadline has come: of an answer, of its next piece, or of an idle connection."""
        answer = self._answer
        if answer is not None:
            problem = f"did not begin to answer in {answer.wait_s:g} s."
            if answer.status:
                problem = f"sent nothing for {answer.idle_s:g} s."
            self._fail(UpstreamTimeout(f"{answer.where} {problem}"))
        self.abort()

    def abort(self) -> None:
        """Closes it at once, whatever is under way."""
        self._answer = None
        self.deadline = math.inf
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.abort()  # nobody asked
            return
        answer.is_untouched = False
        reader = answer.reader
        try:
            reader.feed(data)
        except Garbage as problem:
            self._garbage(answer, problem)
            return
        held = answer.came()
        if reader.is_complete:
            self._finished(reader)
        elif reader.has_head:
            self.deadline = self.loop.time() + answer.idle_s
            if held > HELD_BYTES and not self._is_paused:
                assert self._transport is not None
                self._is_paused = True
                self.deadline = math.inf  # who reads is slow, not who writes
                self._transport.pause_reading()

    def eof_received(self) -> None:
        answer = self._answer
        if answer is not None and answer.reader.end():
            answer.came()
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.resume_writing()
        answer = self._answer
        if answer is not None:
            problem = "closed the connection without an answer."
            if answer.status:
                problem = "broke off in the middle of its answer."
            error = UpstreamLost(f"{answer.where} {problem}")
            error.__cause__ = exc
            self._fail(error)
        self._on_gone(self)

    def pause_writing(self) -> None:
        self._room = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def _finished(self, reader: Reader) -> None:
        """The answer is complete. The connection is free, unless something of the question is still on its way."""
        assert self._transport is not None
        self._answer = None
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if not reader.is_reusable or self._is_sending or self._transport.get_write_buffer_size():
            self.abort()
            return
        self.deadline = self.loop.time() + KEPT_IDLE_S
        self._on_free(self)

    def _garbage(self, answer: Answer, problem: Garbage) -> None:
        answer.came()  # what was good of it, however it was cut
        if answer.status:
            answer.fail(UpstreamLost(f"{answer.where} broke off in the middle of its answer ({problem})."))
        else:
            answer.fail(UpstreamError(f"{answer.where} gave an answer that is not HTTP ({problem})."))
        self.abort()

    def _fail(self, error: UpstreamError) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.fail(error)
