"""A metered request and its answer on uvicorn's own connection, past ASGI.

ASGI has a message for an answer's head and one for each piece, and each becomes a write of its own; it can be asked
whether the client has left only by a task that waits. Here a head goes out with the first bytes that follow it, a body
that is there is taken without waiting, and who leaves is heard of at once. What uvicorn knows of the exchange (its
`cycle`) is kept up to date, so that keep-alive, pipelined requests and the shutdown stay its own affair.

Made by `server.py` for each request, used by `proxy.py`. Names what it uses of uvicorn's cycle; its version is pinned.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gemmapy.core.outbox import Outbox
from gemmapy.gateway.reply import RawHeaders
from gemmapy.upstreams.http1 import LINES

DIRECT = "gemmapy.direct"
"""Where it is in the ASGI scope."""
_LINES = re.compile(LINES.encode())
_BODILESS = (204, 304)


class Connection(Protocol):
    """What is asked of a client's connection beside its `cycle`."""

    outbox: Outbox

    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
        """Has `on_leave` called when the connection goes; what is returned ends that."""
        ...


class Direct:
    """Of one request."""

    __slots__ = ("_cycle", "_head", "_is_chunked", "_outbox", "watch")

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self.watch = connection.watch
        self._outbox = connection.outbox
        self._cycle = cycle
        self._head: bytes | None = None
        """What goes out before the next bytes."""
        self._is_chunked = False

    def is_next(self, send: Send) -> bool:
        """Whether ASGI's `send` leads straight to this connection, so that nothing is passed over."""
        return getattr(send, "__self__", None) is self._cycle

    def body(self) -> bytes | None:
        """The request's body, where all of it is there; None where it has to be waited for."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected or cycle.response_complete:
            return None
        cycle.waiting_for_100_continue = False
        cycle.flow.resume_reading()
        body = bytes(cycle.body)
        cycle.body = bytearray()
        cycle.message_event.clear()
        return body

    def start(self, status: int, headers: RawHeaders) -> None:
        """The head of the answer. It goes out with what is sent next. Raises ValueError for what no header may hold."""
        cycle = self._cycle
        is_closing = has_length = False
        lines: list[bytes] = []
        for name, value in headers:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                has_length = True
            elif name == b"connection" and value.lower() == b"close":
                is_closing = True
        block = b"".join(lines)
        if block.count(b"\n") != len(lines) or _LINES.fullmatch(block) is None:
            raise ValueError("a header of an answer holds a character that no header may hold")
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        if is_closing:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            block += b"connection: close\r\n"
        if not has_length and status not in _BODILESS:
            self._is_chunked = True
            block += b"transfer-encoding: chunked\r\n"
        default = b"".join([b"%b: %b\r\n" % pair for pair in cycle.default_headers])
        self._head = STATUS_LINE[status] + default + block + b"\r\n"

    async def send(self, data: bytes) -> None:
        """A piece of the body, no faster than the client takes it."""
        if data:
            await self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    async def end(self, data: bytes = b"") -> None:
        """The last piece. Of a body whose length was said it is for the caller to keep to it."""
        if self._is_chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        await self._write(data)
        cycle = self._cycle
        if cycle.disconnected:
            return
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._outbox.flush()
            cycle.transport.close()
        cycle.on_response()

    async def _write(self, data: bytes) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        self._outbox.write(cycle.transport, data)
