"""`PriceDesk`: the price book in memory, and the one place where a price is entered."""

from __future__ import annotations

from decimal import Decimal

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import parse_usd
from gemmapy.pricing import PriceBook
from gemmapy.storage import prices
from gemmapy.storage.store import Store

MODEL_NAME_LIMIT = 200


class PriceDesk:
    """Holds the current book; `refresh` reads it again after a change, also one by another process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.read() as connection:
            is_new = prices.is_empty(connection)
        if is_new:
            now = store.clock.now()
            store.write(lambda connection: prices.seed(connection, now))
        self.book = PriceBook([])
        self.refresh()

    def refresh(self) -> None:
        """Reads the prices again."""
        with self._store.read() as connection:
            self.book = PriceBook(prices.every_price(connection))

    def set(
        self, model: str, input_usd: float | str | Decimal, output_usd: float | str | Decimal, by: int | None = None
    ) -> None:
        """Enters a price in USD per 1K tokens that holds from now on; what was recorded keeps its cost.

        `by` is the user who says so. Blocks. Raises InvalidRequest.
        """
        name = model.strip()
        if not 1 <= len(name) <= MODEL_NAME_LIMIT:
            raise InvalidRequest(f"model must have 1 to {MODEL_NAME_LIMIT} characters, has {len(name)}.")
        if "*" in name[:-1]:
            raise InvalidRequest(f"model may have a * at its end only, got {name!r}.")
        input_nusd, output_nusd = parse_usd(input_usd, "input_cost"), parse_usd(output_usd, "output_cost")
        now = self._store.clock.now()
        self._store.write(lambda connection: prices.append(connection, name, input_nusd, output_nusd, now, by))
        self.refresh()
