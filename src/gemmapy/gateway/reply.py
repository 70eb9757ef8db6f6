"""Where an answer goes: the client, as the gateway sees it. `api/proxy.py` has it over ASGI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

RawHeaders = list[tuple[bytes, bytes]]


class Reply(Protocol):
    """One answer's way out."""

    started: bool
    status: int

    def identify(self, request_id: bytes, client_request_id: str | None) -> None:
        """Sets the ids that every answer's head carries."""
        ...

    def note(self, headers: RawHeaders) -> None:
        """Sets what else every answer's head carries."""
        ...

    async def start(self, status: int, headers: RawHeaders) -> None: ...
    async def send(self, data: bytes) -> None: ...
    async def end(self, data: bytes = b"") -> None: ...
    def watch(self, on_leave: Callable[[], None]) -> Callable[[], object]:
        """Has `on_leave` called where the client's connection goes; what is returned ends that, and is called once."""
        ...
