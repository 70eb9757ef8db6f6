"""The time, passed in so that tests can hold it still."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What tells the time. `now` may step back (NTP, an operator); `monotonic_ns` never does."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds from an arbitrary start: for durations only."""
        ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's own."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()
