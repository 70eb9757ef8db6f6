"""Writes to sockets that go out together, at the end of an event loop's turn.

A write to a peer on the same machine that sleeps costs several times what it costs where the peer is awake: the kernel
has to wake it, and on a virtual machine its processor, too. Answers that are written one after the other find it awake
after the first one. Where nothing else is ready, a turn is over at once, and nobody waits.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

HELD_BYTES = 64 * 1024
"""More is written at once, so that a transport can say when it has enough."""


class Writable(Protocol):
    """What is written to: an asyncio transport."""

    def write(self, data: bytes, /) -> None: ...
    def is_closing(self) -> bool: ...


class Outbox:
    """Of one event loop. What is written elsewhere to the same transport has to be preceded by `flush`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: list[tuple[Writable, bytes]] = []
        self._size = 0

    def write(self, transport: Writable, data: bytes) -> None:
        """Writes it soon; in vain, as always, where the transport has closed by then."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append((transport, data))
        self._size += len(data)
        if self._size > HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is held, in the order in which it came. A write that fails keeps no other from its own."""
        held, self._held, self._size = self._held, [], 0
        for transport, data in held:
            try:
                if not transport.is_closing():
                    transport.write(data)
            except Exception as error:  # noqa: BLE001 - the event loop logs it
                self._loop.call_exception_handler({"message": "a write failed", "exception": error})
