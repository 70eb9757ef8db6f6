"""The time, passed in so that tests can hold it still."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """What tells the time. `now` may step back (NTP, an operator); `monotonic_ns` never does."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds from an arbitrary start: for durations only."""
        ...


class SystemClock:
    """The machine's own. Not methods that call these, but these: each request asks a dozen times."""

    now = staticmethod(partial(datetime.now, UTC))
    monotonic_ns = staticmethod(time.monotonic_ns)
