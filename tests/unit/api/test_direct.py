"""An answer's bytes on the wire, past ASGI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gemmapy.api.direct import Direct
from gemmapy.core.outbox import Outbox

LENGTH = [(b"content-type", b"text/plain"), (b"content-length", b"5")]


class Wire:
    """A client's connection: what was written to it, and whether it was closed."""

    def __init__(self, *, keep_alive: bool = True) -> None:
        self.written = b""
        self.is_closed = False
        self.answered = 0
        self.outbox = Outbox(asyncio.get_running_loop())
        transport: Any = self
        self.cycle = RequestResponseCycle(
            scope={"method": "POST"},  # pyright: ignore[reportArgumentType]
            transport=transport,
            flow=FlowControl(transport),
            logger=logging.getLogger(),
            access_logger=logging.getLogger(),
            access_log=False,
            default_headers=[(b"date", b"today")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self._count,
        )
        self.direct = Direct(self, self.cycle)

    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
        return lambda: None

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def _count(self) -> None:
        self.answered += 1


async def test_an_answer_of_known_length_goes_out_in_one_piece() -> None:
    wire = Wire()
    wire.direct.start(200, LENGTH)
    await wire.direct.end(b"hello")
    assert wire.written == b""
    await asyncio.sleep(0)
    head = b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n"
    assert wire.written == head + b"hello"
    assert (wire.cycle.response_started, wire.cycle.response_complete, wire.answered) == (True, True, 1)
    assert not wire.is_closed


async def test_a_stream_is_chunked_and_its_head_goes_out_with_the_first_piece() -> None:
    wire = Wire()
    wire.direct.start(200, [(b"content-type", b"text/plain")])
    await asyncio.sleep(0)
    assert wire.written == b""
    await wire.direct.send(b"one")
    await asyncio.sleep(0)
    assert wire.written.endswith(b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n")
    await wire.direct.send(b"")  # which would be the end
    await wire.direct.end(b"x" * 16)
    await asyncio.sleep(0)
    assert wire.written.endswith(b"one\r\n10\r\nxxxxxxxxxxxxxxxx\r\n0\r\n\r\n")


async def test_where_the_connection_is_not_kept_all_is_written_before_it_closes() -> None:
    wire = Wire(keep_alive=False)
    wire.direct.start(200, LENGTH)
    await wire.direct.end(b"hello")
    assert wire.is_closed
    assert b"\r\nconnection: close\r\n" in wire.written
    assert wire.written.endswith(b"\r\n\r\nhello")


async def test_an_answer_that_says_close_is_the_last() -> None:
    wire = Wire()
    wire.direct.start(400, [*LENGTH, (b"connection", b"close")])
    await wire.direct.end(b"wrong")
    assert wire.written.count(b"connection: close") == 1
    assert wire.is_closed


async def test_a_client_that_has_left_is_written_nothing() -> None:
    wire = Wire()
    wire.direct.start(200, LENGTH)
    wire.cycle.disconnected = True
    await wire.direct.end(b"hello")
    await asyncio.sleep(0)
    assert (wire.written, wire.answered) == (b"", 0)


async def test_a_slow_client_is_waited_for() -> None:
    wire = Wire()
    wire.direct.start(200, [])
    wire.cycle.flow.pause_writing()
    sending = asyncio.create_task(wire.direct.send(b"one"))
    await asyncio.sleep(0.01)
    assert not sending.done()
    wire.cycle.flow.resume_writing()
    await sending
    await asyncio.sleep(0)
    assert wire.written.endswith(b"3\r\none\r\n")


@pytest.mark.parametrize(
    "header", [(b"a\r\nb", b"c"), (b"a", b"b\r\nc: d"), (b"a", b"b\nc"), (b"a b", b"c"), (b"", b"x")]
)
async def test_no_header_can_end_its_line(header: tuple[bytes, bytes]) -> None:
    wire = Wire()
    with pytest.raises(ValueError, match="header"):
        wire.direct.start(200, [*LENGTH, header])
    assert not wire.cycle.response_started


async def test_a_body_is_taken_once_it_is_whole() -> None:
    wire = Wire()
    wire.cycle.body += b"half"
    assert wire.direct.body() is None
    wire.cycle.body += b" and half"
    wire.cycle.more_body = False
    assert wire.direct.body() == b"half and half"
