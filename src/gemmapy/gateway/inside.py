"""Requests that the gateway makes of itself for somebody: admitted, recorded and priced as if they had asked.

Called by the rooms above, such as `rag`. There is no socket: the answer is gathered in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gemmapy.core.errors import UpstreamError
from gemmapy.gateway.asked import Endpoint, Envelope
from gemmapy.gateway.auth import Caller
from gemmapy.gateway.door import Visit
from gemmapy.gateway.handle import Gateway, RawHeaders


class _Gathered:
    """An answer in memory, for a client that never leaves."""

    def __init__(self) -> None:
        self.started = False
        self.status = 0
        self.pieces: list[bytes] = []

    def identify(self, request_id: bytes, client_request_id: str | None) -> None:
        """Nobody looks at the head."""

    def note(self, headers: RawHeaders) -> None:
        """Nor at what else it would say."""

    async def start(self, status: int, headers: RawHeaders) -> None:  # noqa: ARG002
        self.started, self.status = True, status

    async def send(self, data: bytes) -> None:
        self.pieces.append(data)

    async def end(self, data: bytes = b"") -> None:
        self.pieces.append(data)

    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:  # noqa: ARG002
        return lambda: None


async def ask(gateway: Gateway, caller: Caller, endpoint: Endpoint, body: bytes) -> bytes:
    """The whole answer of a request for `caller`; one row of the ledger, under the endpoint's path.

    Raises whatever a client would have been told: UnknownModel, UpstreamError, StorageUnavailable ... Cancelling it
    ends the request, which is recorded.
    """
    clock = gateway.clock
    headers = [(b"content-type", b"application/json")]
    envelope = Envelope(endpoint, headers, clock.now(), clock.monotonic_ns())
    gathered = _Gathered()

    async def sent(_visit: Visit) -> bytes:
        return body

    # A task of its own: the gateway ends requests by cancelling their tasks, and this must not end its caller's.
    # Not counted against its caller's limits, nor at the door: it is a part of what was let in, or the gateway's doing.
    serving = gateway.serve(caller, envelope, gateway.ids.new(), sent, gathered, gateway.door.visitor())
    await asyncio.create_task(serving)
    if gathered.status != 200:
        raise UpstreamError(f"The model server answered {gathered.status} where an answer was expected.")
    return b"".join(gathered.pieces)
