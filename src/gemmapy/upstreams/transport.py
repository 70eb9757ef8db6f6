"""The one way out: requests to upstreams over a pool of kept-alive connections.

Bytes go out and come in as they are: nothing is decoded, no header is added that the caller did not give, no redirect
is followed, no cookie kept, no proxy from the environment used. An answer that is closed before its end takes its
connection with it, so the upstream notices at once and stops working. What is on the wire is `http1.py`, what happens
on one connection `connection.py`; here is which connection, how long it may take, and what is tried again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType]

from gemmapy.core.errors import InvalidRequest, UpstreamLost, UpstreamUnreachable
from gemmapy.core.outbox import Outbox
from gemmapy.upstreams import http1
from gemmapy.upstreams.connection import Answer, Connection

__all__ = ["Answer", "Headers", "Limits", "Transport"]
Headers = Sequence[tuple[str, str]]
Address = tuple[int, int, int, str, tuple[Any, ...]]
"""As `getaddrinfo` has it: family, type, protocol, canonical name and the socket's address."""
MAX_KEPT = 512
"""Idle connections to one server; the one that was idle longest goes first."""
ADDRESSES_KEPT_S = 30
OTHER_FAMILY_S = 0.25
"""After so long the next address is tried as well, so that a dead IPv6 does not hold up a living IPv4 (RFC 8305)."""
LONGEST_TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an upstream may take, in seconds."""

    connect_s: float = 5
    first_byte_s: float = 600
    """Until the head of the answer; an upstream may have to load a model first."""
    idle_s: float = 120
    """Between two pieces of an answer."""


class Origin(NamedTuple):
    """A server."""

    is_tls: bool
    host: str
    port: int


class Transport:
    """A pool of connections. Made inside a running event loop; closed by `close`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._loop)
        self._idle: defaultdict[Origin, dict[Connection, None]] = defaultdict(dict)
        """Connections that wait for a question, those that have waited longest first."""
        self._open: set[Connection] = set()
        self._addresses: dict[Origin, tuple[float, list[Address]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._tick_s = min(LONGEST_TICK_S, limits.first_byte_s / 10, limits.idle_s / 10)

    async def send(
        self,
        method: str,
        url: str,
        headers: Headers = (),
        body: bytes | AsyncIterable[bytes] | None = None,
        *,
        where: str = "The model server",
        first_byte_s: float | None = None,
    ) -> Answer:
        """Sends a request and returns once the head of its answer is there.

        A kept-alive connection that the upstream closed while it lay idle is replaced by a new one: the request never
        reached anybody. Raises UpstreamUnreachable, UpstreamTimeout, UpstreamLost or UpstreamError, and InvalidRequest
        for what cannot be sent; `where` names the upstream in their messages, `first_byte_s` replaces the limit of the
        same name.
        """
        origin, host, target = _split(url)
        headers, length = _framing(method, headers, body)
        try:
            head = http1.head(method, host, target, headers, length)
        except ValueError as error:
            raise InvalidRequest(f"The request cannot be passed on: {error}.") from None
        wait_s = first_byte_s or self._limits.first_byte_s
        connection = None
        if body is None or isinstance(body, bytes):
            connection = self._kept(origin)
        while True:
            is_kept = connection is not None
            if connection is None:
                connection = await self._connect(origin, where)
            answer = Answer(connection, where, wait_s, self._limits.idle_s, is_head=method == "HEAD")
            try:
                if body is None or isinstance(body, bytes):
                    connection.begin(answer, head, body)
                    await answer.head
                else:
                    assert length is not None
                    await _upload(connection, answer, head, body, length)
            except UpstreamLost:
                connection.abort()
                if not is_kept or not answer.is_untouched:
                    raise
                connection = None
                continue
            except BaseException:
                connection.abort()
                raise
            return answer

    async def close(self) -> None:
        """Closes every connection."""
        if self._clock is not None:
            self._clock.cancel()
        for connection in tuple(self._open):
            connection.abort()
        await asyncio.sleep(0)  # the event loop closes their sockets in its next round

    def _kept(self, origin: Origin) -> Connection | None:
        """The idle connection that was used last."""
        idle = self._idle.get(origin)
        return idle.popitem()[0] if idle else None

    async def _connect(self, origin: Origin, where: str) -> Connection:
        limit_s = self._limits.connect_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._dial(origin)
        except TimeoutError as error:
            raise UpstreamUnreachable(f"{where} did not take the connection in {limit_s:g} s.") from error
        except OSError as error:
            self._addresses.pop(origin, None)
            raise UpstreamUnreachable(f"{where} cannot be reached: {error.strerror or error}.") from error
        except UnicodeError as error:
            raise UpstreamUnreachable(f"{where} cannot be reached: its host is not a name.") from error

    async def _dial(self, origin: Origin) -> Connection:
        addresses = await self._resolve(origin)
        sock = await start_connection(addresses, happy_eyeballs_delay=OTHER_FAMILY_S, interleave=1)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            secure: dict[str, Any] = {}
            if origin.is_tls:
                self._tls = self._tls or _verifying()
                secure = {"ssl": self._tls, "server_hostname": origin.host}
            idle = self._idle[origin]

            def free(connection: Connection) -> None:
                idle[connection] = None
                if len(idle) > MAX_KEPT:
                    next(iter(idle)).abort()

            def gone(connection: Connection) -> None:
                idle.pop(connection, None)
                self._open.discard(connection)

            made = Connection(self._loop, self._outbox, free, gone)
            await self._loop.create_connection(lambda: made, sock=sock, **secure)
        except BaseException:
            sock.close()
            raise
        self._open.add(made)
        if self._clock is None:
            self._clock = self._loop.call_later(self._tick_s, self._look)
        return made

    async def _resolve(self, origin: Origin) -> list[Address]:
        """A server's addresses, asked for again after a while."""
        known = self._addresses.get(origin)
        if known is not None and known[0] > self._loop.time():
            return known[1]
        try:
            version = ipaddress.ip_address(origin.host).version
        except ValueError:
            found: list[Address] = list(await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM))
        else:
            family = socket.AF_INET6 if version == 6 else socket.AF_INET
            place = (origin.host, origin.port, 0, 0) if version == 6 else (origin.host, origin.port)
            found = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)]
        self._addresses[origin] = (self._loop.time() + ADDRESSES_KEPT_S, found)
        return found

    def _look(self) -> None:
        """Ends what has taken too long. One clock for all: a timer for each request would cost more than looking."""
        now = self._loop.time()
        for connection in [one for one in self._open if one.deadline <= now]:
            connection.expire()
        self._clock = self._loop.call_later(self._tick_s, self._look) if self._open else None


