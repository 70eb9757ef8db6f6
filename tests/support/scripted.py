"""An upstream that does exactly what a test tells it: every frame, error, stall and cut, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """What reached the upstream."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stall:
    """Send nothing more, and note when the other side gives up."""


class Cut:
    """Close the connection here, in the middle of whatever it is."""


class Reset:
    """Close it with a TCP reset."""


@dataclass
class Hold:
    """Go on once the test says so."""

    event: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Pause:
    """Take this long before what follows."""

    seconds: float


Step = bytes | Stall | Cut | Reset | Hold | Pause
Script = Sequence[Step]
Handler = Callable[[Request], Script]


def whole(
    body: Any, status: int = 200, content_type: str = "application/json; charset=utf-8", **headers: str
) -> Script:
    """An answer in one piece; `body` is bytes, or becomes JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(raw)}\r\n{extra}\r\n"
    return [head.encode() + raw]


def chunked(steps: Sequence[Step], content_type: str, *, finish: bool = True) -> Script:
    """A streamed answer, each bytes step a chunk of its own."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    out: list[Step] = [head]
    out.extend(f"{len(step):x}\r\n".encode() + step + b"\r\n" if isinstance(step, bytes) else step for step in steps)
    if finish:
        out.append(b"0\r\n\r\n")
    return out


def ndjson(*steps: Any, finish: bool = True) -> Script:
    """Ollama's stream: every dict becomes a line."""
    lines = [json.dumps(step).encode() + b"\n" if isinstance(step, dict) else step for step in steps]
    return chunked(lines, "application/x-ndjson", finish=finish)


def sse(*steps: Any, finish: bool = True) -> Script:
    """OpenAI's stream: every dict, and the text [DONE], becomes an event."""
    events: list[Step] = []
    for step in steps:
        if isinstance(step, dict):
            events.append(b"data: " + json.dumps(step).encode() + b"\n\n")
        elif isinstance(step, str):
            events.append(b"data: " + step.encode() + b"\n\n")
        else:
            events.append(step)
    return chunked(events, "text/event-stream", finish=finish)


class ScriptedUpstream:
    """A server on 127.0.0.1 in a thread of its own. `on(path, script)` says how a path answers from now on."""

    def __init__(self, *models: str, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.left = threading.Event()
        """Set once a client has closed its connection during a `Stall`."""
        self.connections = 0
        self._handlers: dict[str, Handler] = {}
        self._asked_port = port
        names = models or ("llama3",)
        self.on("/api/tags", whole({"models": [{"name": n, "model": n, "size": 1, "digest": "d"} for n in names]}))
        self.on("/v1/models", whole({"object": "list", "data": [{"id": n, "object": "model"} for n in names]}))
        self.on("/api/version", whole({"version": "0.30.0"}))
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(5)

    def on(self, path: str, script: Script | Handler) -> None:
        """Sets how `path` answers: a script, or a function that makes one of the request."""
        self._handlers[path] = script if callable(script) else lambda _request: script

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> list[Request]:
        """The requests that came for a path."""
        return [request for request in self.requests if request.path == path]

    def close(self) -> None:
        """Ends it; again changes nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(5)

    def __enter__(self) -> ScriptedUpstream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._asked_port, backlog=1024)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ended.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
        await asyncio.sleep(0)  # sockets are closed in the loop's next round

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                request = await _read(reader)
                if request is None:
                    return
                self.requests.append(request)
                handler = self._handlers.get(request.path, lambda _r: whole({"error": "no script"}, 404))
                if not await self._play(handler(request), reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            writer.close()

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Hold):
                await asyncio.get_running_loop().run_in_executor(None, step.event.wait, 30)
            elif isinstance(step, Stall):
                with contextlib.suppress(ConnectionError):
                    await reader.read(1)
                self.left.set()
                return False
            elif isinstance(step, Reset):
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            else:
                return False
        return True


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    start, *lines = head.rstrip().split("\r\n")
    method, path, _ = start.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)
