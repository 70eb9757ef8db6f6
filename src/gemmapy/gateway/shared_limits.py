"""Callers' limits where several processes answer: one counts for all (`CountersDesk`), the others ask it
(`SharedCounters`).

What a process has taken is given back when it dies. If the one that counts dies, the others tell the next what runs;
what it had counted of the last minute is forgotten.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from gemmapy.core.errors import StorageUnavailable
from gemmapy.gateway.limits import Claim, Counters, Refusal, Standing

SUBJECT, SUBJECT_BACK = "limits", "limits given back"
_AWAY = "Limits cannot be checked now: the process that counts is starting again."


class SharedCounters:
    """`Counting` by asking. In the event loop only."""

    def __init__(self, slot: int, ask: Callable[[Any], Awaitable[Any]], tell: Callable[[Any], None]) -> None:
        self._slot = slot
        self._ask = ask
        self._tell = tell
        self._numbers = itertools.count(1)
        self._taken: dict[int, tuple[int, Sequence[Claim]]] = {}
        """By the identity of the claims, which their request keeps: the number under which they are known."""

    async def take(self, claims: Sequence[Claim]) -> Refusal | Sequence[Standing]:
        number = next(self._numbers)
        answer = None
        try:
            answer = await self._ask(["take", self._slot, number, msgspec.to_builtins(claims)])
        finally:
            if answer is None:  # nobody waits any more, or nobody answered: what may have been taken is given back
                self._tell(["back", self._slot, number, 0, 0])
        if answer is None:
            raise StorageUnavailable(_AWAY, retry_after_s=1)
        if "refusal" in answer:
            return msgspec.convert(answer["refusal"], Refusal)
        self._taken[id(claims)] = (number, claims)
        return msgspec.convert(answer["standings"], list[Standing])

    def give_back(self, claims: Sequence[Claim], tokens: int, held_ns: int) -> None:
        number, _ = self._taken.pop(id(claims))
        self._tell(["back", self._slot, number, tokens, held_ns])

    async def standing(self, claims: Sequence[Claim]) -> Sequence[Standing]:
        answer = await self._ask(["standing", self._slot, 0, msgspec.to_builtins(claims)])
        if answer is None:
            raise StorageUnavailable(_AWAY, retry_after_s=1)
        return msgspec.convert(answer["standings"], list[Standing])

    def tell_again(self) -> None:
        """Another process counts now, and knows nothing yet."""
        for number, claims in self._taken.values():
            running = [claim for claim in claims if claim.kind == "concurrent"]
            self._tell(["held", self._slot, number, msgspec.to_builtins(running)])


class CountersDesk:
    """Counts for the others, with the counters that this process has. In its event loop only."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._given: dict[tuple[int, int], Sequence[Claim]] = {}

    async def answer(self, said: Any) -> Any:
        what, slot, number, claimed = said
        claims = msgspec.convert(claimed, list[Claim])
        if what == "standing":
            return {"standings": msgspec.to_builtins(await self._counters.standing(claims))}
        verdict = await self._counters.take(claims)
        if isinstance(verdict, Refusal):
            return {"refusal": msgspec.to_builtins(verdict)}
        self._given[slot, number] = claims
        return {"standings": msgspec.to_builtins(verdict)}

    def hear(self, said: Any) -> None:
        what, slot, number, *rest = said
        if what == "held":
            claims = msgspec.convert(rest[0], list[Claim])
            self._counters.hold(claims)
            self._given[slot, number] = claims
            return
        tokens, held_ns = rest
        claims = self._given.pop((slot, number), ())
        if claims:
            self._counters.give_back(claims, tokens, held_ns)

    def gone(self, slot: int) -> None:
        """A process has ended. What its requests would have used nobody knows, so what was estimated stays."""
        for key in [key for key in self._given if key[0] == slot]:
            claims = self._given.pop(key)
            tokens = next((claim.amount for claim in claims if claim.kind == "tokens"), 0)
            self._counters.give_back(claims, tokens, 0)
