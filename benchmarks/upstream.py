"""An upstream that answers at once with canned bytes, so that what is measured is what stands in front of it.

`python -m benchmarks.upstream` serves on a free port, which it prints. Ollama's /api/generate and /api/tags; OpenAI's
/v1/chat/completions, whose streams have a shape that `GET /_shape?pieces=50&gap_ms=10&first_ms=0` sets from then on,
and whose pieces hold the moment that each was sent (CLOCK_MONOTONIC, ns), so that the load can tell how long it was on
its way.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from urllib.parse import parse_qsl

import uvloop

PIECES = 64
_LINE = json.dumps({"model": "llama3", "created_at": "2026-11-24T10:00:00Z", "response": " word", "done": False})
_DONE = json.dumps(
    {
        "model": "llama3",
        "created_at": "2026-11-24T10:00:00Z",
        "response": "",
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 20,
        "prompt_eval_duration": 10_000_000,
        "eval_count": PIECES,
        "eval_duration": 900_000_000,
    }
)
_USAGE = '"usage":{"prompt_tokens":20,"completion_tokens":50,"total_tokens":70}'
_COMPLETION = (
    '{"id":"c","object":"chat.completion","created":1,"model":"llama3","choices":[{"index":0,"message":{"role":'
    '"assistant","content":"Rayleigh scattering."},"finish_reason":"stop"}],' + _USAGE + "}"
)
_PIECE = (
    'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"llama3","choices":[{"index":0,"delta":'
    '{"content":" %d"},"finish_reason":null}]}\n\n'
)
_LAST = (
    'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"llama3","choices":[{"index":0,"delta":{},'
    '"finish_reason":"stop"}]}\n\n'
)
_COUNTS = (
    'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"llama3","choices":[],' + _USAGE + "}\n\n"
)
_EVENTS_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(text: str) -> bytes:
    return f"{len(text):x}\r\n{text}\r\n".encode()


def _whole(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    + _chunk(_LINE + "\n") * PIECES
    + _chunk(_DONE + "\n")
    + b"0\r\n\r\n"
)
_ANSWER = _whole(_DONE)
_CHAT = _whole(_COMPLETION)
_TAGS = _whole(
    '{"object":"list","models":[{"name":"llama3","model":"llama3"}],"data":[{"id":"llama3","object":"model","created":1,"owned_by":"bench"}]}'
)


@dataclass
class Shape:
    """Of the streams of /v1/chat/completions."""

    pieces: int = 50
    gap_ms: float = 0
    """0: each piece as soon as the one before has gone to the socket."""
    first_ms: float = 0


SHAPE = Shape()


class Canned(asyncio.Protocol):
    """Answers each request as soon as its body is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # pyright: ignore[reportAttributeAccessIssue]
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._timer: asyncio.Handle | None = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
            if len(self._held) < end + 4 + length:
                return
            body = self._held[end + 4 : end + 4 + length]
            self._held = self._held[end + 4 + length :]
            self._answer(head.split(b"\r\n")[0], body)

    def _answer(self, line: bytes, body: bytes) -> None:
        is_stream = b'"stream":true' in body.replace(b" ", b"")
        if line.startswith(b"get"):
            _, _, query = line.split(b" ")[1].partition(b"/_shape?")
            for name, value in parse_qsl(query.decode()):
                setattr(SHAPE, name, float(value))
            self._transport.write(_TAGS)
        elif b"/chat/completions" not in line:
            self._transport.write(_ANSWER if b'"stream": false' in body else _STREAM)
        elif is_stream:
            self._transport.write(_EVENTS_HEAD)
            self._counts = b"include_usage" in body
            self._left = int(SHAPE.pieces)
            self._timer = self._loop.call_later(SHAPE.first_ms / 1000, self._piece)
        else:
            self._transport.write(_CHAT)

    def _piece(self) -> None:
        if self._left:
            self._left -= 1
            self._transport.write(_chunk(_PIECE % time.monotonic_ns()))
            gap_s = SHAPE.gap_ms / 1000
            self._timer = self._loop.call_later(gap_s, self._piece) if gap_s else self._loop.call_soon(self._piece)
        else:
            counts = _chunk(_COUNTS) if self._counts else b""
            self._transport.write(_chunk(_LAST) + counts + _chunk("data: [DONE]\n\n") + b"0\r\n\r\n")


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
