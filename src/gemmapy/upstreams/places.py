"""The places at an upstream, and the fair queue in front of them.

A pure state machine, in one process's memory: told who comes, who leaves and what time it is. A request takes a place
before it is sent and gives it back once its answer is over; where none is free it waits in its caller's line. A freed
place goes to the line that has used least, start-time fair queueing: each grant moves a line forward by what it costs
over its weight, and a line that was empty begins where the others are, so that nobody saves up and nobody is made to
wait for what others have queued.

The cost is the time for which a place is held, since that is what one keeps from others: assumed to be the mean when it
is granted, corrected when it is given back. Requests would give a caller of long answers nearly all of the time; tokens
do not say how long a model takes, and have to be guessed beforehand. While nobody waits, nothing is counted.

A place that nobody waits for takes over who waits in front of another upstream and may come here as well.

Invariant: no place is given while `count` are taken, and while anybody waits no place is free that they could have.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from gemmapy.core.errors import LimitReached, Overloaded

_WEIGHT_OF_NEWEST = 0.1
"""In the running mean of how long a place is held."""
_LINES_LOOKED_AT = 64
"""For somebody who may come to another upstream: more would cost more than it brings."""
HOPEFUL = 0.8
"""Of the longest wait, as it is expected: an expectation is not exact, and who is let in shall have a place in time."""
UNMEASURED_S = 5
"""What is told to those who are turned away before any place was given back."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many may wait in front of one upstream, and how long."""

    waiting: int = 2_000
    waiting_per_caller: int = 500
    longest_wait_s: float = 300


@dataclass(slots=True, eq=False)
class Place:
    """One request's place, or its wait for one. `give_back` ends either; again changes nothing."""

    places: Places
    since_ns: int
    """From when on it waits, or is held."""
    line: _Line | None = None
    """Where it waits, or has waited."""
    is_waiting: bool = False
    is_over: bool = False
    charged_ms: float = 0
    """What its line was charged when its turn came."""
    elsewhere: Collection[Places] = ()
    """Where else it may be, while it waits."""
    coming: asyncio.Future[None] | None = None
    """Resolves when its turn comes, for whoever waits in `turn`."""

    async def lined_up(self) -> None:
        """Returns once it is granted or waits; raises LimitReached or Overloaded where it is neither. Here, at once."""

    async def turn(self) -> None:
        """Returns once the place is there; `places` then says where. Whoever is cancelled meanwhile gives back all the
        same."""
        if self.is_waiting:
            self.coming = asyncio.get_running_loop().create_future()
            await self.coming

    def give_back(self, now_ns: int) -> None:
        """The request is over, or does not wait any longer."""
        if not self.is_over:
            self.is_over = True
            self.places.give_back(self, now_ns)


@dataclass(slots=True, eq=False)
class _Line:
    """One caller's requests."""

    weight: float
    finish: float
    """In virtual time: place-milliseconds over weight."""
    waiting: OrderedDict[Place, None] = field(default_factory=OrderedDict[Place, None])
    running: int = 0
    """Of those that were granted while others waited."""
    listed: int = 0
    """The number of its entry among those that are next; 0: none. Entries of other numbers are out of date."""


@dataclass(slots=True)
class QueueCounts:
    """Since the start."""

    waited: int = 0
    """That got a place after a wait."""
    left: int = 0
    """That did not wait any longer: their clients had left, or it took too long."""
    refused_caller: int = 0
    """Turned away because of what their own caller has waiting."""
    refused_full: int = 0
    """Turned away because too many others wait."""


