"""Asks one address with so many connections for so long, and prints what it saw as JSON.

`python -m benchmarks.load '{"port": 5000, "path": "/v1/chat/completions", "body": {...}, "connections": 64, ...}'`: see
`Load`. A closed loop: each connection asks again as soon as its answer is whole. `first_ms` is until the first byte of
an answer's body, `whole_ms` until its last, `piece_ms` how long a stream's piece was on its way from the upstream.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

_SENT_AT = re.compile(rb'"content":\s*" ?(\d{6,})"')
PATIENCE_S = 15
"""After so long, answers that are still under way count as lost."""


@dataclass
class Load:
    """What to ask, of whom, how often at once."""

    port: int
    path: str
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict[str, str])
    connections: int = 1
    seconds: float = 3
    ramp_s: float = 0
    """The connections begin one after another, spread over so long."""


class Seen:
    """All connections' figures."""

    def __init__(self) -> None:
        self.first_ns: list[int] = []
        self.whole_ns: list[int] = []
        self.piece_ns: list[int] = []
        self.pieces = 0
        self.failed = 0
        self.refusal = ""


class Asker(asyncio.Protocol):
    """One connection, that asks until it is told to stop."""

    def __init__(self, request: bytes, until_ns: int, seen: Seen) -> None:
        self._request = request
        self._until_ns = until_ns
        self._seen = seen
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # pyright: ignore[reportAttributeAccessIssue]
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.over.done():
            self._seen.failed += 1
            self.over.set_result(None)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._end is None:
            self._head += data
            head, separator, data = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            lower = head.lower()
            length = re.search(rb"content-length: *(\d+)", lower)
            self._end = int(length[1]) if length else -1
            self._is_good = head.startswith(b"HTTP/1.1 200")
        if data and not self._size:
            self._seen.first_ns.append(now - self._began)
        self._size += len(data)
        if self._end < 0:
            sent = _SENT_AT.findall(data)
            self._seen.pieces += len(sent)
            self._seen.piece_ns += [now - int(moment) for moment in sent]
        self._tail = (self._tail + data)[-300:]
        if self._size >= self._end >= 0 or (self._end < 0 and self._tail.endswith(b"0\r\n\r\n")):
            self._finish(now)

    def _finish(self, now: int) -> None:
        if self._is_good and (self._end >= 0 or b"[DONE]" in self._tail or b'"done":true' in self._tail):
            self._seen.whole_ns.append(now - self._began)
        else:
            self._seen.failed += 1
            self._seen.refusal = self._seen.refusal or (self._head + self._tail)[:400].decode("latin-1")
        if now < self._until_ns:
            self._ask()
        else:
            self.over.set_result(None)
            self._transport.close()

    def _ask(self) -> None:
        self._head = self._tail = b""
        self._end: int | None = None
        self._size = 0
        self._began = time.monotonic_ns()
        self._transport.write(self._request)


def _ms(values: list[int], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] / 1e6, 3) if values else 0.0


async def _main(load: Load) -> dict[str, Any]:
    body = json.dumps(load.body).encode()
    headers = {"Host": "x", "Content-Type": "application/json", **load.headers, "Content-Length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {load.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
    seen = Seen()
    began = time.monotonic_ns()
    until_ns = began + int(load.seconds * 1e9)

    async def one(place: int) -> None:
        await asyncio.sleep(load.ramp_s * place / load.connections)
        asker = Asker(request, until_ns, seen)
        await asyncio.get_running_loop().create_connection(lambda: asker, "127.0.0.1", load.port)
        await asker.over

    asking = [asyncio.create_task(one(place)) for place in range(load.connections)]
    _, late = await asyncio.wait(asking, timeout=load.seconds + PATIENCE_S)
    took_s = (time.monotonic_ns() - began) / 1e9
    for task in late:
        task.cancel()
    figures: dict[str, Any] = {
        "requests": len(seen.whole_ns),
        "requests_per_s": round(len(seen.whole_ns) / took_s, 1),
        "pieces": seen.pieces,
        "pieces_per_s": round(seen.pieces / took_s),
        "failed": seen.failed + len(late),
        "refusal": seen.refusal,
    }
    for name, values in (("first", seen.first_ns), ("whole", seen.whole_ns), ("piece", seen.piece_ns)):
        figures |= {f"{name}_p50_ms": _ms(values, 0.5), f"{name}_p99_ms": _ms(values, 0.99)}
    return figures


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_main(Load(**json.loads(sys.argv[1]))))))
