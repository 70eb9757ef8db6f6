"""The one way out: requests to upstreams over a pool of kept-alive connections.

Bytes go out and come in as they are: nothing is decoded, no header is added that the caller did not give, no redirect
is followed, no cookie kept, no proxy from the environment used. An answer that is closed before its end takes its
connection with it, so the upstream notices at once and stops working.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from gemmapy.core.errors import UpstreamError, UpstreamLost, UpstreamTimeout, UpstreamUnreachable

Headers = Sequence[tuple[str, str]]
MAX_HEADER_BYTES = 64 * 1024
_NOT_ADDED = (hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an upstream may take, in seconds."""

    connect_s: float = 5
    first_byte_s: float = 600
    """Until the head of the answer; an upstream may have to load a model first."""
    idle_s: float = 120
    """Between two pieces of an answer."""


class Answer:
    """An upstream's answer, its head read, its body still coming."""

    def __init__(self, response: aiohttp.ClientResponse, where: str, idle_s: float) -> None:
        self._response = response
        self._where = where
        self._idle_s = idle_s
        self.status = response.status
        self.headers: list[tuple[bytes, bytes]] = [(name.lower(), value) for name, value in response.raw_headers]

    def header(self, name: str) -> str | None:
        """The first value of a header, whatever its case."""
        return self._response.headers.get(name)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in the pieces it arrives in, never empty ones.

        Raises UpstreamTimeout where nothing comes for too long, UpstreamLost where the connection breaks off.
        """
        try:
            async for data in self._response.content.iter_any():
                if data:
                    yield data
        except TimeoutError as error:
            raise UpstreamTimeout(f"{self._where} sent nothing for {self._idle_s:g} s.") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamLost(f"{self._where} broke off in the middle of its answer.") from error

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises UpstreamError where it is longer than `limit` bytes."""
        pieces: list[bytes] = []
        size = 0
        async for data in self.chunks():
            pieces.append(data)
            size += len(data)
            if size > limit:
                raise UpstreamError(f"{self._where} answered with more than {limit} bytes.")
        return b"".join(pieces)

    def close(self) -> None:
        """Lets go. The connection is kept where the answer was read to its end, and cut where it was not."""
        self._response.close()


class Transport:
    """A pool of connections. Made inside a running event loop; closed by `close`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15, ttl_dns_cache=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_NOT_ADDED,
            trust_env=False,
            max_field_size=MAX_HEADER_BYTES,
            max_line_size=MAX_HEADER_BYTES,
            read_bufsize=256 * 1024,
            trace_configs=[trace],
        )

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

        A kept-alive connection that the upstream closed while it lay idle is replaced by another: the request never
        reached anybody. Raises UpstreamUnreachable, UpstreamTimeout, UpstreamLost or UpstreamError; `where` names the
        upstream in their messages, `first_byte_s` replaces the limit of the same name.
        """
        limits = self._limits
        wait_s = first_byte_s or limits.first_byte_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s, sock_read=wait_s)
        repeatable = body is None or isinstance(body, bytes)
        while True:
            connection = SimpleNamespace(reused=False)
            try:
                response = await self._session.request(
                    method,
                    URL(url, encoded=True),
                    headers=CIMultiDict(headers),
                    data=body,
                    allow_redirects=False,
                    timeout=timeout,
                    trace_request_ctx=connection,
                )
            except aiohttp.ConnectionTimeoutError as error:
                raise UpstreamUnreachable(f"{where} did not take the connection in {limits.connect_s:g} s.") from error
            except TimeoutError as error:
                raise UpstreamTimeout(f"{where} did not begin to answer in {wait_s:g} s.") from error
            except aiohttp.ClientConnectorError as error:
                raise UpstreamUnreachable(f"{where} cannot be reached: {error.strerror or error}.") from error
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as error:
                if connection.reused and repeatable:
                    continue
                raise UpstreamLost(f"{where} closed the connection without an answer.") from error
            except (aiohttp.ClientError, ValueError) as error:
                raise UpstreamError(f"{where} gave an answer that is not HTTP ({type(error).__name__}).") from error
            _shorten_wait(response, limits.idle_s)
            return Answer(response, where, limits.idle_s)

    async def close(self) -> None:
        """Closes every connection."""
        await self._session.close()


async def _note_reuse(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True


def _shorten_wait(response: aiohttp.ClientResponse, idle_s: float) -> None:
    """From the head on, the limit between two pieces holds in place of the longer one before the first."""
    protocol = response.connection.protocol if response.connection is not None else None
    if protocol is not None:
        protocol.read_timeout = idle_s
        protocol.start_timeout()
