"""Bytes over a socket, for what no HTTP library sends or shows: a client, and an upstream that keeps what it gets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field

TAGS = b'{"models":[{"name":"llama3","model":"llama3","size":1,"digest":"d"}]}'
ANSWER = b'{"response":"x","message":{"content":"x"},"done":true,"eval_count":1,"prompt_eval_count":1}'


@dataclass
class RawUpstream:
    """Answers everything like an Ollama that has llama3, one request a connection at a time.

    `received` holds every byte of everything but of the looks at the list of models.
    """

    received: list[bytes] = field(default_factory=list[bytes])
    _socket: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            held = b""
            while True:
                while not (whole := _whole(held)):
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    held += piece
                request, held = held[:whole], held[whole:]
                body = TAGS if request.startswith(b"GET /api/tags") else ANSWER
                if body is ANSWER:
                    self.received.append(request)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)


def _whole(data: bytes) -> int:
    """How long the first request in `data` is; 0 where it is not whole. By its Content-Length or its last chunk."""
    head, blank, rest = data.partition(b"\r\n\r\n")
    if not blank:
        return 0
    named = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if b"transfer-encoding" in named:
        end = rest.find(b"0\r\n\r\n")
        return 0 if end < 0 else len(head) + 4 + end + 5
    length = int(named.get(b"content-length", b"0"))
    return len(head) + 4 + length if len(rest) >= length else 0


@contextlib.contextmanager
def raw_upstream() -> Generator[RawUpstream]:
    upstream = RawUpstream()
    thread = threading.Thread(target=upstream.serve, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        upstream.close()
        thread.join(5)


def exchange(url: str, *sent: bytes, answers: int | None = None) -> tuple[list[tuple[int, bytes]], bool]:
    """Sends bytes, each piece by itself; the statuses and bodies of the answers, and whether the gateway then hung up.

    A hundredth of a second is waited for an answer more than was expected, which would be a smuggled request's.
    """
    expected = len(sent[1:]) or 1 if answers is None else answers
    host, _, port = url.removeprefix("http://").partition(":")
    found: list[tuple[int, bytes]] = []
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):  # it may have hung up before it had everything
            for place, piece in enumerate(sent):
                if place:
                    time.sleep(0.02)  # so that they are two reads at the other end; nothing fails where they are one
                connection.sendall(piece)
        held = b""
        try:
            while True:
                if len(found) == expected:
                    connection.settimeout(0.01)
                piece = connection.recv(65536)
                if not piece:
                    return found, True
                held += piece
                while cut := _whole(held):
                    head, _, body = held[:cut].partition(b"\r\n\r\n")
                    held = held[cut:]
                    if not head.startswith(b"HTTP/1.1 100 "):
                        found.append((int(head.split(b" ")[1]), body))
        except TimeoutError:
            return found, False
        except ConnectionError:
            return found, True
