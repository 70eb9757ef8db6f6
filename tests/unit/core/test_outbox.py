"""Writes that go out together."""

from __future__ import annotations

import asyncio

from gemmapy.core.outbox import HELD_BYTES, Outbox


class Socket:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes, /) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.is_closed


async def test_what_is_written_in_one_turn_goes_out_after_it_in_its_order() -> None:
    outbox, one, other = Outbox(asyncio.get_running_loop()), Socket(), Socket()
    outbox.write(one, b"a")
    outbox.write(other, b"b")
    outbox.write(one, b"c")
    assert (one.written, other.written) == ([], [])
    await asyncio.sleep(0)
    assert (one.written, other.written) == ([b"a", b"c"], [b"b"])
    outbox.write(one, b"d")
    await asyncio.sleep(0)
    assert one.written == [b"a", b"c", b"d"]


async def test_one_that_has_closed_by_then_does_not_keep_the_others_from_theirs() -> None:
    outbox, gone, other = Outbox(asyncio.get_running_loop()), Socket(), Socket()
    outbox.write(gone, b"a")
    outbox.write(other, b"b")
    gone.is_closed = True
    await asyncio.sleep(0)
    assert (gone.written, other.written) == ([], [b"b"])


async def test_a_write_that_fails_keeps_no_other_from_its_own() -> None:
    class Broken(Socket):
        def write(self, data: bytes, /) -> None:
            raise RuntimeError("it is gone")

    loop = asyncio.get_running_loop()
    told: list[object] = []
    loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    outbox, other = Outbox(loop), Socket()
    outbox.write(Broken(), b"a")
    outbox.write(other, b"b")
    await asyncio.sleep(0)
    assert other.written == [b"b"]
    assert [str(error) for error in told] == ["it is gone"]


async def test_much_is_written_at_once() -> None:
    outbox, socket = Outbox(asyncio.get_running_loop()), Socket()
    outbox.write(socket, b"a")
    outbox.write(socket, bytes(HELD_BYTES))
    assert socket.written == [b"a", bytes(HELD_BYTES)]
    await asyncio.sleep(0)
    assert len(socket.written) == 2


async def test_a_flush_writes_what_is_held_once() -> None:
    outbox, socket = Outbox(asyncio.get_running_loop()), Socket()
    outbox.write(socket, b"a")
    outbox.flush()
    assert socket.written == [b"a"]
    await asyncio.sleep(0)
    assert socket.written == [b"a"]
