"""The metered paths over ASGI: bytes in, bytes out, errors in the client's dialect.

Called by the switch, past FastAPI: nothing here validates, copies or decodes more than it must.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from starlette.types import Message, Receive, Scope, Send

from gemmapy.api.credential import presented
from gemmapy.api.direct import DIRECT, Direct
from gemmapy.api.shapes import error_body, error_frame, error_headers, unexpected
from gemmapy.core.errors import GemmaPyError, InvalidRequest, MethodNotAllowed, PayloadTooLarge
from gemmapy.core.ids import id_text
from gemmapy.gateway.asked import ENDPOINTS, Envelope
from gemmapy.gateway.door import Visit
from gemmapy.gateway.handle import Gateway, RawHeaders

SLOWEST_BYTES_PER_S = 1024
_log = structlog.stdlib.get_logger()


class _Reply:
    """What both ways have in common: the ids of its request in an answer's head."""

    def __init__(self) -> None:
        self._own: RawHeaders = []
        """What the gateway has to say in every answer's head."""
        self.started = False
        self.status = 0
        self.has_body = False
        """Whether the request's body was read to its end."""

    def identify(self, request_id: bytes, client_request_id: str | None) -> None:
        self._own = [(b"x-request-id", id_text(request_id).encode())]
        if client_request_id is not None:
            self._own.append((b"x-client-request-id", client_request_id.encode("latin-1", "replace")))

    def note(self, headers: RawHeaders) -> None:
        self._own += headers


class DirectReply(_Reply):
    """An answer over the gateway's own server."""

    def __init__(self, direct: Direct) -> None:
        super().__init__()
        self._direct = direct
        self.send = direct.send
        self.end = direct.end
        self.watch = direct.watch

    async def start(self, status: int, headers: RawHeaders) -> None:
        self._direct.start(status, [*headers, *self._own])
        self.started, self.status = True, status

    async def is_whole(self) -> bool:
        """Whether the request's body is there to its end, read or not. For an answer that needs none of it."""
        self.has_body = self.has_body or self._direct.body() is not None
        return self.has_body


class AsgiReply(_Reply):
    """An answer over ASGI alone: under another server than the gateway's, or where something between sees answers."""

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__()
        self._receive = receive
        self._send = send

    async def is_whole(self) -> bool:
        """As `DirectReply.is_whole`."""
        if not self.has_body:
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    message = await self._receive()
                    self.has_body = message["type"] == "http.request" and not message.get("more_body", False)
        return self.has_body

    async def start(self, status: int, headers: RawHeaders) -> None:
        self.started, self.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._own]})

    async def send(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
        return asyncio.create_task(self._wait(on_leave)).cancel

    async def _wait(self, on_leave: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        on_leave()


class Proxy:
    """An ASGI application for `ENDPOINTS`."""

    def __init__(self, gateway: Gateway, client_timeout_s: float) -> None:
        self._gateway = gateway
        self._client_timeout_s = client_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        direct: Direct | None = scope.get(DIRECT)
        if direct is not None and (not direct.is_next(send) or scope["method"] != "POST"):
            direct = None  # something between adds to answers, as CORS does; or HEAD, whose answers have no body
        reply = AsgiReply(receive, send) if direct is None else DirectReply(direct)
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(f"{path} takes POST, not {scope['method']}.")
            envelope = Envelope(
                endpoint=ENDPOINTS[path],
                headers=scope["headers"],
                started_at=self._gateway.clock.now(),
                started_ns=self._gateway.clock.monotonic_ns(),
            )
            credential = presented(scope, self._gateway.auth)

            async def body(visit: Visit) -> bytes:
                limit = self._gateway.max_body_bytes
                whole = None if direct is None else direct.body()
                if whole is None:
                    whole = await read_body(envelope, receive, limit, self._client_timeout_s, visit)
                elif len(whole) > limit:
                    raise _too_large(limit)
                else:
                    visit.carry(len(whole))
                reply.has_body = True
                return whole

            await self._gateway.handle(envelope, credential, body, reply)
        except ClientLeft:
            return
        except GemmaPyError as error:
            await _tell(path, error, reply)
        except Exception as error:  # noqa: BLE001 - told in the client's dialect, logged whole
            _log.exception("a request failed unexpectedly", path=path)
            await _tell(path, unexpected(error), reply)


class ClientLeft(Exception):
    """The client was gone before its request was whole; there is nobody to tell."""


async def read_body(envelope: Envelope, receive: Receive, limit: int, timeout_s: float, visit: Visit) -> bytes:
    """A request's whole body. Raises PayloadTooLarge, InvalidRequest where it stalls or trickles, ClientLeft, and what
    `Visit.carry` does."""
    announced = envelope.header(b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    pieces: list[bytes] = []
    size = 0
    pace = Pace(timeout_s)
    while True:
        try:
            async with asyncio.timeout(pace.left_s(size)):
                message: Message = await receive()
        except TimeoutError:
            slow = InvalidRequest(
                f"The request body did not go on for {timeout_s:g} s, or by less than {SLOWEST_BYTES_PER_S} bytes a"
                " second.",
                hint="Send it faster.",
            )
            slow.status, slow.code = 408, "request_timeout"
            raise slow from None
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        visit.carry(size)
        if not message.get("more_body", False):
            return b"".join([*pieces, piece]) if pieces else piece
        pieces.append(piece)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body may have at most {limit} bytes.")


class Pace:
    """How long a sender may take to go on: `timeout_s` at most, and in all no longer than the slowest pace allows, or
    one byte now and then would keep a connection for ever."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._now_s = asyncio.get_running_loop().time
        self._began_s = self._now_s()

    def left_s(self, size: int) -> float:
        """For the next piece, where `size` bytes have come."""
        due_s = self._began_s + self._timeout_s + size / SLOWEST_BYTES_PER_S
        return max(0.0, min(self._timeout_s, due_s - self._now_s()))


async def _tell(path: str, error: GemmaPyError, reply: DirectReply | AsgiReply) -> None:
    if reply.started:
        await reply.end(error_frame(path, error))
        return
    body = error_body(path, error)
    headers: list[Any] = [*error_headers(error), (b"content-length", str(len(body)).encode())]
    if error.status in (408, 413) or not await reply.is_whole():
        headers.append((b"connection", b"close"))  # the rest of the body is still on its way, perhaps for ever
    await reply.start(error.status, headers)
    await reply.end(body)
