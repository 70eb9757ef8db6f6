"""Which upstream has which model.

The lists are asked for in the background every `REFRESH_S`, and again when an unknown name is asked for or somebody
must know that a model is still the same, at most once a second. An upstream that is down keeps the models that it last
listed; one that lists none at all is asked for whatever nobody else has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from gemmapy.core.clock import Clock
from gemmapy.core.errors import GemmaPyError, UnknownModel, UpstreamUnreachable
from gemmapy.upstreams.transport import Transport
from gemmapy.upstreams.upstream import Upstream

REFRESH_S = 30
RETRY_DOWN_S = 3
ASK_AGAIN_S = 1
_SAYS_WHICH = ("digest", "root", "meta", "max_model_len")
"""What of a model's description says which weights it has. Others (`created`, permissions) change by themselves."""
_log = structlog.stdlib.get_logger()


@dataclass(slots=True)
class _Shelf:
    """What is known of one upstream."""

    upstream: Upstream
    models: Mapping[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    asked: bool = False
    lists: bool = True
    trouble: str | None = "not asked yet"
    asked_ns: int = 0
    asking: asyncio.Task[None] | None = None


class Catalogue:
    """The upstreams, in the operator's order, and their models."""

    def __init__(self, upstreams: Sequence[Upstream], transport: Transport, clock: Clock) -> None:
        self._shelves = [_Shelf(upstream) for upstream in upstreams]
        self._having: dict[str, Sequence[Upstream]] = {}
        self._transport = transport
        self._clock = clock
        self._asked_ns = 0
        self._refreshing: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to ask in the background."""
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        for task in (self._keeping, self._refreshing, *(shelf.asking for shelf in self._shelves)):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @property
    def upstreams(self) -> list[Upstream]:
        return [shelf.upstream for shelf in self._shelves]

    def models(self) -> list[tuple[str, dict[str, Any], Upstream]]:
        """Every model's name, its upstream's description and its upstream; the first upstream wins a name."""
        seen: dict[str, tuple[str, dict[str, Any], Upstream]] = {}
        for shelf in self._shelves:
            for name, described in shelf.models.items():
                seen.setdefault(name, (name, described, shelf.upstream))
        return list(seen.values())

    def states(self) -> list[dict[str, Any]]:
        """Each upstream's name, kind, whether it answers, why not, how many models it has and which, how many requests
        are under way there, how many places it has (None: any number), how many wait for one, and whether its breaker
        lets requests through."""
        now_ns = self._clock.monotonic_ns()
        return [
            {
                "name": shelf.upstream.name,
                "kind": shelf.upstream.kind,
                "reachable": shelf.trouble is None,
                "trouble": shelf.trouble,
                "models": len(shelf.models),
                "model_names": sorted(shelf.models),
                "in_flight": shelf.upstream.health.in_flight,
                "places": shelf.upstream.places.count,
                "waiting": shelf.upstream.places.waiting,
                "breaker": shelf.upstream.health.breaker.state(now_ns),
            }
            for shelf in self._shelves
        ]

    async def find(self, model: str) -> Upstream:
        """The first upstream that has the model. Raises as `candidates`."""
        return (await self.candidates(model))[0]

    async def candidates(self, model: str) -> Sequence[Upstream]:
        """Every upstream that has the model, in the operator's order.

        Raises UnknownModel where none has it, UpstreamUnreachable where one that may have it does not answer.
        """
        found = self._have(model)
        if not found:
            await self.refresh()
            found = self._have(model)
        found = found or [shelf.upstream for shelf in self._shelves if not shelf.lists]
        if found:
            return found
        down = [shelf for shelf in self._shelves if shelf.trouble is not None]
        if down:
            raise UpstreamUnreachable("; ".join(f"{shelf.trouble}" for shelf in down), retry_after_s=RETRY_DOWN_S)
        raise UnknownModel(model)

    async def fingerprint(self, model: str, timeout_s: float) -> bytes | None:
        """Which weights the name means at the upstreams that have it, as of the last second; the same bytes, the same
        weights. None where that cannot be known: an upstream that answers takes too long, or does not list it."""
        due = [shelf for shelf, _ in self._look_up(model) if shelf.trouble is None and self._is_old(shelf)]
        if due:
            asking = [self._ask_once(shelf) for shelf in due]
            _, unsure = await asyncio.wait(asking, timeout=timeout_s)
            if unsure:
                return None
        described = [
            msgspec.json.encode([shelf.upstream.kind, [said.get(name) for name in _SAYS_WHICH]], order="deterministic")
            for shelf, said in self._look_up(model)
        ]
        return b"\n".join(sorted(set(described))) or None

    def outdate(self) -> None:
        """Whoever has changed an upstream's models says so: what was listed counts as old."""
        for shelf in self._shelves:
            shelf.asked_ns = 0
        self._asked_ns = 0

    def _have(self, model: str) -> Sequence[Upstream]:
        """The upstreams that list it; remembered until one lists anew, since each request asks."""
        found = self._having.get(model)
        if found is None:
            found = [shelf.upstream for shelf, _ in self._look_up(model)]
            if found:  # no more names than are listed, in their spellings
                self._having[model] = found
        return found

    def _look_up(self, model: str) -> Iterator[tuple[_Shelf, dict[str, Any]]]:
        for shelf in self._shelves:
            # Only Ollama knows that `llama3` and `llama3:latest` are one; others want the name that they list.
            for name in spellings(model) if shelf.upstream.kind == "ollama" else (model,):
                if name in shelf.models:
                    yield shelf, shelf.models[name]
                    break

    def _is_old(self, shelf: _Shelf) -> bool:
        return not shelf.asked_ns or self._clock.monotonic_ns() - shelf.asked_ns >= ASK_AGAIN_S * 1_000_000_000

    async def refresh(self) -> None:
        """Asks every upstream again, unless that was done within the last second."""
        if self._refreshing is None or self._refreshing.done():
            since_ns = self._clock.monotonic_ns() - self._asked_ns
            if self._asked_ns and since_ns < ASK_AGAIN_S * 1e9:
                return
            self._refreshing = asyncio.create_task(self._ask_all())
        await asyncio.shield(self._refreshing)

    async def _keep(self) -> None:
        while True:
            await self.refresh()
            down = any(shelf.trouble is not None for shelf in self._shelves)
            await asyncio.sleep(RETRY_DOWN_S if down else REFRESH_S)

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._ask_once(shelf) for shelf in self._shelves))
        self._asked_ns = self._clock.monotonic_ns()

    def _ask_once(self, shelf: _Shelf) -> asyncio.Task[None]:
        """Asks, or joins who is asking."""
        if shelf.asking is None or shelf.asking.done():
            shelf.asking = asyncio.create_task(self._ask(shelf))
        return shelf.asking

    async def _ask(self, shelf: _Shelf) -> None:
        asked_ns = self._clock.monotonic_ns()
        try:
            models = await shelf.upstream.models(self._transport)
        except GemmaPyError as error:
            if shelf.trouble != error.message and shelf.asked:
                _log.warning("an upstream does not answer", upstream=shelf.upstream.name, reason=error.message)
            shelf.trouble = error.message
        else:
            if shelf.trouble is not None and shelf.upstream.asks_slots:
                slots = await shelf.upstream.slots(self._transport)
                shelf.upstream.places.resize(slots, self._clock.monotonic_ns())
            if shelf.trouble is not None and shelf.asked:
                _log.info("an upstream answers again", upstream=shelf.upstream.name)
            shelf.trouble = None
            shelf.lists = models is not None
            shelf.models = models or {}
            self._having.clear()
            shelf.upstream.health.breaker.hopeful(self._clock.monotonic_ns())
        shelf.asked, shelf.asked_ns = True, asked_ns
        shelf.upstream.health.answers = shelf.trouble is None


def spellings(model: str) -> tuple[str, ...]:
    """The names that mean the same model: Ollama's `llama3` is `llama3:latest`, and the other way round."""
    if model.endswith(":latest"):
        return model, model.removesuffix(":latest")
    if ":" not in model.rsplit("/", 1)[-1]:
        return model, f"{model}:latest"
    return (model,)
