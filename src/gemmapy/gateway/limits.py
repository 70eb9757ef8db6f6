"""How much each caller may ask: requests at once, requests a minute, tokens a minute.

Two parts. `Limits` knows the rules and turns a request into claims; `Counters` counts, and knows nothing but claims:
plain values that could come over a socket as well, so that one process can count for several. Its whole interface is
`take`, all of a request's claims or none, `give_back`, and `standing` for whoever looks. It is exact: no sixty seconds
ever have more than the limit, which a bucket that refills does not hold (after a pause it lets twice as much through).

Called by `handle.py` for a request whose caller is known. Who has no limits costs a comparison.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gemmapy.core.allowance import Allowance
from gemmapy.core.clock import Clock
from gemmapy.core.errors import LimitReached
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.auth import Caller
from gemmapy.gateway.reply import RawHeaders

Kind = Literal["concurrent", "requests", "tokens"]
_NS = 1_000_000_000
_MINUTE_S = 60
_WEIGHT_OF_NEWEST = 0.1


@dataclass(frozen=True, slots=True)
class Claim:
    """One request against one limit."""

    subject: str
    """Whose limit it is, in words: `user 3`, `key 7`, `user 3 with llama3`, `model llama3`."""
    kind: Kind
    limit: int
    amount: int = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with one limit."""

    claim: Claim
    used: int
    reset_s: float
    """Until all of it is free again; of what runs at once, until one of them has probably ended."""

    @property
    def remaining(self) -> int:
        return max(0, self.claim.limit - self.used)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit was reached, and when the same claim would fit; None: never."""

    standing: Standing
    again_s: float | None


class Counting(Protocol):
    """Who counts: this process, or one that does it for several."""

    async def take(self, claims: Sequence[Claim]) -> Refusal | Sequence[Standing]:
        """Takes all of the claims, and says how it stands with each; or none, and says why."""
        ...

    def give_back(self, claims: Sequence[Claim], tokens: int, held_ns: int) -> None:
        """The request is over: it held what runs at once for so long, and used so many tokens in all."""
        ...

    async def standing(self, claims: Sequence[Claim]) -> Sequence[Standing]:
        """How it stands with each claim's limit; takes nothing."""
        ...


class _Minute:
    """What was counted in each of the last sixty seconds and the one that has begun before them."""

    __slots__ = ("seconds", "total")

    def __init__(self) -> None:
        self.seconds: dict[int, int] = {}
        self.total = 0

    def go_on(self, now_s: int) -> None:
        while self.seconds:
            oldest = next(iter(self.seconds))
            if oldest >= now_s - _MINUTE_S:
                return
            self.total -= self.seconds.pop(oldest)

    def add(self, now_s: int, amount: int) -> None:
        if amount > 0:
            self.seconds[now_s] = self.seconds.get(now_s, 0) + amount
            self.total += amount
        for second in reversed(list(self.seconds)) if amount < 0 else ():
            taken = min(-amount, self.seconds[second])
            self.seconds[second] -= taken
            self.total -= taken
            amount += taken

    def again_s(self, now_s: float, excess: int) -> float:
        """When `excess` of it will be over."""
        for second, amount in self.seconds.items():
            excess -= amount
            if excess <= 0:
                return second + _MINUTE_S + 1 - now_s
        return 0.0

    def reset_s(self, now_s: float) -> float:
        """When all of it will be."""
        return next(reversed(self.seconds), now_s - _MINUTE_S - 1) + _MINUTE_S + 1 - now_s