async def _upload(
    connection: Connection, answer: Answer, head: bytes, body: AsyncIterable[bytes], length: int | Literal["chunked"]
) -> None:
    """Sends a question as it comes, and returns once the head of its answer is there."""
    connection.begin(answer, head, None)
    upload = asyncio.create_task(connection.upload(body, length))
    try:
        await asyncio.wait({upload, answer.head}, return_when=asyncio.FIRST_COMPLETED)
        if upload.done() and not answer.head.done():
            upload.result()  # raises what the body did
        await answer.head
    finally:
        upload.cancel()  # an answer that came before the end of the question: nobody waits for the rest
        await asyncio.gather(upload, return_exceptions=True)


@lru_cache(maxsize=512)
def _split(url: str) -> tuple[Origin, str, str]:
    """An address as its server, the `Host` header and what is asked for there."""
    if " " in url or not url.isprintable():
        raise InvalidRequest("The address holds a character that no address may hold.")
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    name = parts.hostname or ""
    try:
        name = name if name.isascii() else name.encode("idna").decode()
        port = parts.port or (443 if is_tls else 80)
    except ValueError as error:
        raise UpstreamUnreachable(f"An upstream's address cannot be read: {error}.") from None
    host = f"[{name}]" if ":" in name else name
    if parts.port is not None:
        host = f"{host}:{parts.port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(is_tls, name, port), host, target


def _framing(
    method: str, headers: Headers, body: bytes | AsyncIterable[bytes] | None
) -> tuple[Headers, int | Literal["chunked"] | None]:
    """The headers without a length of their own, and how long the body is: a stream may announce its length."""
    if body is None:
        return headers, 0 if method in ("POST", "PUT", "PATCH") else None
    if isinstance(body, bytes):
        return headers, len(body)
    announced = {value for name, value in headers if name.lower() == "content-length"}
    rest = [(name, value) for name, value in headers if name.lower() != "content-length"]
    if not announced:
        return rest, "chunked"
    length = announced.pop()
    if announced or not (length.isascii() and length.isdigit()):
        raise InvalidRequest("Content-Length must be one whole number.")
    return rest, int(length)


def _verifying() -> ssl.SSLContext:
    """TLS as the system trusts it: certificates and names are checked."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
