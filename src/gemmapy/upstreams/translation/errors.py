"""Errors in either dialect, whole and as a frame of a stream."""

from __future__ import annotations

from typing import Any

import msgspec

from gemmapy.core.foreign import UNREADABLE

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def ollama_error(message: str) -> bytes:
    """`{"error": message}`."""
    return msgspec.json.encode({"error": message})


def ollama_stream_error(message: str) -> bytes:
    """The same as a line."""
    return ollama_error(message) + b"\n"


def openai_error(message: str, *, status: int, code: str | None = None) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, the type by the status."""
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def openai_stream_error(message: str, *, status: int, code: str | None = None) -> bytes:
    """The same as an event."""
    return b"data: " + openai_error(message, status=status, code=code) + b"\n\n"


def message_of(body: bytes) -> str | None:
    """What an error's body says, in any of the shapes that servers use; None where it says nothing readable."""
    try:
        said: Any = msgspec.json.decode(body)
    except UNREADABLE:
        return body.decode("utf-8", "replace").strip()[:500] or None
    return text_of(said)


def text_of(said: Any) -> str | None:
    """The message in an error object, a text, or an object that holds either."""
    if isinstance(said, str):
        return said or None
    if isinstance(said, dict):
        for name in ("error", "message", "detail"):
            found = text_of(said.get(name))  # pyright: ignore[reportUnknownMemberType]
            if found is not None:
                return found
    return None
