"""Which of a gateway's processes this one is, as far as its parts have to know."""

from __future__ import annotations

from dataclasses import dataclass

from gemmapy.core.peers import Alone, Peers
from gemmapy.workers.keeper import Keeper
from gemmapy.workers.link import Link


@dataclass(frozen=True, slots=True)
class Place:
    """By default the only one: it answers requests, and does what is done once."""

    link: Link | None = None
    """A worker's way to the keeper."""
    keeper: Keeper | None = None
    """The keeper's way to the workers."""
    count: int = 1
    """How many processes answer requests."""

    @property
    def peers(self) -> Peers:
        return self.link or self.keeper or Alone()

    @property
    def has_peers(self) -> bool:
        """Whether it is one of several."""
        return self.link is not None or self.keeper is not None

    @property
    def has_jobs(self) -> bool:
        """Whether it does what one does for all: retention, embedding, the embedded model, counting."""
        return self.link is None

    def share(self, amount: int) -> int:
        """This process's part of what is allowed to all, rounded up."""
        return -(-amount // self.count)


ONLY_ONE = Place()
