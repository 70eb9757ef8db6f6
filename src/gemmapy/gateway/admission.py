"""May they? Decides whether a request goes to an upstream, and writes its in-flight row.

Called by `handle.py` for a caller that is known. The row is only begun here: its commit overlaps with the upstream's
thinking, and `Ticket.durable` is awaited before the first byte goes out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from gemmapy.core.clock import Clock
from gemmapy.core.errors import Forbidden, StorageUnavailable
from gemmapy.core.records import Intent
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.auth import Caller
from gemmapy.metering.prices import PriceDesk
from gemmapy.pricing import Price
from gemmapy.storage.store import Store
from gemmapy.upstreams.catalogue import Catalogue
from gemmapy.upstreams.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Ticket:
    """An admitted request: who may ask what of whom, at which price."""

    intent: Intent
    upstream: Upstream
    price: Price | None
    """What was in force at the moment of admission; it is used at the finish, whatever happens to prices between."""
    durable: asyncio.Future[None]
    """Resolves once the in-flight row is on disk."""


class Admission:
    """The gate."""

    def __init__(self, store: Store, desk: PriceDesk, catalogue: Catalogue, clock: Clock) -> None:
        self._store = store
        self._desk = desk
        self._catalogue = catalogue
        self._clock = clock

    async def admit(self, caller: Caller, asked: Asked, request_id: bytes) -> Ticket:
        """Lets a request in.

        Raises Forbidden for a model, route or project that is not the caller's, UnknownModel, UpstreamUnreachable,
        StorageUnavailable.
        """
        project_id = self.check(caller, asked)
        upstream = await self._catalogue.find(asked.model)
        price = self._desk.book.at(asked.model, self._clock.now())
        intent = replace(
            _intent(caller, asked, request_id),
            project_id=project_id,
            upstream=upstream.name,
            price_id=None if price is None else price.id,
            prompt_estimate=asked.prompt_estimate,
        )
        durable = self._store.admit(intent)
        durable.add_done_callback(_note)
        return Ticket(intent, upstream, price, durable)

    def check(self, caller: Caller, asked: Asked) -> int | None:
        """Whether the caller may ask this at all, before anything is done for it; returns the project that pays.

        Raises Forbidden, StorageUnavailable.
        """
        if self._store.trouble is not None:
            raise StorageUnavailable(f"The gateway cannot write its records: {self._store.trouble}.", retry_after_s=1)
        if not caller.allows_route(asked.endpoint.path):
            raise Forbidden(f"This API key may not use {asked.endpoint.path}.", hint="Ask for a key that may.")
        if not caller.allows_model(asked.model):
            raise Forbidden(f"This API key may not use the model {asked.model!r}.", hint="Ask for a key that may.")
        return self._project(caller, asked)

    def refused(self, caller: Caller, asked: Asked, request_id: bytes) -> Intent:
        """The intent of a request that was not let in, for the row that says so."""
        return _intent(caller, asked, request_id)

    def _project(self, caller: Caller, asked: Asked) -> int | None:
        """Who pays: the project that the request names, else the key's."""
        if asked.project is None:
            return caller.project_id
        project_id = caller.projects.get(asked.project)
        if project_id is None:
            raise Forbidden(
                f"X-GemmaPy-Project names {asked.project[:60]!r}, which is none of your projects.",
                hint="GET /api/profile lists your projects.",
            )
        return project_id


def _intent(caller: Caller, asked: Asked, request_id: bytes) -> Intent:
    """Who asks what, before anything was decided."""
    return Intent(
        request_id=request_id,
        user_id=caller.user_id,
        model=asked.model,
        endpoint=asked.endpoint.path,
        started_at=asked.started_at,
        stream=asked.stream,
        api_key_id=caller.api_key_id,
        project_id=caller.project_id,
        end_user=asked.end_user if caller.is_trusted else None,
        client_request_id=asked.client_request_id,
    )


def _note(durable: asyncio.Future[None]) -> None:
    """Takes note of a refusal, so that a request which failed for another reason first leaves none unheard."""
    if not durable.cancelled():
        durable.exception()
