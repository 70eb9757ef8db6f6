"""Which upstream has which model.

The lists are asked for in the background every `REFRESH_S`, and again when an unknown name is asked for, at most once a
second. An upstream that is down keeps the models that it last listed; one that lists none at all is asked for whatever
nobody else has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from gemmapy.core.clock import Clock
from gemmapy.core.errors import GemmaPyError, UnknownModel, UpstreamUnreachable
from gemmapy.upstreams.transport import Transport
from gemmapy.upstreams.upstream import Upstream

REFRESH_S = 30
RETRY_DOWN_S = 3
ASK_AGAIN_S = 1
_log = structlog.stdlib.get_logger()


@dataclass(slots=True)
class _Shelf:
    """What is known of one upstream."""

    upstream: Upstream
    models: Mapping[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    asked: bool = False
    lists: bool = True
    trouble: str | None = "not asked yet"


class Catalogue:
    """The upstreams, in the operator's order, and their models."""

    def __init__(self, upstreams: Sequence[Upstream], transport: Transport, clock: Clock) -> None:
        self._shelves = [_Shelf(upstream) for upstream in upstreams]
        self._transport = transport
        self._clock = clock
        self._asked_ns = 0
        self._refreshing: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to ask in the background."""
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        for task in (self._keeping, self._refreshing):
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
        """Each upstream's name, kind, whether it answers, why not, and how many models it has."""
        return [
            {
                "name": shelf.upstream.name,
                "kind": shelf.upstream.kind,
                "reachable": shelf.trouble is None,
                "trouble": shelf.trouble,
                "models": len(shelf.models),
            }
            for shelf in self._shelves
        ]

    async def find(self, model: str) -> Upstream:
        """The upstream that has the model.

        Raises UnknownModel where none has it, UpstreamUnreachable where one that may have it does not answer.
        """
        found = self._look_up(model)
        if found is None:
            await self.refresh()
            found = self._look_up(model)
        if found is not None:
            return found
        for shelf in self._shelves:
            if not shelf.lists:
                return shelf.upstream
        down = [shelf for shelf in self._shelves if shelf.trouble is not None]
        if down:
            raise UpstreamUnreachable("; ".join(f"{shelf.trouble}" for shelf in down), retry_after_s=RETRY_DOWN_S)
        raise UnknownModel(model)

    def _look_up(self, model: str) -> Upstream | None:
        for shelf in self._shelves:
            # Only Ollama knows that `llama3` and `llama3:latest` are one; others want the name that they list.
            if any(
                name in shelf.models for name in (_spellings(model) if shelf.upstream.kind == "ollama" else (model,))
            ):
                return shelf.upstream
        return None

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
        await asyncio.gather(*(self._ask(shelf) for shelf in self._shelves))
        self._asked_ns = self._clock.monotonic_ns()

    async def _ask(self, shelf: _Shelf) -> None:
        try:
            models = await shelf.upstream.models(self._transport)
        except GemmaPyError as error:
            if shelf.trouble != error.message and shelf.asked:
                _log.warning("an upstream does not answer", upstream=shelf.upstream.name, reason=error.message)
            shelf.trouble = error.message
        else:
            if shelf.trouble is not None and shelf.asked:
                _log.info("an upstream answers again", upstream=shelf.upstream.name)
            shelf.trouble = None
            shelf.lists = models is not None
            shelf.models = models or {}
        shelf.asked = True


def _spellings(model: str) -> tuple[str, ...]:
    """The names that mean the same model: Ollama's `llama3` is `llama3:latest`, and the other way round."""
    if model.endswith(":latest"):
        return model, model.removesuffix(":latest")
    if ":" not in model.rsplit("/", 1)[-1]:
        return model, f"{model}:latest"
    return (model,)
