"""Cuts a stream of bytes into frames: NDJSON's lines and server-sent events.

A frame is the bytes that came, its ending included, so that frames put together again are the stream. Each byte is
looked at once or twice however the stream is cut; what has no ending yet is held, up to `limit` bytes.
"""

from __future__ import annotations

import re

from gemmapy.core.errors import UpstreamError

FRAME_LIMIT = 16 * 1024 * 1024
"""A frame is at most a whole answer's tool calls or an image."""

# An event ends with a blank line; each of its lines ends with \n, \r\n or \r (WHATWG HTML, 9.2.5). A \r that nothing
# has followed yet ends none: the \n that belongs to it may come with the next piece.
_EVENT_END = re.compile(rb"(?:\n|\r\n|\r(?=[^\n]))(?:\n|\r\n|\r(?=[^\n]))")
_LONGEST_END = 4
_SHORT = 4096
"""So much of a frame may be looked at again when its rest comes: more often than twice, and it would cost too much."""
_LINE_END = re.compile(rb"\r\n|\n|\r")


class _Decoder:
    """What both have in common: the bytes that have no ending yet."""

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()
        self._searched = 0

    @property
    def rest(self) -> bytes:
        """What has come since the last ending; a stream that stops here stopped in the middle."""
        return bytes(self._held)

    def _keep(self, data: bytes) -> None:
        self._held += data

    def _check(self) -> None:
        if len(self._held) > self._limit:
            raise UpstreamError(f"The model server sent a frame of more than {self._limit} bytes.")


class NdjsonDecoder(_Decoder):
    """Lines of newline-delimited JSON."""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, each with its line feed. Raises UpstreamError past the limit."""
        if not self._held and data.count(b"\n") == 1 and data[-1:] == b"\n":
            return [data]  # nearly always: one line in one piece
        self._keep(data)
        frames: list[bytes] = []
        start = 0
        end = self._held.find(b"\n", self._searched)
        while end >= 0:
            frames.append(bytes(self._held[start : end + 1]))
            start = end + 1
            end = self._held.find(b"\n", start)
        del self._held[:start]
        self._searched = len(self._held)
        self._check()
        return frames


class SseDecoder(_Decoder):
    """Server-sent events."""

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with its blank line. Raises UpstreamError past the limit."""
        if not self._held and data[-2:] == b"\n\n" and data.find(b"\n\n") == len(data) - 2 and b"\r" not in data:
            return [data]  # nearly always: one event in one piece
        if b"\r" not in data and len(self._held) < _SHORT and b"\r" not in self._held:
            *whole, rest = (bytes(self._held) + data).split(b"\n\n")
            self._held[:] = rest
            self._searched = len(rest)
            self._check()
            return [frame + b"\n\n" for frame in whole]
        self._keep(data)
        frames: list[bytes] = []
        start = 0
        for ending in _EVENT_END.finditer(self._held, max(0, self._searched - _LONGEST_END)):
            frames.append(bytes(self._held[start : ending.end()]))
            start = ending.end()
        del self._held[:start]
        self._searched = len(self._held)
        self._check()
        return frames


def sse_data(frame: bytes) -> bytes | None:
    """The data of an event: its `data:` lines, joined by line feeds; None where it has none, as a comment has."""
    if frame.startswith(b"data: ") and frame.endswith(b"\n\n") and frame.count(b"\n") == 2:
        return frame[6:-2].removesuffix(b"\r")  # nearly always: one line of data
    lines: list[bytes] = []
    for line in _LINE_END.split(frame):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" "))
    return b"\n".join(lines) if lines else None
