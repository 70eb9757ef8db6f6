"""Dialects into each other, without a socket: an Ollama client over an OpenAI-compatible server, and the reverse.

A translation is made of one request and then fed with what the upstream says. What the other dialect has no word for is
left out, as the servers themselves leave out what they do not know; what would change the meaning (two answers where
one is possible, an image that would have to be fetched) is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from gemmapy.upstreams.translation.context import Context
from gemmapy.upstreams.translation.errors import (
    message_of,
    ollama_error,
    ollama_stream_error,
    openai_error,
    openai_stream_error,
)
from gemmapy.upstreams.translation.loading import is_load, load_answer
from gemmapy.upstreams.translation.ollama_over_openai import ollama_over_openai
from gemmapy.upstreams.translation.openai_over_ollama import openai_over_ollama

__all__ = [
    "Translation",
    "is_load",
    "load_answer",
    "message_of",
    "ollama_error",
    "ollama_stream_error",
    "openai_error",
    "openai_stream_error",
    "translate",
]


class Translation(Protocol):
    """One request, put into the upstream's dialect, and the way back."""

    path: str
    """The upstream's path."""
    body: bytes
    """The upstream's request body."""

    @property
    def content_type(self) -> str:
        """Of the client's successful answer."""
        ...

    def answer(self, body: bytes) -> bytes:
        """The upstream's whole answer as the client's. Raises UpstreamError where it is none."""
        ...

    def frame(self, frame: bytes) -> list[bytes]:
        """One frame of the upstream's stream as the frames that the client gets."""
        ...

    def end(self) -> list[bytes]:
        """What closes the client's stream, once the upstream's has ended well."""
        ...

    def error(self, status: int, body: bytes) -> bytes:
        """The body of an upstream's error as the client's dialect has it."""
        ...


def translate(
    client: str,
    path: str,
    body: bytes,
    *,
    now: Callable[[], datetime],
    clock_ns: Callable[[], int],
    started_ns: int,
    request_id: str,
    stream: bool,
) -> Translation:
    """Puts a request of dialect `client` for `path` into the other dialect.

    Raises InvalidRequest for wrong types and for what the other dialect cannot express.
    """
    context = Context(path, now, clock_ns, started_ns, request_id.replace("-", ""), stream)
    return ollama_over_openai(context, body) if client == "ollama" else openai_over_ollama(context, body)
