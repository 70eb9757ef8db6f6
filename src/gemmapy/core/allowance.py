"""What somebody may use at most: the limits of a user, of a key, or of everybody who has none of their own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """None: nothing of its own is said, so what is said of everybody holds. Zero: no limit."""

    concurrent: int | None = None
    """Requests at once."""
    concurrent_per_model: int | None = None
    """Requests at once with any one model."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said at all."""
        return self == _EMPTY

    def over(self, others: Allowance) -> Allowance:
        """What holds where these limits come before `others`."""
        return Allowance(
            _first(self.concurrent, others.concurrent),
            _first(self.concurrent_per_model, others.concurrent_per_model),
            _first(self.requests_per_minute, others.requests_per_minute),
            _first(self.tokens_per_minute, others.tokens_per_minute),
        )


_EMPTY = Allowance()


def _first(value: int | None, other: int | None) -> int | None:
    return other if value is None else value
