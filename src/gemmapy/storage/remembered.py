"""What a process remembers of the past: answers of closed buckets, which do not change but by late changes.

Kept for readers only, by engine. A reader looks with the books' revision of its own snapshot: days that were changed
since are forgotten first, and a reader whose snapshot is older than what is remembered goes without. At most
`MOST_CELLS` numbers are kept; what was not asked for longest goes first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

MOST_CELLS = 4_000_000
"""Some 150 MB at most; a quarter of a year by user and model is about a tenth of it."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    start: int
    end: int
    cells: int
    value: T


class Remembered:
    """A cache of answers about spans of time that are over."""

    def __init__(self, most_cells: int = MOST_CELLS) -> None:
        self._most_cells = most_cells
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[Any]] = OrderedDict()
        self._cells = 0
        self._revision = -1

    def is_current(self, revision: int, changed_since: Callable[[int], Mapping[int, int]]) -> bool:
        """Whether a reader at `revision` may use it. `changed_since` tells which days, by their first seconds, changed
        after a revision, and to which."""
        with self._lock:
            if revision > self._revision:
                if self._entries:
                    self._forget(changed_since(self._revision))
                self._revision = revision
            return revision == self._revision

    def _forget(self, changed: Mapping[int, int]) -> None:
        stale = [
            key for key, entry in self._entries.items() if any(entry.start - 86_399 <= d < entry.end for d in changed)
        ]
        for key in stale:
            self._cells -= self._entries.pop(key).cells

    def get(self, key: Hashable, revision: int) -> Any:
        """What is remembered under a key; None where nothing is, or the reader's snapshot is another."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or revision != self._revision:
                return None
            self._entries.move_to_end(key)
            return entry.value

    def put(self, key: Hashable, revision: int, span: tuple[int, int], cells: int, value: Any) -> None:
        """Remembers an answer about `span` (seconds since 1970) that a reader at `revision` found."""
        with self._lock:
            if revision != self._revision or cells > self._most_cells // 2:
                return
            known = self._entries.pop(key, None)
            self._cells += cells - (0 if known is None else known.cells)
            self._entries[key] = _Entry(*span, cells, value)
            while self._cells > self._most_cells:
                _, oldest = self._entries.popitem(last=False)
                self._cells -= oldest.cells
