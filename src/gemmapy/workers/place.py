"""Which of a gateway's processes this one is, as far as its parts have to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gemmapy.core.peers import Alone, Peers


@dataclass(frozen=True, slots=True)
class Place:
    """By default the only one."""

    peers: Peers
    has_jobs: bool = True
    """Whether it does what one does for all: retention, embedding, the embedded model, counting failed logins."""
    count: int = 1
    """How many answer requests."""
    ask_keeper: Callable[[str, Any], Any] | None = None
    """Asks the process that has the jobs, from any thread but the event loop's; None where that is this one."""


ONLY_ONE = Place(Alone())
