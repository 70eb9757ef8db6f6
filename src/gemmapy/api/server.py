"""uvicorn, and what it lacks against silent connections: a time limit for a request's head and for a stalled reader."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gemmapy.core.errors import ConfigurationError

WATCH = "gemmapy.watch"
"""In the ASGI scope: takes what is to be called if the client's connection goes, and returns what ends that. A task
that waits for `http.disconnect` would say the same, and cost every request a task."""


def protocol(client_timeout_s: float, max_connections: int) -> type[HttpToolsProtocol]:
    """uvicorn's protocol with the operator's limits.

    A connection that has sent no complete head, or takes nothing of what it is sent, for `client_timeout_s` is closed.
    Where `max_connections` are open, the one that has been silent longest makes room for a new one, so that silent ones
    cannot keep others out; the new one is turned away where all are at work.
    """
    open_now: set[HttpToolsProtocol] = set()
    silent: dict[HttpToolsProtocol, None] = {}
    """Those without a complete head, the oldest first."""

    class Bounded(HttpToolsProtocol):
        _silence: asyncio.TimerHandle | None = None
        _stall: asyncio.TimerHandle | None = None
        _is_in_head = False
        _leaving: Callable[[], None] | None = None

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
            super().data_received(data)
            if self._is_in_head and self._silence is None:  # a later request of a kept-alive connection
                self._fall_silent()

        def on_message_begin(self) -> None:
            self._is_in_head = True
            super().on_message_begin()
            self.scope[WATCH] = self._watch  # pyright: ignore[reportGeneralTypeIssues]

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._speak()
            super().on_headers_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            _cancelled(self._stall)
            self._stall = self.loop.call_later(client_timeout_s, self._give_up)

        def resume_writing(self) -> None:
            self._stall = _cancelled(self._stall)
            super().resume_writing()

        def _watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
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
            if not self.transport.is_closing():
                self.transport.abort()

    return Bounded


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: `app.py` decides when it ends."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError that says what to do where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, since asyncio turns TCP's delays off only where it is.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
