"""Answers that are kept: do we have it?

In memory, bounded by bytes, entries and age; the one that was used longest ago goes first. Behind it, where the
operator turns that on, the shelf on disk. What is held is complete answers as their clients got them, under keys that
`sameness.py` makes of everything that shapes an answer. Lives in the event loop: called from nowhere else.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from gemmapy.core.clock import Clock
from gemmapy.core.errors import StorageUnavailable
from gemmapy.gateway.entry import Entry
from gemmapy.gateway.flight import Flight
from gemmapy.gateway.shelf import Shelf

ENTRY_OVERHEAD_BYTES = 1_024
"""Of the objects around an entry's bytes, about."""
LARGEST_SHARE = 8
"""An answer may take up one part in so many of the whole cache."""
_NS = 1_000_000_000


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
    from_disk: int = 0
    """Hits on an answer that was on disk and no more in memory."""
    evictions: int = 0
    expired: int = 0


@dataclass(slots=True)
class _Kept:
    entry: Entry
    until_ns: int
    size: int


class AnswerCache:
    """The answers, and those that are being made."""

    def __init__(self, limits: CacheLimits, clock: Clock, shelf: Shelf | None = None) -> None:
        self.limits = limits
        self.shelf = shelf
        """The answers on disk; None: none is stored."""
        self.counts = CacheCounts()
        self.bytes = 0
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._flights: dict[bytes, Flight] = {}
        self._clearings = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def find(self, key: bytes) -> Entry | None:
        """The answer, if it is here or on disk, and young enough."""
        entry = self.get(key)
        shelf = self.shelf
        if shelf is None:
            return entry
        if entry is None:
            clearings = self._clearings
            stored = await shelf.get(key)
            entry = self.get(key)  # it may have come meanwhile
            if entry is not None or stored is None or clearings != self._clearings:
                return entry
            entry = stored.entry
            self.counts.from_disk += 1
            self._hold(key, entry, self.limits.ttl_s - stored.age_s)
        shelf.touch(key)
        return entry

    def get(self, key: bytes) -> Entry | None:
        """The answer, if it is in memory and young enough."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self._clock.monotonic_ns() >= kept.until_ns:
            self._drop(key)
            self.counts.expired += 1
            return None
        self._kept.move_to_end(key)
        return kept.entry

    def put(self, key: bytes, entry: Entry, user_id: int) -> bool:
        """Keeps an answer that the user asked for, at the cost of those that were used longest ago; False where it is
        too large for the memory."""
        if self.shelf is not None:
            self.shelf.put(key, entry, user_id)
        return self._hold(key, entry, self.limits.ttl_s)

    def hit(self, model: str, saved_nusd: int | None) -> None:
        self.counts.hits[model] += 1
        self.counts.saved_nusd[model] += saved_nusd or 0

    def miss(self, model: str) -> None:
        self.counts.misses[model] += 1

    async def clear(self, which: Callable[[str], bool] | None = None) -> int:
        """Forgets the answers of the models that `which` chooses, else all; returns how many there were.

        Raises StorageUnavailable where those on disk cannot be deleted.
        """
        self._clearings += 1
        gone = {key for key, kept in self._kept.items() if which is None or which(kept.entry.model)}
        for key in gone:
            self._drop(key)
        return len(gone | await self._on_disk(None if self.shelf is None else self.shelf.clear(which)))

    async def clear_expired(self) -> int:
        """Forgets what is too old; returns how many there were. Raises as `clear`."""
        now_ns = self._clock.monotonic_ns()
        gone = {key for key, kept in self._kept.items() if now_ns >= kept.until_ns}
        for key in gone:
            self._drop(key)
        gone |= await self._on_disk(None if self.shelf is None else self.shelf.clear_expired())
        self.counts.expired += len(gone)
        return len(gone)

    async def _on_disk(self, clearing: Coroutine[Any, Any, set[bytes] | None] | None) -> set[bytes]:
        if clearing is None or self.shelf is None:
            return set()
        gone = await clearing
        if gone is None:
            raise StorageUnavailable(
                f"Answers on disk could not be deleted: {self.shelf.file.trouble}.",
                hint="Those in memory are forgotten. Clear all, which deletes the whole file, or delete answers.db.",
            )
        return gone

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

    def _hold(self, key: bytes, entry: Entry, ttl_s: float) -> bool:
        size = len(entry.body) + len(key) + ENTRY_OVERHEAD_BYTES
        if size * LARGEST_SHARE > self.limits.max_bytes or not self.limits.max_entries:
            return False
        if key in self._kept:
            self._drop(key)
        self._kept[key] = _Kept(entry, self._clock.monotonic_ns() + int(ttl_s * _NS), size)
        self.bytes += size
        while self.bytes > self.limits.max_bytes or len(self._kept) > self.limits.max_entries:
            self._drop(next(iter(self._kept)))
            self.counts.evictions += 1
        return True

    def _drop(self, key: bytes) -> None:
        self.bytes -= self._kept.pop(key).size
