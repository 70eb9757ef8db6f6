"""The other processes of the same gateway: what a part tells them, asks them, and is told.

`Alone` is a gateway of one process. With several, `workers/link.py` and `workers/keeper.py` take its place, so that a
part which holds something in memory need not know how many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Handler = Callable[[Any], Any]
"""Called in the event loop with what was said; what it returns is the answer where there was a question."""


class Peers(Protocol):
    """What is said is plain data: texts, numbers, bytes, lists and dicts of them."""

    def on(self, subject: str, handler: Handler) -> None:
        """Has `handler` called with what any other process says about a subject."""
        ...

    def tell(self, subject: str, said: Any = None) -> None:
        """Tells all others, without waiting. From any thread. What is told while a process starts does not reach it."""
        ...

    async def ask(self, subject: str, said: Any = None) -> list[Any]:
        """What all others answer, in no order; those that do not within a second are left out."""
        ...


class Alone:
    """There are no others."""

    def on(self, subject: str, handler: Handler) -> None:
        """Nobody will call."""

    def tell(self, subject: str, said: Any = None) -> None:
        """Nobody hears it."""

    async def ask(self, subject: str, said: Any = None) -> list[Any]:  # noqa: ARG002
        return []
