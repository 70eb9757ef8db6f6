"""`PriceDesk`: the price book in memory, and the one place where a price is entered. `hosted_price`: one to enter."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import NUSD_PER_USD, parse_price
from gemmapy.pricing import PriceBook, catalogue
from gemmapy.storage import prices, revisions
from gemmapy.storage.store import Store

MODEL_NAME_LIMIT = 200
SOURCE_LIMIT = 500


@dataclass(frozen=True, slots=True)
class PriceEntry:
    """A price as people say it: USD, per 1K tokens, per request, per second of compute."""

    model: str
    input_usd: float | str | Decimal
    output_usd: float | str | Decimal
    cached_input_usd: float | str | Decimal | None = None
    """Of prompt tokens that the engine had cached; None: what input costs."""
    request_usd: float | str | Decimal = 0
    compute_usd_per_second: float | str | Decimal = 0
    effective_at: datetime | None = None
    """In the future; None is now."""
    source: str = ""
    """Where it comes from: a price list, a decision, a calculation."""


def hosted_price(reference: str, as_model: str | None, at: datetime) -> PriceEntry:
    """A hosted model's price at `at`, to be entered from now on under its own name or another; says where it is from.

    Amounts finer than a nano-dollar per 1K tokens are rounded half-even. Raises InvalidRequest for a model that the
    catalogue does not have, or that has no price per input token.
    """
    model = catalogue.find(reference)
    price = model.price(at)
    if price.input_nusd_per_1k is None:
        raise InvalidRequest(f"{model.reference} has no price per input token.")
    cached = price.cached_input_nusd_per_1k
    short = "; the price of short prompts, long ones cost more there" if price.has_tiers else ""
    return PriceEntry(
        model=as_model or model.model,
        input_usd=_usd(price.input_nusd_per_1k),
        output_usd=_usd(price.output_nusd_per_1k or 0),
        cached_input_usd=None if cached is None else _usd(cached),
        request_usd=_usd(price.request_nusd),
        source=f"{catalogue.source()}: {model.reference} at {model.provider_name}, {at:%Y-%m-%d}{short}",
    )


def _usd(nusd: int) -> Decimal:
    return Decimal(nusd) / NUSD_PER_USD


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
        self.enter(PriceEntry(model, input_usd, output_usd), by)

    def enter(self, entry: PriceEntry, by: int | None = None) -> int:
        """Enters a price with everything that one can have; returns its id. Blocks. Raises InvalidRequest."""
        name = entry.model.strip()
        if not 1 <= len(name) <= MODEL_NAME_LIMIT:
            raise InvalidRequest(f"model must have 1 to {MODEL_NAME_LIMIT} characters, has {len(name)}.")
        if not name.isprintable():
            raise InvalidRequest(f"model must not have control characters, got {name!r}.")
        if "*" in name[:-1]:
            raise InvalidRequest(f"model may have a * at its end only, got {name!r}.")
        now = self._store.clock.now()
        effective_at = entry.effective_at or now
        if effective_at.tzinfo is None or effective_at < now:
            raise InvalidRequest(
                "effective_at must lie in the future and have a time zone: a price never changes what was recorded.",
                hint="Leave it out for a price that holds from now on.",
            )
        cached = entry.cached_input_usd
        price = prices.NewPrice(
            model=name,
            input_nusd_per_1k=parse_price(entry.input_usd, "input_cost"),
            output_nusd_per_1k=parse_price(entry.output_usd, "output_cost"),
            effective_at=effective_at,
            cached_input_nusd_per_1k=None if cached is None else parse_price(cached, "cached_input_cost"),
            request_nusd=parse_price(entry.request_usd, "request_cost"),
            compute_nusd_per_second=parse_price(entry.compute_usd_per_second, "compute_cost"),
            source=entry.source.strip()[:SOURCE_LIMIT],
        )
        price_id = self._store.write(lambda connection: prices.append(connection, price, now, by))
        self.refresh()
        return price_id

    def withdraw(self, price_id: int, by: int | None = None) -> None:
        """Takes back a price that has not come into force. Blocks. Raises NotFound, Conflict."""
        now = self._store.clock.now()
        self._store.write(lambda connection: prices.withdraw(connection, price_id, now, by))
        self.refresh()
