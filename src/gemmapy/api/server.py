"""uvicorn, and what it lacks against silent and endless connections: limits of time and of size.

A request's head, and whatever else is no body (chunk extensions, trailers), has at most `MAX_HEAD_BYTES`; trailers are
never taken for headers.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gemmapy.api.direct import DIRECT, Direct
from gemmapy.core.delay import Delay
from gemmapy.core.errors import ConfigurationError
from gemmapy.core.outbox import Outbox

MAX_HEAD_BYTES = 64 * 1024
KEEP_ALIVE_S = 75
"""So long a connection may do nothing between two requests."""


def protocol(client_timeout_s: float, max_connections: int) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with the operator's limits.

    A connection that has sent no complete head, or takes nothing of what it is sent, for `client_timeout_s` is closed.
    Where `max_connections` are open, the one that has been silent longest makes room for a new one, so that silent ones
    cannot keep others out; the new one is turned away where all are at work.
    """
    open_now: set[HttpToolsProtocol] = set()
    silent: dict[HttpToolsProtocol, None] = {}
    """Those without a complete head, the oldest first."""
    idle = Delay(KEEP_ALIVE_S)
    outbox_of = cache(Outbox)

    class Bounded(HttpToolsProtocol):
        _silence: asyncio.TimerHandle | None = None
        _stall: asyncio.TimerHandle | None = None
        _is_in_head = False
        _leaving: Callable[[], None] | None = None
        _unused_bytes = 0
        """Have come since the last head or piece of a body was complete."""
        _plain_head = b""

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            self.outbox = outbox_of(self.loop)

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(open_now) >= max_connections:
                unlucky = next(iter(silent), self)
                unlucky.transport.abort()
                open_now.discard(unlucky)
                silent.pop(unlucky, None)
                if unlucky is self:
                    return
            open_now.add(self)
            self._fall_silent()

        def connection_lost(self, exc: Exception | None) -> None:
            open_now.discard(self)
            self._speak()
            self._stall = _cancelled(self._stall)
            super().connection_lost(exc)
            if self._leaving is not None:
                self._leaving()

        def data_received(self, data: bytes) -> None:
            self._unset_keepalive_if_required()
            self._unused_bytes += len(data)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Nothing else is spoken here, so the request means what it means without the offer (RFC 9110, 7.8). The
                # parser has let go of its body, and would take it for the next request.
                self.parser = httptools.HttpRequestParser(self)
                self.data_received(self._plain_head + data[upgrade.args[0] :])
                return
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            if self._is_in_head and self._silence is None:  # a later request of a kept-alive connection
                self._fall_silent()
            if self._unused_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(_TOO_LARGE)

        def on_message_begin(self) -> None:
            self._is_in_head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            if self.parser.should_upgrade():
                self._plain_head = _without_upgrade(self.parser, self.url, self.headers)
                return
            self._speak()
            if self._unused_bytes > MAX_HEAD_BYTES and _size(self.url, self.headers) > MAX_HEAD_BYTES:
                raise ValueError(_TOO_LARGE)  # which the parser makes an error of the request
            self._unused_bytes = 0
            super().on_headers_complete()
            self.scope[DIRECT] = Direct(self, self.cycle)  # pyright: ignore[reportGeneralTypeIssues]
            # What comes from here on is a trailer. It must not become a header of a request that is being answered.
            self.headers = deque(maxlen=0)  # pyright: ignore[reportAttributeAccessIssue]

        def on_body(self, body: bytes) -> None:
            self._unused_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            if not self.parser.should_upgrade():
                super().on_message_complete()

        def on_response_complete(self) -> None:
            # As uvicorn's own, but for the timer: one for all idle connections.
            self.server_state.total_requests += 1
            if self.transport.is_closing():
                return
            self._unset_keepalive_if_required()
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                waiting: Any = idle.after(self.timeout_keep_alive_handler)
                self.timeout_keep_alive_task = waiting

        def send_400_response(self, msg: str) -> None:
            self.outbox.flush()
            super().send_400_response(msg)

        def shutdown(self) -> None:
            self.outbox.flush()  # an answer that is complete and not yet written
            super().shutdown()

        def pause_writing(self) -> None:
            super().pause_writing()
            _cancelled(self._stall)
            self._stall = self.loop.call_later(client_timeout_s, self._give_up)

        def resume_writing(self) -> None:
            self._stall = _cancelled(self._stall)
            super().resume_writing()

        def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
            self._leaving = on_leave
            if self.transport.is_closing():  # it went before anybody watched
                self.loop.call_soon(on_leave)
            return self._unwatch

        def _unwatch(self) -> None:
            self._leaving = None

        def _fall_silent(self) -> None:
            silent[self] = None
            self._silence = self.loop.call_later(client_timeout_s, self._give_up)

        def _speak(self) -> None:
            if self._silence is not None:
                silent.pop(self, None)
                self._silence = _cancelled(self._silence)

        def _give_up(self) -> None:
            self.transport.abort()  # also one that is closing: that waits for a reader who takes nothing

    return Bounded


_OFFERS = (b"upgrade", b"http2-settings")
_TOO_LARGE = f"A request's head may have at most {MAX_HEAD_BYTES} bytes."


def _without_upgrade(parser: Any, url: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A request's head as it would be had its client offered no other protocol."""
    lines = [parser.get_method() + b" " + url + b" HTTP/" + parser.get_http_version().encode()]
    for name, value in headers:
        if name == b"connection":
            tokens = [
                token for token in value.split(b",") if token.strip().lower() not in (b"upgrade", b"http2-settings")
            ]
            value = b",".join(tokens)
        if name not in _OFFERS and (value or name != b"connection"):
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: `serving.py` decides when it ends."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError that says what to do where the port is taken."""
    return _listen(host, port, is_shared=False)


def listen_together(host: str, port: int, count: int) -> list[socket.socket]:
    """So many sockets that listen on one port, among which the kernel spreads the connections by their addresses.

    Raises ConfigurationError where anybody else has the port.
    """
    alone = listen(host, port)  # which, unlike the others, finds out whether another gateway shares the port
    port = alone.getsockname()[1]
    alone.close()
    return [_listen(host, port, is_shared=True) for _ in range(count)]


def _listen(host: str, port: int, *, is_shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, since asyncio turns TCP's delays off only where it is.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"{host}:{port} cannot be listened on: {error.strerror}.",
            hint="Another program has the port, or another gateway runs; end it or give another with --port.",
        ) from error
    except OverflowError as error:
        listening.close()
        raise ConfigurationError(f"{port} is not a port.") from error
    listening.listen(4096)
    listening.setblocking(False)
    return listening


def raise_file_limit(wanted: int) -> int:
    """Lets the process have as many open files as it may, up to `wanted`; returns how many it may have now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
