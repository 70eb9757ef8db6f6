"""What watching costs: the gateway's processor time with 0, 1 and 20 live streams open: `python -m benchmarks.live`.

The same steady load for each, in turns, several rounds, medians. Processor time, so that a noisy machine tells little
less than a quiet one. Also how long after its answer a request is on the stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.sides import Side, gateway, upstream
from gemmapy.upstreams.frames import SseDecoder, sse_data
from gemmapy.upstreams.transport import Headers, Limits, Transport

LISTENERS = (0, 1, 20)


async def listen(transport: Transport, url: str, headers: Headers, seen: dict[str, float]) -> None:
    """Reads a stream and notes when each request was on it."""
    answer = await transport.send("GET", f"{url}/api/live", headers)
    decoder = SseDecoder()
    try:
        async for data in answer.chunks():
            for event in decoder.feed(data):
                said = sse_data(event)
                if said is not None and b'"requests":[' in said:
                    for entry in json.loads(said)["requests"]:
                        seen.setdefault(entry["request_id"], time.perf_counter())
    finally:
        answer.close()


async def ask(transport: Transport, url: str, headers: Headers, done: dict[str, float]) -> None:
    body = {"model": "llama3", "prompt": "Why is the sky blue?", "stream": False}
    answer = await transport.send("POST", f"{url}/api/generate", headers, json.dumps(body).encode())
    await answer.read(1_000_000)
    done[answer.header("X-Request-Id") or ""] = time.perf_counter()
    answer.close()


async def measure(side: Side, listeners: int, rate: int, seconds: float) -> tuple[float, list[float]]:
    """Milliseconds of processor time a second, and how long after its answer each request was on the stream, in ms."""
    url, headers = f"http://127.0.0.1:{side.port}", list(side.headers.items())
    seen: dict[str, float] = {}
    done: dict[str, float] = {}
    transport = Transport(Limits())
    try:
        streams = [asyncio.create_task(listen(transport, url, headers, seen)) for _ in range(listeners)]
        await asyncio.sleep(1)
        began, before = time.perf_counter(), side.cpu_us()
        asking: list[asyncio.Task[None]] = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            asking.append(asyncio.create_task(ask(transport, url, headers, done)))
        await asyncio.gather(*asking)
        used_us = (side.cpu_us() - before) / (time.perf_counter() - began)
        await asyncio.sleep(0.6)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    finally:
        await transport.close()
    return used_us / 1000, [(seen[name] - at) * 1000 for name, at in done.items() if name in seen]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("--rate", type=int, default=20, help="requests a second")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    used: dict[int, list[float]] = {count: [] for count in LISTENERS}
    lags: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream() as behind,
        gateway(behind, Path(folder) / "data") as side,
    ):
        for _ in range(asked.rounds):
            for count in LISTENERS:
                cpu, lag = asyncio.run(measure(side, count, asked.rate, asked.seconds))
                used[count].append(cpu)
                lags += lag
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {asked.rate} requests/s")
    for count, values in used.items():
        print(f"{count:3} streams: {statistics.median(values):6.1f} ms of processor time a second")
    lags.sort()
    print(f"on the stream after {statistics.median(lags):.0f} ms, at most {lags[-1]:.0f} ms, of {len(lags)}")


if __name__ == "__main__":
    main()
