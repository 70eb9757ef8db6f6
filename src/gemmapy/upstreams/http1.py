"""HTTP/1.1 as bytes, without sockets: the head of a question going out, an answer coming in.

Used by `connection.py`. Nothing that a question holds can end a line of its head or say twice how long its body is, so
no upstream can read two questions where one was meant. Of an answer, what is not plain HTTP/1.1 is refused, and
whatever comes, only so much is held: a head of bounded length, and the pieces of the body that nobody has taken yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

Headers = Iterable[tuple[str, str]]
HEAD_LIMIT = 64 * 1024
"""Bytes of an answer's head, and between two pieces of its body (lengths of chunks, their extensions, trailers)."""
HEADERS_LIMIT = 256
_METHOD = re.compile(r"[A-Z]+")
_TARGET = re.compile(r"/[!-~]*")
LINES = r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t -~\x80-\xff]*\r\n)*"
"""Header lines as a pattern (RFC 9110, 5.1 and 5.5): nothing in them ends one but its end."""
_LINES = re.compile(LINES)
_WRITTEN_HERE = frozenset(
    {"host", "connection", "keep-alive", "proxy-connection", "content-length", "transfer-encoding"}
    | {"te", "trailer", "upgrade", "expect"}
)


def head(method: str, host: str, target: str, headers: Headers, length: int | Literal["chunked"] | None) -> bytes:
    """The head of a question. `length` is its body's in bytes, None where it has none.

    Raises ValueError for anything that would not be one header, one target or one method, and for headers that say how
    the message is framed or whose connection it is: these are written here and nowhere else.
    """
    block = _block(method, host, target, tuple(headers))
    if length is None:
        return block + b"\r\n"
    if length == "chunked":
        return block + b"transfer-encoding: chunked\r\n\r\n"
    return b"%bcontent-length: %d\r\n\r\n" % (block, length)


@lru_cache(maxsize=256)
def _block(method: str, host: str, target: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """All of a head but how long the body is: programs ask in the same words again and again."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    block = "".join(lines)
    if block.count("\n") != len(lines) or _LINES.fullmatch(block) is None:
        raise ValueError("a header holds a character that no header may hold")
    if any(name.lower() in _WRITTEN_HERE for name, _ in headers):
        raise ValueError("a header says how the message is framed")
    if _METHOD.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
        raise ValueError("the method or the address holds a character that it may not hold")
    return f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n{block}".encode("latin-1")


class Garbage(Exception):
    """What came is not an HTTP/1.1 answer, or one beyond all bounds."""


class Reader:
    """Reads one answer, cut anywhere. One for each: what a parser still holds of one answer must not reach the next."""

    def __init__(self, *, is_head: bool = False) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        """Names in lower case."""
        self.pieces: list[bytes] = []
        """Of the body, in the order they came; whoever takes them empties the list."""
        self.has_head = False
        self.is_complete = False
        self.is_reusable = False
        """Known once complete: another question may follow on the connection."""
        self._is_head = is_head
        self._until_end = False
        self._headers_size = 0
        self._barren = 0
        """Bytes that came since the last piece of the body, or since the beginning."""
        self._problem: str | None = None
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Takes what came. Raises Garbage; what follows a complete answer only ends its connection."""
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            raise Garbage("it changes the protocol, which nobody asked for") from None
        except HttpParserError as error:
            if not self.is_complete:
                raise Garbage(str(self._problem or error)) from None
            self.is_reusable = False
        if self._barren > HEAD_LIMIT and not self.is_complete:
            raise Garbage(f"its head, or what is between two pieces of it, has more than {HEAD_LIMIT} bytes")

    def end(self) -> bool:
        """The connection ended; returns whether the answer is complete, as one without a length is now."""
        if self.has_head and self._until_end:
            self.is_complete = True
        return self.is_complete

    # What the parser calls

    def on_message_begin(self) -> None:
        if self.is_complete:
            self._refuse("something follows it")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            return  # a trailer
        self._headers_size += len(name) + len(value)
        if len(self.headers) == HEADERS_LIMIT or self._headers_size > HEAD_LIMIT:
            self._refuse(f"it has more than {HEADERS_LIMIT} headers, or more than {HEAD_LIMIT} bytes of them")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._parser.get_http_version() not in ("1.1", "1.0") or status < 100:
            self._refuse("it is not HTTP/1.1")
        if status < 200:
            self.headers.clear()  # "go on", or a hint: the answer is still to come
            return
        coding: bytes | None = None
        has_length = False
        for name, value in self.headers:
            if name == b"content-length":
                has_length = True
            elif name == b"transfer-encoding":
                if coding is not None or value.lower() != b"chunked":
                    self._refuse("its transfer encoding is none that was asked for")
                coding = value
        self._until_end = coding is None and not has_length and status not in (204, 304)
        self.status = status
        self.has_head = True
        self._barren = 0
        if self._is_head:
            self.is_complete = True  # the parser waits for a body that never comes; its connection is not used again

    def on_body(self, data: bytes) -> None:
        if self.is_complete:
            self._refuse("a body follows its head, and none was asked for")
        self._barren = 0
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self.has_head and not self._is_head:
            self.is_complete = True
            self.is_reusable = self._parser.should_keep_alive()

    def _refuse(self, problem: str) -> NoReturn:
        """Ends the parser's work; `feed` says why."""
        self._problem = problem
        raise Garbage(problem)
