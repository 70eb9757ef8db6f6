"""`PriceDesk`: the price book in memory, and the one place where a price is entered."""

from __future__ import annotations

import threading
from decimal import Decimal

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import parse_usd
from gemmapy.pricing import PriceBook
from gemmapy.storage import prices, revisions
from gemmapy.storage.store import Store

MODEL_NAME_LIMIT = 200


class PriceDesk:
    """Holds the current book, as it was read last: looking into it never blocks.

    Two desks over one store, or one in another process, see each other's prices once they `refresh`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._revision: int | None = None
        with store.read() as connection:
            is_new = prices.is_empty(connection)
        if is_new:
            now = store.clock.now()
            store.write(lambda connection: prices.seed(connection, now))
        self.book = PriceBook([])
        self.refresh()

    def refresh(self) -> None:
        """Reads the prices again, if any was entered since, here or elsewhere. Blocks."""
        # The lock holds from the look to the change, so that a slow reader cannot put an older book over a newer one.
        with self._lock, self._store.read() as connection:
            revision = revisions.current(connection)[prices.PRICES]
            if revision != self._revision:
                self.book, self._revision = PriceBook(prices.every_price(connection)), revision

    def set(
        self, model: str, input_usd: float | str | Decimal, output_usd: float | str | Decimal, by: int | None = None
    ) -> None:
        """Enters a price in USD per 1K tokens that holds from now on; what was recorded keeps its cost.

        `by` is the user who says so. Blocks. Raises InvalidRequest.
        """
        name = model.strip()
        if not 1 <= len(name) <= MODEL_NAME_LIMIT:
            raise InvalidRequest(f"model must have 1 to {MODEL_NAME_LIMIT} characters, has {len(name)}.")
        if not name.isprintable():
            raise InvalidRequest(f"model must not have control characters, got {name!r}.")
        if "*" in name[:-1]:
            raise InvalidRequest(f"model may have a * at its end only, got {name!r}.")
        input_nusd, output_nusd = parse_usd(input_usd, "input_cost"), parse_usd(output_usd, "output_cost")
        now = self._store.clock.now()
        self._store.write(lambda connection: prices.append(connection, name, input_nusd, output_nusd, now, by))
        self.refresh()
