"""More load than the gateway and its upstream can take: what happens meanwhile, and after.

`python -m benchmarks.overload --seconds 300`: an upstream that works on so many requests at once and takes so long for
each, a gateway that knows its places, and a flood: one caller's connections that ask without a pause, one polite caller
who asks one thing at a time, clients that stall while they send, and somebody who looks at `/api/health`, `/readyz` and
the dashboard. Prints the gateway's memory over time, who got what, how long health took, and how soon all is as before
once the flood ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from gemmapy.api.server import raise_file_limit

TAGS = b'{"models":[{"name":"llama3","model":"llama3"}]}'
ANSWER = json.dumps(
    {"model": "llama3", "response": "word " * 100, "done": True, "done_reason": "stop"}
    | {"prompt_eval_count": 20, "eval_count": 100}
).encode()
ASK = {"model": "llama3", "prompt": "Why is the sky blue?", "stream": False}
PAUSE_S = 0.05
"""Of a client of the flood that was turned away: shorter than any Retry-After."""


@dataclass
class Seen:
    """What the clients of one kind saw."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    took_ms: list[float] = field(default_factory=list[float])
    """Of those that were answered 200."""
    refused_ms: list[float] = field(default_factory=list[float])
    retry_after_s: Counter[int] = field(default_factory=Counter[int])

    def note(self, status: int, took_s: float, retry_after: int | None) -> None:
        self.statuses[status] += 1
        (self.took_ms if status == 200 else self.refused_ms).append(took_s * 1000)
        if retry_after is not None:
            self.retry_after_s[retry_after] += 1

    def row(self, name: str) -> str:
        shares = ", ".join(f"{count} x {status or 'cut'}" for status, count in sorted(self.statuses.items()))
        return f"{name:10} {shares}; 200 in {_quantiles(self.took_ms)}; no in {_quantiles(self.refused_ms)}"


class Client:
    """One kept-alive connection that is made anew where it was closed."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    async def ask(self, raw: bytes) -> tuple[int, float, int | None]:
        """The status (0 where the connection was cut), how long it took, and Retry-After."""
        began = time.perf_counter()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(raw)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0, time.perf_counter() - began, None
        if b"connection: close" in head:
            self.close()
        again = re.search(rb"retry-after: (\d+)", head)
        return int(head[9:12]), time.perf_counter() - began, int(again[1]) if again else None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def upstream(places: int, takes_s: float) -> int:
    """An Ollama that works on `places` requests at once, first come first served, `takes_s` on each; its port."""
    working = asyncio.Semaphore(places)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                body = TAGS if head.startswith(b"get") else ANSWER
                if body is ANSWER:
                    async with working:
                        await asyncio.sleep(takes_s)
                kind = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                writer.write(kind + body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    return server.sockets[0].getsockname()[1]


async def gateway(port: int, data: Path, places: int, wait_s: float) -> tuple[subprocess.Popen[str], int, str]:
    """A gateway in front of it: its process, port and key."""
    environment = {
        **os.environ,
        "GEMMAPY_PORT": "0",
        "GEMMAPY_UPSTREAMS": f"ollama=http://127.0.0.1:{port}",
        "GEMMAPY_PLACES": str(places),
        "GEMMAPY_QUEUE_WAIT_S": str(wait_s),
        "GEMMAPY_CLIENT_TIMEOUT_S": "5",
        "GEMMAPY_LOG_LEVEL": "error",
    }
    command = [str(Path(sys.executable).parent / "gemmapy"), "serve", "--data", str(data)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert process.stdout is not None
    printed = ""
    while "/api/metrics/dashboard" not in printed:
        printed += await asyncio.to_thread(process.stdout.readline)
    found = re.search(r"http://localhost:(\d+)", printed)
    key = re.search(r"gp-[\w-]{43}", printed)
    assert found is not None
    assert key is not None
    return process, int(found[1]), key[0]


async def _flood(client: Client, seen: Seen) -> None:
    """Asks until it is cancelled, and then leaves, whatever it waits for."""
    raw = client.request("POST", "/api/generate", json.dumps(ASK).encode())
    try:
        while True:
            status, took_s, again_s = await client.ask(raw)
            seen.note(status, took_s, again_s)
            if status != 200:
                await asyncio.sleep(PAUSE_S)
    finally:
        client.close()


async def _polite(client: Client, seen: Seen, until: float) -> None:
    raw = client.request("POST", "/api/generate", json.dumps(ASK).encode())
    while time.monotonic() < until:
        status, took_s, again_s = await client.ask(raw)
        seen.note(status, took_s, again_s)
        await asyncio.sleep(0.2)


async def _look(client: Client, path: str, seen: Seen, until: float) -> None:
    while time.monotonic() < until:
        seen.note(*await client.ask(client.request("GET", path)))
        await asyncio.sleep(0.1)


async def _stall(port: int, key: str) -> None:
    """Announces a megabyte and sends none of it, again and again."""
    client = Client(port, key)
    raw = client.request("POST", "/api/generate", b"x" * 2**20)[: -(2**20)]
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            await reader.read()
            writer.close()
        except OSError:
            await asyncio.sleep(PAUSE_S)


def memory_mib(pid: int) -> int:
    """What a process has in memory."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) // 1024


