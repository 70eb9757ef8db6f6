"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FixedClock:
    """Starts at 2026-11-24 10:00 UTC."""

    def __init__(self, now: datetime = datetime(2026, 11, 24, 10, tzinfo=UTC)) -> None:
        self._now = now
        self._ns = 1_000_000_000

    def now(self) -> datetime:
        return self._now

    def monotonic_ns(self) -> int:
        return self._ns

    def go_on(self, **span: float) -> None:
        """Moves on by `days=`, `hours=`, `seconds=` ..."""
        delta = timedelta(**span)
        self._now += delta
        self._ns += int(delta.total_seconds() * 1e9)

    def step(self, **span: float) -> None:
        """Is set to another time, as by NTP or by hand: durations know nothing of it."""
        self._now += timedelta(**span)
