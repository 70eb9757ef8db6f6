"""Errors in the shape of the API that was called, whole or as a frame of a stream."""

from __future__ import annotations

import msgspec

from gemmapy.core.errors import GemmaPyError
from gemmapy.gateway.asked import ENDPOINTS
from gemmapy.upstreams.translation import ollama_error, ollama_stream_error, openai_error, openai_stream_error

_OLLAMA_NAMES = "generate chat embed embeddings tags show ps version pull push create copy delete"
_OLLAMA_PATHS = frozenset(f"/api/{name}" for name in _OLLAMA_NAMES.split()) | {"/"}
INTERNAL = "The gateway failed in a way that it should not."


def is_ollamas(path: str) -> bool:
    """Whether a path is of Ollama's own API, so that its errors have Ollama's shape."""
    return path in _OLLAMA_PATHS or path.startswith("/api/blobs/")


def error_body(path: str, error: GemmaPyError) -> bytes:
    """The JSON body that a client of `path` expects of an error."""
    if path.startswith("/v1/"):
        return openai_error(error.message, status=error.status, code=error.code)
    if is_ollamas(path):
        return ollama_error(error.message)
    return msgspec.json.encode({"error": error.message, "code": error.code, "hint": error.hint})


def error_frame(path: str, error: GemmaPyError) -> bytes:
    """The frame that tells of an error in the middle of a stream."""
    if path.startswith("/v1/"):
        return openai_stream_error(error.message, status=error.status, code=error.code)
    endpoint = ENDPOINTS.get(path)
    if endpoint is not None and endpoint.is_contract:
        return msgspec.json.encode({"error": error.message, "code": error.code, "hint": error.hint}) + b"\n"
    return ollama_stream_error(error.message)


def error_headers(error: GemmaPyError) -> list[tuple[bytes, bytes]]:
    """What goes with an error's status."""
    headers = [(b"content-type", b"application/json"), *error.headers]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def unexpected(error: Exception) -> GemmaPyError:
    """What a client is told of an error that nobody foresaw: nothing of its inside."""
    known = GemmaPyError(INTERNAL)
    known.__cause__ = error
    return known
