"""Answers that are whole when they begin, sent without FastAPI."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope, Send

from gemmapy.api.shapes import error_body, error_headers
from gemmapy.core.errors import GemmaPyError


async def send_whole(
    scope: Scope, send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], data: bytes | None
) -> None:
    """Sends an answer and how long it is; None: it has no body, as a 304. HEAD gets what is before the body."""
    length = [] if data is None else [(b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else data or b""})


async def send_error(scope: Scope, send: Send, error: GemmaPyError, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Sends an error in the shape that the path's clients expect, with `headers` beside its own."""
    body = error_body(scope["path"], error)
    await send_whole(scope, send, error.status, [*error_headers(error), *headers], body)
