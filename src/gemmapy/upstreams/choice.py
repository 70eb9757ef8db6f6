"""Which of the upstreams that have a model gets a request: one that works, knows the conversation, or is idle.

Pure: candidates in, one out. A conversation goes where it began, so that the engine's prompt cache helps, unless that
upstream has no free place where another has, or is clearly busier. Where it begins is by rendezvous hashing: no table,
and an upstream that comes or goes moves only its own share.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b

from gemmapy.upstreams.upstream import Upstream

CLEARLY_BUSIER = 2
"""So many more requests under way than at the least busy one outweigh a warm prompt cache."""


def choose(
    candidates: Sequence[Upstream], now_ns: int, prefix: bytes | None = None, tried: Collection[str] = ()
) -> Upstream | None:
    """The best candidate; None where no breaker lets a request through. `tried` are names that come last."""
    if len(candidates) == 1:
        return candidates[0] if candidates[0].health.allows(now_ns) else None
    allowed = [upstream for upstream in candidates if upstream.health.allows(now_ns)]
    if len(allowed) <= 1:
        return allowed[0] if allowed else None
    allowed = [upstream for upstream in allowed if upstream.name not in tried] or allowed
    allowed = [upstream for upstream in allowed if upstream.health.answers] or allowed
    allowed = [upstream for upstream in allowed if not upstream.health.rests(now_ns)] or allowed
    allowed = [upstream for upstream in allowed if upstream.places.has_room] or allowed
    least = min(allowed, key=lambda upstream: (_load(upstream), upstream.health.attempts))
    if prefix is None:
        return least
    home = max(allowed, key=lambda upstream: blake2b(upstream.name.encode(), digest_size=8, key=prefix).digest())
    return least if _load(home) - _load(least) >= CLEARLY_BUSIER else home


def _load(upstream: Upstream) -> int:
    """How many requests are under way there or wait for a place."""
    return upstream.health.in_flight + upstream.places.waiting
