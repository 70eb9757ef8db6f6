"""Answers that are kept: do we have it?

In memory, bounded by bytes, entries and age; the one that was used longest ago goes first. What is held is complete
answers as their clients got them, under keys that `sameness.py` makes of everything that shapes an answer. Lives in the
event loop: called from nowhere else.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from gemmapy.core.clock import Clock
from gemmapy.core.records import Usage
from gemmapy.gateway.flight import Flight

ENTRY_OVERHEAD_BYTES = 1_024
"""Of the objects around an entry's bytes, about."""
LARGEST_SHARE = 8
"""An answer may take up one part in so many of the whole cache."""
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete answer."""

    model: str
    body: bytes
    """As the client got it, without what GemmaPy adds for one request: a whole object, or all frames of a stream."""
    is_stream: bool
    has_usage_chunk: bool
    """An OpenAI stream whose client had asked for the usage chunk."""
    content_type: str
    usage: Usage
    compute_ms: int | None = None
    finish_reason: str | None = None


NOTHING_YET = Entry("", b"", is_stream=False, has_usage_chunk=False, content_type="", usage=Usage())
"""What a request has that waits for another's answer."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What the operator allows. `ttl_s` is from when an answer was made, not from when it was last used."""

    max_bytes: int = 64 * 1024 * 1024
    max_entries: int = 10_000
    ttl_s: float = 3_600


@dataclass(slots=True)
class CacheCounts:
    """What happened since the start; by model as well, of models that the upstreams list."""

    hits: Counter[str] = field(default_factory=Counter[str])
    misses: Counter[str] = field(default_factory=Counter[str])
    saved_nusd: Counter[str] = field(default_factory=Counter[str])
    joined: int = 0
    """Hits on an answer that was still being made."""
    evictions: int = 0
    expired: int = 0


@dataclass(slots=True)
class _Kept:
    entry: Entry
    until_ns: int
    size: int


class AnswerCache:
    """The answers, and those that are being made."""

    def __init__(self, limits: CacheLimits, clock: Clock) -> None:
        self.limits = limits
        self.counts = CacheCounts()
        self.bytes = 0
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._flights: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> Entry | None:
        """The answer, if it is here and young enough."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self._clock.monotonic_ns() >= kept.until_ns:
            self._drop(key)
            self.counts.expired += 1
            return None
        self._kept.move_to_end(key)
        return kept.entry

    def put(self, key: bytes, entry: Entry) -> bool:
        """Keeps an answer, at the cost of those that were used longest ago; False where it is too large."""
        size = len(entry.body) + len(key) + ENTRY_OVERHEAD_BYTES
        if size * LARGEST_SHARE > self.limits.max_bytes or not self.limits.max_entries:
            return False
        if key in self._kept:
            self._drop(key)
        self._kept[key] = _Kept(entry, self._clock.monotonic_ns() + int(self.limits.ttl_s * _NS), size)
        self.bytes += size
        while self.bytes > self.limits.max_bytes or len(self._kept) > self.limits.max_entries:
            self._drop(next(iter(self._kept)))
            self.counts.evictions += 1
        return True

    def hit(self, model: str, saved_nusd: int | None) -> None:
        self.counts.hits[model] += 1
        self.counts.saved_nusd[model] += saved_nusd or 0

    def miss(self, model: str) -> None:
        self.counts.misses[model] += 1

    def clear(self, which: Callable[[str], bool] | None = None) -> int:
        """Forgets the answers of the models that `which` chooses, else all; returns how many there were."""
        keys = [key for key, kept in self._kept.items() if which is None or which(kept.entry.model)]
        for key in keys:
            self._drop(key)
        return len(keys)

    def clear_expired(self) -> int:
        """Forgets what is too old; returns how many there were."""
        now_ns = self._clock.monotonic_ns()
        keys = [key for key, kept in self._kept.items() if now_ns >= kept.until_ns]
        for key in keys:
            self._drop(key)
        self.counts.expired += len(keys)
        return len(keys)

    def held(self) -> dict[str, tuple[int, int]]:
        """Entries and bytes of each model."""
        held: dict[str, tuple[int, int]] = {}
        for kept in self._kept.values():
            entries, size = held.get(kept.entry.model, (0, 0))
            held[kept.entry.model] = (entries + 1, size + kept.size)
        return held

    def flight(self, key: bytes) -> Flight | None:
        """The answer to the same question that is being made at this moment."""
        return self._flights.get(key)

    def take_off(self, key: bytes, flight: Flight) -> None:
        """An answer is being made; who asks the same from now on can wait for it, if it is the first."""
        self._flights.setdefault(key, flight)

    def land(self, key: bytes, flight: Flight, entry: Entry | None, error: Exception | None = None) -> None:
        """It is made, or will not be."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.land(entry, error)

    def _drop(self, key: bytes) -> None:
        self.bytes -= self._kept.pop(key).size
