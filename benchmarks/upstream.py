"""An upstream that answers at once with canned bytes, so that what is measured is what stands in front of it.

`python -m benchmarks.upstream` serves Ollama's /api/generate and /api/tags on a free port, which it prints.
"""

from __future__ import annotations

import asyncio
import json

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


def _chunk(line: str) -> bytes:
    return f"{len(line) + 1:x}\r\n{line}\n\r\n".encode()


def _whole(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    + _chunk(_LINE) * PIECES
    + _chunk(_DONE)
    + b"0\r\n\r\n"
)
_ANSWER = _whole(_DONE)
_TAGS = _whole('{"models":[{"name":"llama3","model":"llama3"}]}')


class Canned(asyncio.Protocol):
    """Answers each request as soon as its body is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in head else 0
            if len(self._held) < end + 4 + length:
                return
            body = self._held[end + 4 : end + 4 + length]
            self._held = self._held[end + 4 + length :]
            if head.startswith(b"get"):
                self._transport.write(_TAGS)  # pyright: ignore
            else:
                self._transport.write(_ANSWER if b'"stream": false' in body else _STREAM)  # pyright: ignore


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
