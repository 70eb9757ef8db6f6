"""How an upstream is doing: what is under way there, its breaker, and what it has been asked since the start.

Told by the gateway of every attempt (`begin`, then one verdict, then `end`), and by the catalogue, which asks for its
models in the background. Read by the choice among upstreams and by whoever shows their state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gemmapy.upstreams.breaker import Breaker

_NS = 1_000_000_000


@dataclass(slots=True)
class Health:
    """Of one upstream, in this process. Times are monotonic nanoseconds."""

    breaker: Breaker = field(default_factory=Breaker)
    answers: bool = True
    """Whether it gave its list of models when it was last asked."""
    in_flight: int = 0
    attempts: int = 0
    failures: int = 0
    rests_until_ns: int = 0
    """It has asked not to be asked until then (`Retry-After`)."""

    def allows(self, now_ns: int) -> bool:
        return self.breaker.allows(now_ns)

    def works(self, now_ns: int) -> bool:
        """Whether nothing speaks against it."""
        return self.answers and self.allows(now_ns) and not self.rests(now_ns)

    def rests(self, now_ns: int) -> bool:
        return now_ns < self.rests_until_ns

    def begin(self, now_ns: int) -> bool:
        """An attempt begins; what it returns goes with the verdict."""
        self.in_flight += 1
        self.attempts += 1
        return self.breaker.begin(now_ns)

    def end(self) -> None:
        """The attempt is over, whatever became of it."""
        self.in_flight -= 1

    def succeeded(self, now_ns: int, *, is_try: bool = False) -> None:
        self.breaker.succeeded(now_ns, is_try=is_try)

    def failed(self, now_ns: int, *, is_try: bool = False) -> None:
        self.failures += 1
        self.breaker.failed(now_ns, is_try=is_try)

    def abandoned(self, now_ns: int, *, is_try: bool) -> None:
        self.breaker.abandoned(now_ns, is_try=is_try)

    def rest(self, now_ns: int, wait_s: float) -> None:
        """It is busy and has said for how long."""
        self.rests_until_ns = now_ns + int(wait_s * _NS)
