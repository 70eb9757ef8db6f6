"""May they? Decides whether a request goes to an upstream, and begins its in-flight row.

Called by `handle.py` for a caller that is known. The row is only begun here: its commit overlaps with the upstream's
thinking, and `Ticket.durable` is awaited before the first byte goes out. An answer that is in the cache already needs
none, nor does one that comes whole within `QUICK_S`: nothing of it goes out before its record is on disk, and where the
gateway ends before, no client has seen anything of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from gemmapy.core.clock import Clock
from gemmapy.core.delay import Delay, Waiting
from gemmapy.core.errors import Forbidden, StorageUnavailable
from gemmapy.core.records import Intent
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.auth import Caller
from gemmapy.gateway.limits import Taken
from gemmapy.gateway.routing import Route, Routing
from gemmapy.metering.prices import PriceDesk
from gemmapy.pricing import Price, PriceBook
from gemmapy.storage.store import Store

QUICK_S = 0.05


@dataclass(slots=True)
class Ticket:
    """An admitted request: who may ask what of whom, at which price."""

    intent: Intent
    route: Route
    book: PriceBook
    """The prices at the moment of admission; they are used at the finish, whatever happens to prices between."""
    admitted_at: datetime
    price: Price | None
    weight: float = 1.0
    """The caller's share where requests wait."""
    taken: Taken | None = None
    """Of the caller's limits."""
    is_begun: bool = False
    """It may be asked, and what becomes of it is written down."""
    durable: asyncio.Future[None] | None = None
    """Resolves once the in-flight row is on disk; None before that is begun, and for a quick answer never."""
    pause: Waiting | None = None
    """Until it is begun."""

    def settle(self) -> asyncio.Future[None] | None:
        """The request is over: if its in-flight row is not begun, it will not be. Returns `durable`."""
        if self.pause is not None:
            self.pause.cancel()
            self.pause = None
        return self.durable

    def price_of(self, model: str) -> Price | None:
        """What was in force for a model at the moment of admission."""
        return self.price if model == self.intent.model else self.book.at(model, self.admitted_at)


class Admission:
    """The gate."""

    def __init__(self, store: Store, desk: PriceDesk, routing: Routing, clock: Clock) -> None:
        self._store = store
        self._desk = desk
        self._routing = routing
        self._clock = clock
        self._quick = Delay(QUICK_S)

    async def admit(self, caller: Caller, asked: Asked, request_id: bytes) -> Ticket:
        """Lets a request in.

        Raises Forbidden for a model, route or project that is not the caller's, UnknownModel, UpstreamUnreachable,
        StorageUnavailable.
        """
        project_id = self.check(caller, asked)
        route = await self._routing.begin(caller, asked)
        model = route.asked.model
        book, now = self._desk.book, self._clock.now()
        price = book.at(model, now)
        intent = Intent(
            request_id=request_id,
            user_id=caller.user_id,
            model=model,
            endpoint=asked.endpoint.path,
            started_at=asked.started_at,
            stream=asked.stream,
            api_key_id=caller.api_key_id,
            project_id=project_id,
            end_user=asked.end_user if caller.is_trusted else None,
            client_request_id=asked.client_request_id,
            upstream=route.upstream.name,
            price_id=None if price is None else price.id,
            prompt_estimate=asked.prompt_estimate,
            requested_model=route.fallback_from,
        )
        return Ticket(intent, route, book, now, price, caller.weight)

    def begin(self, ticket: Ticket) -> None:
        """Begins to write the in-flight row: of a stream at once, of an answer that comes whole unless that is quick.

        Raises StorageUnavailable where the books take no more.
        """
        ticket.is_begun = True
        if ticket.route.asked.stream:
            ticket.durable = self._store.admit(ticket.intent)
        else:
            ticket.pause = self._quick.after(lambda: self._begin_after_all(ticket))

    def _begin_after_all(self, ticket: Ticket) -> None:
        ticket.pause = None
        try:
            ticket.durable = self._store.admit(ticket.intent)
        except StorageUnavailable as error:  # told to whoever writes the record
            ticket.durable = asyncio.get_running_loop().create_future()
            ticket.durable.set_exception(error)
            ticket.durable.exception()

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
