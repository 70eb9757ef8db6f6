"""The price book: which price is in force for a model at a moment, and what a request costs at it.

A price is never changed: a new one for the same name takes effect later. A model without a price is unpriced, which is
not the same as free.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gemmapy.core.money import divide_half_even
from gemmapy.core.records import Cost, Usage

TOKENS_PER_PRICE = 1_000
MODELS_REMEMBERED = 4_096


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs from `effective_at` on, in nano-USD."""

    id: int
    model: str
    """A name, or a prefix that ends in `*`."""
    input_nusd_per_1k: int
    output_nusd_per_1k: int
    effective_at: datetime
    cached_input_nusd_per_1k: int | None = None
    """Of prompt tokens that the engine had in its cache; None: what input costs."""
    request_nusd: int = 0
    compute_nusd_per_second: int = 0


def cost_of(price: Price, usage: Usage, compute_ms: int | None = None) -> Cost:
    """Prices `usage`. Cached prompt tokens are part of `usage.prompt_tokens`; tokens that are unknown cost nothing.

    `compute_ms` is the engine's time on prompt and response. Each part rounds half-even to a nano-dollar by itself.
    """
    prompt = usage.prompt_tokens or 0
    cached = min(usage.cached_prompt_tokens or 0, prompt)
    cached_rate = price.input_nusd_per_1k if price.cached_input_nusd_per_1k is None else price.cached_input_nusd_per_1k
    prompt_rates = (prompt - cached) * price.input_nusd_per_1k + cached * cached_rate
    compute = divide_half_even((compute_ms or 0) * price.compute_nusd_per_second, 1_000)
    return Cost(
        price_id=price.id,
        prompt_nusd=divide_half_even(prompt_rates, TOKENS_PER_PRICE),
        response_nusd=divide_half_even((usage.response_tokens or 0) * price.output_nusd_per_1k, TOKENS_PER_PRICE),
        other_nusd=price.request_nusd + compute,
    )


class PriceBook:
    """Every price there is. Does not change; a new price makes a new book."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._by_name: dict[str, list[Price]] = {}
        # reversed precedence within a moment: of two prices for one name and moment, the one entered later holds
        for price in sorted(prices, key=lambda price: (price.effective_at, price.id)):
            self._by_name.setdefault(price.model.lower(), []).append(price)
        self._patterns = sorted((name for name in self._by_name if name.endswith("*")), key=len, reverse=True)
        self._names: dict[str, tuple[str, ...]] = {}

    def at(self, model: str, moment: datetime) -> Price | None:
        """The price in force for `model` at `moment` (aware); None where it has none.

        The longest known name wins: the model's own, else one that it begins with up to a boundary. `llama3` prices
        `llama3:8b-instruct-q4`, `llama3:8b` prices it more exactly, and neither prices `llama3.1`.
        """
        for name in self._candidates(model):
            price = _in_force(self._by_name[name], moment)
            if price is not None:
                return price
        return None

    def current(self, moment: datetime) -> Mapping[str, Price]:
        """The price in force for every name that has one, by name as it was entered."""
        prices = (_in_force(history, moment) for history in self._by_name.values())
        return {price.model: price for price in sorted(filter(None, prices), key=lambda price: price.model)}

    def _candidates(self, model: str) -> tuple[str, ...]:
        found = self._names.get(model)
        if found is None:
            if len(self._names) >= MODELS_REMEMBERED:
                self._names.clear()  # names come from clients: bounded, and cheap to find again
            found = self._names[model] = self._find(model.lower())
        return found

    def _find(self, model: str) -> tuple[str, ...]:
        whole = [prefix for prefix in _prefixes(model) if prefix in self._by_name]
        patterns = [pattern for pattern in self._patterns if model.startswith(pattern[:-1])]
        # By the length of what they say; at equal length a name is more than a pattern.
        return tuple(sorted([*whole, *patterns], key=lambda name: (-len(name.rstrip("*")), name.endswith("*"))))


def _prefixes(model: str) -> list[str]:
    """The model's name, then its beginnings up to each boundary: `:` and `@`, and in its tag also `-`, `_` and `.`."""
    tag = model.find(":", model.rfind("/") + 1)
    ends = [
        place for place, character in enumerate(model) if character in ":@" or (character in "-_." and 0 <= tag < place)
    ]
    return [model, *(model[:end] for end in reversed(ends))]


def _in_force(history: list[Price], moment: datetime) -> Price | None:
    place = bisect_right(history, moment, key=lambda price: price.effective_at)
    return history[place - 1] if place else None
