"""Asks one address with so many connections for so long, and prints what it saw as JSON.

`python -m benchmarks.load PORT KEY CONNECTIONS SECONDS stream|whole|kept`; `kept` is a stream that the cache may
answer. A closed loop: each connection asks again as soon as its answer is whole. `first_ms` is until the first byte of
the answer, `whole_ms` until its last.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

import uvloop


async def _ask(port: int, request: bytes, until: float, first: list[float], whole: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        first.append(time.perf_counter() - began)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {head!r}")
        lower = head.lower()
        if b"content-length:" in lower:
            await reader.readexactly(int(lower.split(b"content-length:")[1].split(b"\r\n")[0]))
        else:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        whole.append(time.perf_counter() - began)
    writer.close()


def _ms(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000, 3)


async def _main(port: int, key: str, connections: int, seconds: float, kind: str) -> None:
    body = json.dumps({"model": "llama3", "prompt": "Why is the sky blue?", "stream": kind != "whole"})
    head = (
        f"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {key}\r\n"
        + ("X-GemmaPy-Cache: on\r\n" if kind == "kept" else "")
    )
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    first: list[float] = []
    whole: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_ask(port, request, began + seconds, first, whole) for _ in range(connections)))
    took = time.perf_counter() - began
    figures = {"requests_per_s": round(len(whole) / took), "mean_ms": round(statistics.mean(whole) * 1000, 3)}
    for name, values in (("first", first), ("whole", whole)):
        figures |= {f"{name}_p50_ms": _ms(values, 0.5), f"{name}_p99_ms": _ms(values, 0.99)}
    print(json.dumps(figures))


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