class Places:
    """Of one upstream. Times are monotonic nanoseconds."""

    def __init__(self, count: int | None = None, limits: QueueLimits | None = None) -> None:
        self.count = count
        """How many requests it is asked at once; None: any number."""
        self.limits = limits or QueueLimits()
        self.taken = 0
        self.waiting = 0
        self.mean_ms: float | None = None
        """For how long a place is held."""
        self.counts = QueueCounts()
        self.others: Sequence[Places] = ()
        """Of the other upstreams."""
        self.works: Callable[[int], bool] = _always
        """Whether the upstream is well, at a moment: one that fails at once must not draw everybody to it."""
        self._lines: dict[Hashable, _Line] = {}
        self._next: list[tuple[float, int, _Line]] = []
        """Each waiting line once, by the virtual time at which its first one may start."""
        self._listed = 0
        self._virtual = 0.0

    @property
    def has_room(self) -> bool:
        """Whether who asks now need not wait."""
        return self.count is None or self.taken < self.count

    @property
    def load(self) -> int:
        """How many are under way or wait."""
        return self.taken + self.waiting

    @property
    def callers_waiting(self) -> int:
        return sum(1 for line in self._lines.values() if line.waiting)

    def ask(self, caller: Hashable, weight: float, now_ns: int) -> Place:
        """A place, or a wait for one.

        Raises LimitReached where the caller has too many waiting, Overloaded where the queue is full or the wait would
        be too long; both say when to come back.
        """
        if self.count is None or self.taken < self.count:
            self.taken += 1
            return Place(self, now_ns)
        line = self._lines.get(caller)
        self._check(line, weight)
        if line is None:
            self._tidy()
            line = self._lines[caller] = _Line(weight, self._virtual)
        line.weight = weight
        place = Place(self, now_ns, line, is_waiting=True)
        line.waiting[place] = None
        self.waiting += 1
        if not line.listed:
            self._list(line)
        return place

    def give_back(self, place: Place, now_ns: int) -> None:
        """What `Place.give_back` does."""
        line = place.line
        if place.is_waiting:
            assert line is not None
            del line.waiting[place]
            self.waiting -= 1
            self.counts.left += 1
            place.is_waiting = False
        else:
            held_ms = (now_ns - place.since_ns) / 1_000_000
            mean_ms = self.mean_ms
            self.mean_ms = held_ms if mean_ms is None else mean_ms + _WEIGHT_OF_NEWEST * (held_ms - mean_ms)
            self.taken -= 1
            if line is not None:
                line.running -= 1
                line.finish += (held_ms - place.charged_ms) / line.weight
                if line.waiting:
                    self._list(line)
            while self.waiting and self.has_room:
                self._grant(now_ns)
            if not self.waiting and self.others and self.works(now_ns):
                self._take_over(now_ns)
        self._forget()

    def resize(self, count: int | None, now_ns: int) -> None:
        """It has so many places from now on. Those that are taken beyond it are not given again."""
        self.count = count
        while self._next and self.waiting and self.has_room:
            self._grant(now_ns)
        self._forget()

    def wait_s(self, caller: Hashable, weight: float) -> float | None:
        """How long one more request of the caller would wait, about; None where nothing was measured."""
        return self._wait_s(self._lines.get(caller), weight)

    def _check(self, line: _Line | None, weight: float) -> None:
        limits = self.limits
        own = len(line.waiting) if line is not None else 0
        wait_s = self._wait_s(line, weight)
        if own >= limits.waiting_per_caller:
            self.counts.refused_caller += 1
            raise LimitReached(
                f"You have {own} requests waiting for this model server; {limits.waiting_per_caller} may.",
                retry_after_s=UNMEASURED_S if wait_s is None else wait_s / (own + 1),
            )
        if self.waiting >= limits.waiting:
            self.counts.refused_full += 1
            raise Overloaded(
                f"{self.waiting} requests wait for this model server already; {limits.waiting} may.",
                retry_after_s=UNMEASURED_S if wait_s is None else wait_s / (self.waiting + 1),
            )
        if wait_s is not None and wait_s > HOPEFUL * limits.longest_wait_s:
            message = f"A place at the model server would be free in {wait_s:.0f} s; {limits.longest_wait_s:g} s may be"
            message += " waited."
            again_s = wait_s - HOPEFUL * limits.longest_wait_s
            if own:
                self.counts.refused_caller += 1
                raise LimitReached(message, retry_after_s=again_s)
            self.counts.refused_full += 1
            raise Overloaded(message, retry_after_s=again_s)

    def _wait_s(self, line: _Line | None, weight: float) -> float | None:
        """Before it come its caller's own, and of every other line as many as its weight gives it meanwhile."""
        if self.mean_ms is None or not self.count:
            return None
        own = len(line.waiting) if line is not None else 0
        ahead = float(own)
        for other in self._lines.values():
            if other is not line:
                ahead += min(len(other.waiting), (own + 1) * other.weight / weight)
        return (ahead + 1) * self.mean_ms / self.count / 1000

    def _list(self, line: _Line) -> None:
        """Says when the line's first may start."""
        self._listed += 1  # among equals, who came first
        line.listed = self._listed
        heappush(self._next, (max(line.finish, self._virtual), self._listed, line))
        if len(self._next) > 2 * len(self._lines) + 64:
            self._next = [entry for entry in self._next if entry[2].listed == entry[1]]
            heapify(self._next)

    def _take_over(self, now_ns: int) -> None:
        """Gives free places to those who wait elsewhere and may come here."""
        for busy in self.others:
            while busy.waiting and self.has_room and (place := busy.let_go(self)) is not None:
                self.taken += 1
                self.counts.waited += 1
                place.places, place.line = self, None
                _arrive(place, now_ns)

    def let_go(self, to: Places) -> Place | None:
        """The next one who may also be at `to`, of the first of each line; it does not wait here any longer."""
        passed: list[tuple[float, int, _Line]] = []
        found = None
        while self._next and found is None and len(passed) < _LINES_LOOKED_AT:
            entry = heappop(self._next)
            line = entry[2]
            if line.listed != entry[1]:
                continue
            if not line.waiting:  # all of it has left; who comes next lists it again
                line.listed = 0
                continue
            passed.append(entry)
            first = next(iter(line.waiting))
            if to in first.elsewhere:
                found = first
                del line.waiting[first]
                self.waiting -= 1
        for entry in passed:
            heappush(self._next, entry)
        self._forget()
        return found

    def _forget(self) -> None:
        """What was used counts for nothing once nobody waits."""
        if not self.waiting and self._lines:
            self._lines.clear()
            self._next.clear()
            self._virtual = 0.0

    def _grant(self, now_ns: int) -> None:
        """Gives the next one its place."""
        while True:
            start, number, line = heappop(self._next)
            if line.listed == number:
                line.listed = 0
                if line.waiting:
                    break  # else all of it has left
        place, _ = line.waiting.popitem(last=False)
        self.waiting -= 1
        self.taken += 1
        self.counts.waited += 1
        self._virtual = max(self._virtual, start)
        place.charged_ms = self.mean_ms or 1.0
        line.finish = max(line.finish, self._virtual) + place.charged_ms / line.weight
        line.running += 1
        if line.waiting:
            self._list(line)
        _arrive(place, now_ns)

    def _tidy(self) -> None:
        """Forgets lines that nobody stands in, once they are many: callers may come and go without end."""
        if len(self._lines) > 2 * self.load + 64:
            for line in self._lines.values():
                if not line.waiting:
                    line.listed = 0
            self._lines = {caller: line for caller, line in self._lines.items() if line.waiting or line.running}


def _arrive(place: Place, now_ns: int) -> None:
    place.is_waiting, place.since_ns = False, now_ns
    if place.coming is not None and not place.coming.done():
        place.coming.set_result(None)


def _always(_now_ns: int) -> bool:
    return True
