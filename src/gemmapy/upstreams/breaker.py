"""A circuit breaker: after too many failures nobody is sent to an upstream for a while, then one request tries.

A pure state machine: told what happened and when, it says whether a request may go. Counting is by spells of
`window_s`, so it takes no memory that grows; a run of failures across the border of two spells is seen a little later.

    closed --- `failures` in a spell, and at least half of all ---> open
    open --- `open_s` later, twice as long after each vain try ---> half-open: one request may try
    half-open --- it succeeds ---> closed          --- it fails ---> open
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When it opens, and for how long."""

    failures: int = 5
    """So many in one spell, and at least half of the spell's requests; 0: it never opens."""
    window_s: float = 30
    open_s: float = 5
    longest_open_s: float = 60


class Breaker:
    """Of one upstream. Times are monotonic nanoseconds."""

    def __init__(self, settings: BreakerSettings | None = None) -> None:
        self._settings = settings or BreakerSettings()
        self._spell_ns = 0
        self._good = 0
        self._bad = 0
        self._open_s = 0.0
        """For how long it is open; 0 while it is closed."""
        self._try_at_ns = 0
        """From when on a request may try, while it is open."""
        self.opened = 0
        """How often it has opened, tries in vain included."""

    def state(self, now_ns: int) -> State:
        if not self._open_s:
            return "closed"
        return "half-open" if now_ns >= self._try_at_ns else "open"

    def allows(self, now_ns: int) -> bool:
        """Whether a request may go; changes nothing, since it is asked of every upstream of which one is chosen."""
        return not self._open_s or now_ns >= self._try_at_ns

    def retry_after_s(self, now_ns: int) -> float:
        """How long until a request may try; 0 where one may now."""
        return max(0.0, (self._try_at_ns - now_ns) / _NS) if self._open_s else 0.0

    def begin(self, now_ns: int) -> bool:
        """A request goes; True where it is a try, which is to be said with its verdict.

        A try that has none yet holds others back for as long as the breaker was open, not for as long as it takes: a
        model may be thinking.
        """
        if self._open_s:
            self._try_at_ns = now_ns + int(self._open_s * _NS)
        return bool(self._open_s)

    def abandoned(self, now_ns: int, *, is_try: bool) -> None:
        """A request ended without a verdict: its client left."""
        if is_try and self._open_s:
            self._try_at_ns = now_ns

    def succeeded(self, now_ns: int, *, is_try: bool) -> None:
        if not self._open_s:
            self._turn(now_ns)
            self._good += 1
        elif is_try:  # what began before it opened says nothing of now
            self._open_s = 0.0
            self._spell_ns, self._good, self._bad = now_ns, 0, 0

    def failed(self, now_ns: int, *, is_try: bool) -> None:
        if not self._open_s:
            self._turn(now_ns)
            self._bad += 1
            if self._settings.failures and self._bad >= self._settings.failures and self._bad >= self._good:
                self._open(now_ns, self._settings.open_s)
        elif is_try:
            self._open(now_ns, min(self._open_s * 2, self._settings.longest_open_s))

    def hopeful(self, now_ns: int) -> None:
        """Something else has seen the upstream answer: the next request may try at once."""
        if self._open_s:
            self._try_at_ns = min(self._try_at_ns, now_ns)

    def _open(self, now_ns: int, open_s: float) -> None:
        self._open_s, self._try_at_ns = open_s, now_ns + int(open_s * _NS)
        self.opened += 1

    def _turn(self, now_ns: int) -> None:
        if now_ns - self._spell_ns >= self._settings.window_s * _NS:
            self._spell_ns, self._good, self._bad = now_ns, 0, 0