async def _idle(port: int, number: int, pid: int, polite: Client) -> None:
    """Opens connections that send nothing, and asks among them."""
    before, opened = memory_mib(pid), []
    for _ in range(number):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
    status, took_s, _ = await polite.ask(polite.request("POST", "/api/generate", json.dumps(ASK).encode()))
    print(
        f"{number} idle connections: {before} -> {memory_mib(pid)} MiB; {status} in {took_s * 1000:.0f} ms among them"
    )
    for writer in opened:
        writer.close()


async def _watch(pid: int, memory: list[tuple[float, int]], began: float, until: float) -> None:
    while time.monotonic() < until:
        memory.append((time.monotonic() - began, memory_mib(pid)))
        await asyncio.sleep(1)


async def _recover(port: int, key: str, takes_s: float) -> float:
    """How long after the flood a request takes no longer than one on an idle machine, twice the upstream's own time."""
    began = time.monotonic()
    client = Client(port, key)
    raw = client.request("POST", "/api/generate", json.dumps(ASK).encode())
    while True:
        status, took_s, _ = await client.ask(raw)
        if status == 200 and took_s < 2 * takes_s + 0.05:
            return time.monotonic() - began - took_s
        if time.monotonic() - began > 60:
            return float("inf")


async def _user(port: int, key: str, name: str) -> str:
    """A new user's key."""
    reader_client = Client(port, key)

    async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(reader_client.request("POST", path, json.dumps(body).encode()))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        said = json.loads(await reader.readexactly(int(length[1]) if length else 0))
        writer.close()
        return said

    made = await post("/api/admin/users", {"username": name, "password": "correct horse battery"})
    return (await post(f"/api/admin/users/{made['id']}/keys", {"name": "load"}))["key"]


def _quantiles(values: list[float]) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered):.0f}, p99 {p99:.0f}, max {ordered[-1]:.0f} ms"


async def _main(asked: argparse.Namespace) -> None:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}: {asked.connections} connections of a flood, {asked.seconds:g} s;")
    print(f"upstream: {asked.places} at once, {asked.takes * 1000:.0f} ms each; queue_wait_s {asked.wait:g}")
    with tempfile.TemporaryDirectory() as folder:
        port = await upstream(asked.places, asked.takes)
        process, own, key = await gateway(port, Path(folder) / "d", asked.places, asked.wait)
        flooding, polite = await _user(own, key, "flood"), await _user(own, key, "polite")
        alone = Seen()
        await _polite(Client(own, polite), alone, time.monotonic() + 3)
        print(alone.row("alone"))
        if asked.idle:
            raise_file_limit(2 * asked.idle + 1024)
            await _idle(own, asked.idle, process.pid, Client(own, polite))
        began = time.monotonic()
        until = began + asked.seconds
        seen = {name: Seen() for name in ("flood", "polite", "health", "readyz", "dashboard")}
        memory: list[tuple[float, int]] = [(0.0, memory_mib(process.pid))]
        load = [
            *(_flood(Client(own, flooding), seen["flood"]) for _ in range(asked.connections)),
            *(_stall(own, flooding) for _ in range(asked.stalled)),
        ]
        flood = [asyncio.create_task(one) for one in load]
        await asyncio.gather(
            _polite(Client(own, polite), seen["polite"], until),
            _look(Client(own, key), "/api/health", seen["health"], until),
            _look(Client(own, key), "/readyz", seen["readyz"], until),
            _look(Client(own, key), "/api/metrics/dashboard?days=7", seen["dashboard"], until),
            _watch(process.pid, memory, began, until),
        )
        for task in flood:
            task.cancel()
        print(f"as before after {await _recover(own, polite, asked.takes):.2f} s")
        for name, kind in seen.items():
            print(kind.row(name))
        print(f"the flood's Retry-After: {dict(sorted(seen['flood'].retry_after_s.items()))}")
        steps = [memory[int(place * (len(memory) - 1) / 10)] for place in range(11)]
        print("memory, MiB: " + ", ".join(f"{mib} at {at_s:.0f} s" for at_s, mib in steps))
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="how long the flood lasts (default: 20)")
    parser.add_argument("--connections", type=int, default=200, help="of the flood (default: 200)")
    parser.add_argument("--stalled", type=int, default=20, help="clients that stall (default: 20)")
    parser.add_argument("--idle", type=int, default=0, help="connections that send nothing, before it (default: 0)")
    parser.add_argument("--places", type=int, default=4, help="the upstream's (default: 4)")
    parser.add_argument("--takes", type=float, default=0.2, help="seconds for each request there (default: 0.2)")
    parser.add_argument("--wait", type=float, default=5, help="queue_wait_s (default: 5)")
    uvloop.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
