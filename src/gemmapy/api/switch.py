"""The door: metered paths go straight to the proxy, the page's files to `pages.py`, probes to `health.py`, everything
else to FastAPI.

Also what holds for both: the base path of a proxy in front, credentials in the path (`/k/<key>/...`, for clients that
can set only a URL), the two faces of `/`, bodies that are neither endless nor endlessly slow, and headers that keep
browsers from storing or running what is private.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gemmapy.api.credential import CREDENTIAL
from gemmapy.api.health import ALIVE, READY, Probes
from gemmapy.api.pages import PREFIX, Pages, joined, wants_page
from gemmapy.api.proxy import Pace, Proxy
from gemmapy.api.sending import send_whole
from gemmapy.core.errors import GemmaPyError, InvalidRequest, PayloadTooLarge
from gemmapy.gateway.asked import ENDPOINTS
from gemmapy.gateway.door import Door, Visit

SMALL_BODY_BYTES = 4 * 1024 * 1024
UPLOADS = "/api/rag/documents"
"""Where documents come in, which may be larger; `rag.py` says how large."""
_KEY_PREFIX = "/k/"
_PRIVATE = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
]
OLLAMA_GREETING = b"Ollama is running"


class Switch:
    """The ASGI application that uvicorn serves."""

    def __init__(
        self,
        proxy: Proxy,
        api: ASGIApp,
        pages: Pages,
        probes: Probes,
        door: Door,
        *,
        base_path: str,
        client_timeout_s: float,
    ) -> None:
        self._proxy = proxy
        self._door = door
        self._pages = pages
        self._probes = probes
        self._api = api
        self._base_path = base_path
        self._client_timeout_s = client_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        path: str = scope["path"]
        if self._base_path and (path == self._base_path or path.startswith(self._base_path + "/")):
            path = path[len(self._base_path) :] or "/"
            scope["path"] = path
        if path.startswith(_KEY_PREFIX):
            key, slash, rest = path[len(_KEY_PREFIX) :].partition("/")
            path = slash + rest or "/"
            # The key leaves the path here, before anything can log it.
            scope = {**scope, "path": path, "raw_path": path.encode(), CREDENTIAL: key}
        if path in ENDPOINTS and scope["method"] != "OPTIONS":
            await self._proxy(scope, receive, send)
            return
        if path == "/" and scope["method"] in ("GET", "HEAD") and not wants_page(joined(scope, b"accept")):
            await _greet(scope, send)
        elif path in ("/", "/docs") or path.startswith(PREFIX):
            await self._pages(scope, send)
        elif path in (ALIVE, READY):
            await self._probes(scope, _private(send))
        elif path.startswith("/api/blobs/"):  # these go on as they come
            await self._api(scope, self._patient(receive, None, None), _private(send))
        else:
            # Documents have a limit of their own, which is told and not just enforced.
            limit = None if path == UPLOADS and scope["method"] == "POST" else SMALL_BODY_BYTES
            visit = self._door.visitor()
            try:
                await self._api(scope, self._patient(receive, limit, visit), _private(send))
            finally:
                visit.leave()

    def _patient(self, receive: Receive, limit: int | None, visit: Visit | None) -> Receive:
        """`receive` for a body of bounded length and pace, for which there is memory. Past any of these it raises what
        FastAPI makes an answer of."""
        size = 0
        complete = False
        pace: Pace | None = None

        async def bounded() -> Message:
            nonlocal size, complete, pace
            if complete:
                return await receive()
            try:
                pace = pace or Pace(self._client_timeout_s)
                async with asyncio.timeout(pace.left_s(size)):
                    message = await receive()
            except TimeoutError:
                slow = InvalidRequest("The request body came too slowly.", hint="Send it faster.")
                slow.status, slow.code = 408, "request_timeout"
                raise _told(slow)  # noqa: B904 - as below
            size += len(message.get("body", b""))
            if limit is not None and size > limit:
                raise _told(PayloadTooLarge(f"The request body may have at most {limit} bytes."))
            if visit is not None:
                try:
                    visit.carry(size)
                except GemmaPyError as error:  # counted by the door
                    raise _told(error)  # noqa: B904 - it is its cause
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        return bounded


def _told(error: GemmaPyError) -> HTTPException:
    """An error as FastAPI lets it pass while it reads a body; of any other it makes a 400 of its own."""
    passed = HTTPException(error.status, error.message)
    passed.__cause__ = error
    return passed


def _private(send: Send) -> Send:
    """`send` for answers that are somebody's own: no cache keeps them, no browser takes them for a page."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            named = {name.lower() for name, _ in message["headers"]}
            added = [(name, value) for name, value in _PRIVATE if name not in named]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return guarded


async def _greet(scope: Scope, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"vary", b"Accept")]
    await send_whole(scope, send, 200, headers, OLLAMA_GREETING)
