"""What a worker and the keeper of the books say to each other: the messages, and how they are framed.

A frame is four bytes of length and a MessagePack list of messages; whatever gathers while one turn of an event loop
runs goes into one frame. Both ends are always of one release, since the supervisor forks them.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import msgspec

from gemmapy.core.records import Intent, Outcome

_LENGTH = struct.Struct(">I")


class Hello(msgspec.Struct, array_like=True, tag=1):
    """A worker is there. `is_new`: its process has just begun, so what its slot has in flight is a predecessor's."""

    slot: int
    is_new: bool


class Welcome(msgspec.Struct, array_like=True, tag=2):
    """The keeper takes works from now on; `trouble` is why none can be written at this moment."""

    trouble: str | None = None


class Trouble(msgspec.Struct, array_like=True, tag=3):
    """Why nothing can be written at this moment, or that all is well again."""

    trouble: str | None = None


class Begun(msgspec.Struct, array_like=True, tag=4):
    """Write an in-flight row. `number` is the worker's own, for the answer; `again`: it may have been written."""

    number: int
    intent: Intent
    again: bool = False


class Ended(msgspec.Struct, array_like=True, tag=5):
    """Write a metric row."""

    number: int
    outcome: Outcome
    admitted: bool
    again: bool = False


class Written(msgspec.Struct, array_like=True, tag=6):
    """Works that are on disk, by number, with their metric ids."""

    works: list[tuple[int, int | None]]


class Refused(msgspec.Struct, array_like=True, tag=7):
    """A work that was not written, and will not be."""

    number: int
    reason: str
    retry_after_s: float | None = None


class Borrow(msgspec.Struct, array_like=True, tag=8):
    """The worker asks for the turn to write by itself."""

    number: int


class Lent(msgspec.Struct, array_like=True, tag=9):
    """It has it, until it gives it back."""

    number: int


class Back(msgspec.Struct, array_like=True, tag=10):
    """It gives it back, or has no need of it any more."""

    number: int


class Said(msgspec.Struct, array_like=True, tag=11):
    """For all others, or for the keeper alone."""

    subject: str
    said: Any = None
    of_keeper: bool = False


class Question(msgspec.Struct, array_like=True, tag=12):
    """For all others, or for the keeper alone."""

    number: int
    subject: str
    said: Any = None
    of_keeper: bool = False


class Answer(msgspec.Struct, array_like=True, tag=13):
    """The answer to a question, or the list of all answers to a worker's."""

    number: int
    said: Any = None


Message: TypeAlias = (
    Hello | Welcome | Trouble | Begun | Ended | Written | Refused | Borrow | Lent | Back | Said | Question | Answer
)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])


def frame(messages: list[Message]) -> bytes:
    """One frame."""
    payload = _encoder.encode(messages)
    return _LENGTH.pack(len(payload)) + payload


class Frames:
    """Takes bytes as they come and gives messages."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete now. Raises msgspec.DecodeError for bytes that are none."""
        held = self._held
        held += data
        begin = 0
        while len(held) >= begin + _LENGTH.size:
            end = begin + _LENGTH.size + _LENGTH.unpack_from(held, begin)[0]
            if len(held) < end:
                break
            yield from _decoder.decode(memoryview(held)[begin + _LENGTH.size : end].tobytes())
            begin = end
        del held[:begin]


class Line(asyncio.Protocol):
    """One end of a connection. In one event loop; what is said in one turn of it goes out as one frame."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._frames = Frames()
        self._unsent: list[Message] = []

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self.heard(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None

    def heard(self, message: Message) -> None:
        """What the other end says."""
        raise NotImplementedError

    def say(self, message: Message) -> None:
        """Sends a message; to an end that is gone, nothing."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(message)

    def hang_up(self) -> None:
        """Sends what is to be sent, and closes."""
        self._send()
        if self._transport is not None:
            self._transport.close()

    def _send(self) -> None:
        messages, self._unsent = self._unsent, []
        if messages and self._transport is not None:
            self._transport.write(frame(messages))