class Counters:
    """Counts in this process's memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._minutes: dict[tuple[str, Kind], _Minute] = {}
        self._mean_s = 1.0
        """How long a request runs."""

    async def take(self, claims: Sequence[Claim]) -> Refusal | Sequence[Standing]:
        """As `Counting.take`; never waits."""
        now_s = self._clock.monotonic_ns() / _NS
        for claim in claims:
            refusal = self._refusal(claim, now_s)
            if refusal is not None:
                return refusal
        for claim in claims:
            if claim.kind == "concurrent":
                self._running[claim.subject] += claim.amount
            else:
                self._minutes.setdefault((claim.subject, claim.kind), _Minute()).add(int(now_s), claim.amount)
        return await self.standing(claims)

    def hold(self, claims: Sequence[Claim]) -> None:
        """Takes claims on what runs at once, whatever the limits are: another process granted them."""
        for claim in claims:
            self._running[claim.subject] += claim.amount

    def give_back(self, claims: Sequence[Claim], tokens: int, held_ns: int) -> None:
        """As `Counting.give_back`."""
        now_s = int(self._clock.monotonic_ns() / _NS)
        for claim in claims:
            if claim.kind == "concurrent":
                self._mean_s += _WEIGHT_OF_NEWEST * (held_ns / _NS - self._mean_s)
                self._running[claim.subject] -= claim.amount
                if self._running[claim.subject] <= 0:
                    del self._running[claim.subject]
            elif claim.kind == "tokens":
                minute = self._minutes.setdefault((claim.subject, claim.kind), _Minute())
                minute.go_on(now_s)
                minute.add(now_s, tokens - claim.amount)

    async def standing(self, claims: Sequence[Claim]) -> Sequence[Standing]:
        """As `Counting.standing`."""
        now_s = self._clock.monotonic_ns() / _NS
        return [self._standing(claim, now_s) for claim in claims]

    def _standing(self, claim: Claim, now_s: float) -> Standing:
        if claim.kind == "concurrent":
            return Standing(claim, self._running.get(claim.subject, 0), self._mean_s / claim.limit)
        minute = self._minutes.get((claim.subject, claim.kind))
        if minute is None:
            return Standing(claim, 0, 0)
        minute.go_on(int(now_s))
        return Standing(claim, minute.total, max(0.0, minute.reset_s(now_s)) if minute.total else 0)

    def _refusal(self, claim: Claim, now_s: float) -> Refusal | None:
        standing = self._standing(claim, now_s)
        excess = standing.used + claim.amount - claim.limit
        if excess <= 0:
            return None
        if claim.amount > claim.limit:
            return Refusal(standing, None)
        if claim.kind == "concurrent":
            return Refusal(standing, standing.reset_s)
        return Refusal(standing, self._minutes[claim.subject, claim.kind].again_s(now_s, excess))


class Taken:
    """What one request has taken; given back once."""

    __slots__ = ("_claims", "_clock", "_counters", "_since_ns", "headers")

    def __init__(self, counters: Counting, clock: Clock, claims: Sequence[Claim], headers: RawHeaders) -> None:
        self._counters = counters
        self._clock = clock
        self._claims = claims
        self._since_ns = clock.monotonic_ns()
        self.headers = headers

    def give_back(self, tokens: int) -> None:
        """The request is over, and has used so many tokens."""
        claims, self._claims = self._claims, ()
        if claims:
            self._counters.give_back(claims, tokens, self._clock.monotonic_ns() - self._since_ns)


class Limits:
    """The operator's and the admins' rules."""

    def __init__(self, counters: Counting, clock: Clock, everyone: Allowance, models: Mapping[str, int]) -> None:
        self._counters = counters
        self._clock = clock
        self._everyone = everyone
        """Of each user who has none of their own."""
        self.models = models
        """Requests at once with a model, of all callers; a name without a tag is for all its tags."""
        self._is_idle = everyone.is_empty and not models

    def leave_alone(self, caller: Caller) -> bool:
        """Whether nothing can limit the caller, so that there is nothing to count."""
        return self._is_idle and caller.allowance is None and caller.key_allowance is None

    async def take(self, caller: Caller, asked: Asked) -> Taken | None:
        """Counts a request; None where nothing limits it. Raises LimitReached."""
        if self.leave_alone(caller):
            return None
        claims = self.claims(caller, asked.model, asked.prompt_estimate)
        if not claims:
            return None
        verdict = await self._counters.take(claims)
        if isinstance(verdict, Refusal):
            raise _reached(verdict)
        return Taken(self._counters, self._clock, claims, _headers(verdict))

    async def standing(self, caller: Caller) -> Sequence[Standing]:
        """How it stands with the caller's limits, but for those of models."""
        return await self._counters.standing(self.claims(caller, None))

    def of(self, caller: Caller) -> Allowance:
        """The user's limits: their own before what is said of everybody."""
        return self._everyone if caller.allowance is None else caller.allowance.over(self._everyone)

    def claims(self, caller: Caller, model: str | None, prompt_tokens: int = 0) -> list[Claim]:
        """What a request is counted against; without a model, all but the limits of models."""
        found: list[Claim] = []
        user, key = f"user {caller.user_id}", f"key {caller.api_key_id}"
        own = self.of(caller)
        for subject, allowance in ((user, own), (key, caller.key_allowance or _NONE)):
            if allowance.concurrent:
                found.append(Claim(subject, "concurrent", allowance.concurrent))
            if allowance.requests_per_minute:
                found.append(Claim(subject, "requests", allowance.requests_per_minute))
            if allowance.tokens_per_minute:
                found.append(Claim(subject, "tokens", allowance.tokens_per_minute, prompt_tokens))
        if model is not None:
            name = model.removesuffix(":latest")
            if own.concurrent_per_model:
                found.append(Claim(f"{user} with {name}", "concurrent", own.concurrent_per_model))
            for spelling in (name, f"{name}:latest", name.rpartition(":")[0] if ":" in name.rsplit("/", 1)[-1] else ""):
                if self.models.get(spelling):
                    found.append(Claim(f"model {spelling}", "concurrent", self.models[spelling]))
                    break
        return found


_NONE = Allowance()
_UNITS = {"concurrent": "requests at once", "requests": "requests a minute", "tokens": "tokens a minute"}


def _reached(refusal: Refusal) -> LimitReached:
    standing = refusal.standing
    claim = standing.claim
    message = f"The limit of {claim.subject} is {claim.limit} {_UNITS[claim.kind]}; {standing.used} are used"
    if refusal.again_s is None:
        message += f" and this request alone needs {claim.amount}"
    error = LimitReached(f"{message}.", retry_after_s=refusal.again_s)
    error.headers = _headers([standing])
    return error


def _headers(standings: Sequence[Standing]) -> RawHeaders:
    """As OpenAI's clients know them; of several limits of a kind the one that has least left."""
    headers: RawHeaders = []
    for kind, name in (("requests", b"requests"), ("tokens", b"tokens")):
        tightest = min((s for s in standings if s.claim.kind == kind), key=lambda s: s.remaining, default=None)
        if tightest is not None:
            headers += [
                (b"x-ratelimit-limit-" + name, b"%d" % tightest.claim.limit),
                (b"x-ratelimit-remaining-" + name, b"%d" % tightest.remaining),
                (b"x-ratelimit-reset-" + name, b"%ds" % -int(-tightest.reset_s // 1)),
            ]
    return headers
