"""Which model on which upstream: the one place where a request's way is chosen.

The model that was asked for comes first, on the upstream that `upstreams/choice.py` picks; where nobody can serve it,
the operator's next choice that the caller may use takes its place. Users cannot name upstreams, and an address never
comes from a request.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from gemmapy.core.clock import Clock
from gemmapy.core.errors import UnknownModel, UpstreamUnreachable
from gemmapy.core.foreign import UNREADABLE
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.auth import Caller
from gemmapy.upstreams.catalogue import Catalogue
from gemmapy.upstreams.choice import choose
from gemmapy.upstreams.upstream import Upstream

_PREFIX_BYTES = 512


@dataclass(slots=True)
class Route:
    """The way of one request, as far as it is known."""

    asked: Asked
    """The question as it is put now: where another model has taken over, to that one."""
    candidates: Sequence[Upstream]
    upstream: Upstream
    requested_model: str
    fallbacks: list[str] = field(default_factory=list[str])
    """Models that may still take its place, the next one first."""

    @property
    def fallback_from(self) -> str | None:
        """The model that was asked for, where another has taken its place."""
        return self.requested_model if self.asked.model != self.requested_model else None


class Routing:
    """Finds ways."""

    def __init__(self, catalogue: Catalogue, clock: Clock, fallbacks: Mapping[str, Sequence[str]]) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._fallbacks = fallbacks

    async def begin(self, caller: Caller, asked: Asked) -> Route:
        """The way to the first upstream.

        Raises UnknownModel where nobody has the model, UpstreamUnreachable where nobody who has it can be asked.
        """
        fallbacks = self._chain(caller, asked) if asked.use_retry and self._fallbacks else []
        try:
            candidates = await self._catalogue.candidates(asked.model)
            return Route(asked, candidates, self._choose(asked, candidates, ()), asked.model, fallbacks)
        except (UnknownModel, UpstreamUnreachable):
            if not fallbacks:
                raise
            nobody = Upstream("", "openai", None)
            route = Route(asked, (), nobody, asked.model, fallbacks)
            if not await self.fall_back(route):
                raise
            return route

    def again(self, route: Route, tried: Collection[str]) -> Upstream | None:
        """Whom to ask next for the same model, those who were `tried` last; None where nobody can be asked."""
        return choose(route.candidates, self._clock.monotonic_ns(), None, tried)

    async def fall_back(self, route: Route) -> bool:
        """Puts the next model that somebody can serve in the place of the present one; False where there is none."""
        while route.fallbacks:
            asked = route.asked.for_model(route.fallbacks.pop(0))
            try:
                candidates = await self._catalogue.candidates(asked.model)
                upstream = self._choose(asked, candidates, ())
            except (UnknownModel, UpstreamUnreachable):
                continue
            route.asked, route.candidates, route.upstream = asked, candidates, upstream
            return True
        return False

    def _choose(self, asked: Asked, candidates: Sequence[Upstream], tried: Collection[str]) -> Upstream:
        now_ns = self._clock.monotonic_ns()
        prefix = beginning(asked) if len(candidates) > 1 else None
        chosen = choose(candidates, now_ns, prefix, tried)
        if chosen is not None:
            return chosen
        wait_s = min(upstream.health.breaker.retry_after_s(now_ns) for upstream in candidates)
        names = " and ".join(upstream.title for upstream in candidates)
        raise UpstreamUnreachable(
            f"{names} failed too often just now; the next try is in {wait_s:.0f} s.", retry_after_s=max(1, wait_s)
        )

    def _chain(self, caller: Caller, asked: Asked) -> list[str]:
        """The models that may take the place of the asked one: a chain for `llama3` is one for all its tags."""
        model = asked.model
        name, _, tag = model.rpartition(":") if ":" in model.rsplit("/", 1)[-1] else (model, "", "latest")
        for spelling in (model, f"{name}:latest" if tag == "latest" else model, name):
            if spelling in self._fallbacks:
                return [other for other in self._fallbacks[spelling] if other != model and caller.allows_model(other)]
        return []


class _Beginning(msgspec.Struct):
    messages: list[msgspec.Raw] | None = None
    system: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()


class _Role(msgspec.Struct):
    role: str | None = None


_decode = msgspec.json.Decoder(_Beginning).decode
_decode_role = msgspec.json.Decoder(_Role).decode


def beginning(asked: Asked) -> bytes | None:
    """What stays the same in all turns of a conversation: its model and its messages up to the first of the user; of a
    prompt, how it begins. None where there is no such thing."""
    if asked.endpoint.kind == "embed":
        return None
    try:
        said = _decode(asked.body)
        first: list[bytes] = [asked.model.encode(), bytes(said.system)]
        for message in said.messages or ():
            first.append(bytes(message))
            if _decode_role(message).role == "user":
                break
    except UNREADABLE:
        return None  # the upstream will say what is wrong with it
    first.append(bytes(said.prompt)[:_PREFIX_BYTES])
    return blake2b(b"\0".join(first), digest_size=16).digest()
