"""What both translations work with: the request's circumstances, and how JSON is read and refused."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from gemmapy.core.errors import InvalidRequest, UpstreamError
from gemmapy.core.foreign import UNREADABLE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Context:
    """The circumstances of one request."""

    path: str
    now: Callable[[], datetime]
    clock_ns: Callable[[], int]
    started_ns: int
    request_id: str
    """32 hexadecimal digits, of which the ids in answers are made."""
    stream: bool

    def timestamp(self) -> str:
        """Now, as Ollama writes it (RFC 3339)."""
        return self.now().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def elapsed_ns(self) -> int:
        return max(0, self.clock_ns() - self.started_ns)


def read_request(body: bytes, kind: type[T]) -> T:
    """Decodes a client's body. Raises InvalidRequest that names the field and its type."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request body is not valid: {error}.") from None
    except UNREADABLE as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None


def read_answer(body: bytes, kind: type[T]) -> T:
    """Decodes what an upstream said. Raises UpstreamError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise UpstreamError(f"The model server sent something that is not an answer: {error}.") from None


def read_arguments(text: str) -> dict[str, Any]:
    """A tool call's arguments, which OpenAI writes as JSON in a text. Raises UpstreamError where they are not."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except UNREADABLE:
        raise UpstreamError("The model server sent a tool call whose arguments are not a JSON object.") from None


_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


def data_url(image: str) -> str:
    """A base64 image as a `data:` URL, its type read from its first bytes. Raises InvalidRequest for bad base64."""
    try:
        head = base64.b64decode(image[:64], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("images must be base64-encoded.") from None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return f"data:image/webp;base64,{image}"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return f"data:{kind};base64,{image}"
    return f"data:image/png;base64,{image}"


def base64_of(url: str) -> str:
    """The base64 of a `data:` URL. Raises InvalidRequest for an address that would have to be fetched."""
    scheme, comma, data = url.partition(",")
    if not scheme.startswith("data:") or not comma or not scheme.endswith(";base64"):
        raise InvalidRequest(
            "image_url must be a data: URL in base64; this model server does not fetch images from the web.",
            hint="Send the image itself: data:image/png;base64,...",
        )
    return data
