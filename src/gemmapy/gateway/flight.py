"""An answer that is being made while others who asked the same wait for it: one question to the upstream for all.

Who asked first leads: theirs is a request like any other, and what they are sent they also publish here. Those who
follow take the pieces of a stream as they come, or the whole once it is there. Where the leader's client leaves, the
work goes on for as long as anybody follows. Where it fails before a follower has been sent anything, that one asks by
itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemmapy.gateway.entry import Entry


class Flight:
    """One answer under way. `abandon` ends the leader's work, whose client is gone, when the last follower leaves."""

    def __init__(self, abandon: Callable[[], None]) -> None:
        self.followers = 0
        self.is_orphan = False
        """The leader's client has left; the work goes on for the followers."""
        self.content_type: str | None = None
        """Of a stream, known once its first piece was published; None of an answer that comes whole."""
        self.has_usage_chunk = False
        self.entry: Entry | None = None
        self.error: Exception | None = None
        self.is_over = False
        self._pieces: list[bytes] = []
        self._news = asyncio.Event()
        self._abandon = abandon

    @property
    def published(self) -> bytes:
        """All that was published so far."""
        return b"".join(self._pieces)

    def publish(self, data: bytes, content_type: str, *, has_usage_chunk: bool) -> None:
        """The leader was sent this piece of a stream."""
        self.content_type, self.has_usage_chunk = content_type, has_usage_chunk
        self._pieces.append(data)
        self._tell()

    def land(self, entry: Entry | None, error: Exception | None) -> None:
        """The answer is complete, or none came that others could use."""
        self.entry, self.error, self.is_over = entry, error, True
        self._tell()

    @contextmanager
    def following(self) -> Generator[None]:
        """Counts somebody in for as long as they wait."""
        self.followers += 1
        try:
            yield
        finally:
            self.followers -= 1
            if self.is_orphan and not self.followers and not self.is_over:
                self._abandon()

    async def begun(self) -> None:
        """Returns once there is a first piece, or an end."""
        while not self.is_over and not self._pieces:
            await self._news.wait()

    async def over(self) -> None:
        """Returns once it is complete or has failed."""
        while not self.is_over:
            await self._news.wait()

    async def pieces(self) -> AsyncIterator[bytes]:
        """What was published so far, then each piece as it comes; ends with the flight."""
        place = 0
        while True:
            if place < len(self._pieces):
                data = b"".join(self._pieces[place:])
                place = len(self._pieces)
                yield data
            elif self.is_over:
                return
            else:
                await self._news.wait()

    def _tell(self) -> None:
        # A new event for what comes next: whoever waits on the old one sees it set, however late it runs.
        news, self._news = self._news, asyncio.Event()
        news.set()
