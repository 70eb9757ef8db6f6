"""Who is inside the gateway, and how much they carry: a bounded number of requests, and of bytes of their bodies.

The first thing that happens to a request whose caller is known. What is full is said at once, before a body is read,
with 503; where it is one caller who fills it, that one is told (429) while there is still room for others. So the
memory of requests is bounded whatever comes: `requests` of them, each with 64 KiB that are not counted, and
`body_bytes` beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

from gemmapy.core.clock import Clock
from gemmapy.core.errors import LimitReached, Overloaded
from gemmapy.storage.store import Store

FREE_BODY_BYTES = 64 * 1024
"""Of each body these are not counted, so that small requests pass where large ones do not."""
WRITES_WAITING = 5_000
"""So many records that wait to be written close the door: what came now would be answered too late."""
REFUSALS_WRITTEN_PER_S = 20
"""Of each caller; the others are counted."""
GENEROSITY = 4
"""A caller may have so many times what is free. One alone gets four fifths; there is always some left for others."""


@dataclass(slots=True)
class Room:
    """A bounded amount that callers share; each may have `GENEROSITY` times what is left (dynamic thresholds, as
    switches share their buffers)."""

    limit: int
    used: int = 0
    _of: dict[Hashable, int] = field(default_factory=dict[Hashable, int])

    def take(self, caller: Hashable, amount: int) -> Literal["taken", "own", "full"]:
        """Takes it, or says why it cannot: most of what is used is the caller's own, or it is not."""
        free = self.limit - self.used - amount
        own = self._of.get(caller, 0)
        if free < 0 or own + amount > GENEROSITY * free + 1:
            return "own" if 2 * own > self.used else "full"
        self.used += amount
        self._of[caller] = own + amount
        return "taken"

    def give_back(self, caller: Hashable, amount: int) -> None:
        self.used -= amount
        left = self._of[caller] - amount
        if left:
            self._of[caller] = left
        else:
            del self._of[caller]


@dataclass(slots=True)
class Shed:
    """Turned away since the start, by what was full."""

    requests: int = 0
    bodies: int = 0
    writes: int = 0
    callers: int = 0
    """Of these: because of what their own caller had inside (429)."""
    unwritten: int = 0
    """Refusals without a row, since their caller had many in the same second."""


class Visit:
    """One request, from the door to its end."""

    __slots__ = ("_caller", "_carried", "_door", "_is_inside")

    def __init__(self, door: Door, caller: Hashable, *, is_inside: bool) -> None:
        self._door = door
        self._caller = caller
        self._carried = 0
        self._is_inside = is_inside

    def carry(self, size: int) -> None:
        """Its body has so many bytes by now. Raises Overloaded or LimitReached where they do not fit."""
        counted = size - FREE_BODY_BYTES
        if counted > self._carried:
            self._door.carry(self._caller, counted - self._carried)
            self._carried = counted

    def leave(self) -> None:
        """It is over; again changes nothing."""
        if self._carried:
            self._door.bodies.give_back(self._caller, self._carried)
            self._carried = 0
        if self._is_inside:
            self._is_inside = False
            self._door.requests.give_back(self._caller, 1)


class Door:
    """Of one process."""

    def __init__(self, store: Store, clock: Clock, *, requests: int, body_bytes: int) -> None:
        self._store = store
        self._clock = clock
        self._refusals_s = 0
        self._refusals: Counter[Hashable] = Counter()
        """Of each caller in that second."""
        self.requests = Room(requests)
        self.bodies = Room(body_bytes)
        self.shed = Shed()

    def enter(self, caller: Hashable) -> Visit:
        """Lets a request in. Raises Overloaded, or LimitReached where its own caller has too many inside."""
        if self._store.waiting >= WRITES_WAITING:
            self.shed.writes += 1
            raise Overloaded("Too many records wait to be written.", retry_after_s=1)
        verdict = self.requests.take(caller, 1)
        if verdict != "taken":
            self.shed.requests += 1
            self._refuse(verdict, f"{self.requests.used} requests are under way; {self.requests.limit} may be.")
        return Visit(self, caller, is_inside=True)

    def visitor(self, caller: Hashable = None) -> Visit:
        """A request that is not counted itself, only what it carries."""
        return Visit(self, caller, is_inside=False)

    def carry(self, caller: Hashable, amount: int) -> None:
        """What `Visit.carry` asks for."""
        verdict = self.bodies.take(caller, amount)
        if verdict != "taken":
            self.shed.bodies += 1
            mib = self.bodies.limit // 2**20
            self._refuse(
                verdict, f"The bodies of requests that are under way fill the {mib} MiB that there are for them."
            )

    def notes(self, caller: Hashable) -> bool:
        """Whether a refusal of the caller is written down: a client that asks in a circle must not fill the disk."""
        now_s = self._clock.monotonic_ns() // 1_000_000_000
        if now_s != self._refusals_s:
            self._refusals_s, self._refusals = now_s, Counter()
        self._refusals[caller] += 1
        if self._refusals[caller] <= REFUSALS_WRITTEN_PER_S:
            return True
        self.shed.unwritten += 1
        return False

    def _refuse(self, verdict: Literal["own", "full"], message: str) -> None:
        if verdict == "own":
            self.shed.callers += 1
            raise LimitReached(f"{message} Most are your own.", retry_after_s=1)
        raise Overloaded(message, retry_after_s=1)
