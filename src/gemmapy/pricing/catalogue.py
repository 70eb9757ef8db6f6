"""Hosted models and what they cost: dated prices that come with the library genai-prices.

Nothing here reaches the network: the prices are those of the installed release, and the library's updater is never
started. It is loaded when somebody asks first, which takes an eighth of a second.

Cached prompt tokens are part of the prompt's and cost what the provider asks for reading its cache, where it has a
price for that. Writing a cache, tools and searches are not priced: the ledger does not know them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import NUSD_PER_USD
from gemmapy.core.records import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

LIBRARY = "genai-prices"
_NUSD_PER_1K_PER_USD_PER_MILLION = NUSD_PER_USD // 1_000
_REQUESTS_PER_PRICE = 1_000
_PER_REQUESTS = "requests_kcount"
"""The library's name for a price per 1,000 requests."""


@dataclass(frozen=True, slots=True)
class HostedPrice:
    """In nano-USD, rounded half-even; None where the provider asks nothing for it."""

    input_nusd_per_1k: int | None
    output_nusd_per_1k: int | None
    cached_input_nusd_per_1k: int | None
    """None: what input costs."""
    request_nusd: int
    has_tiers: bool
    """Long prompts cost more; the amounts are those of short ones."""


@dataclass(frozen=True, slots=True)
class Day:
    """What was used on a day: of so many requests, together."""

    moment: datetime
    """Aware; its price is asked."""
    requests: int
    prompt_tokens: int
    cached_prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True, slots=True)
class HostedModel:
    """One model at one provider."""

    provider: str
    provider_name: str
    model: str
    name: str
    context_window: int | None
    is_deprecated: bool
    _info: ModelInfo

    @property
    def reference(self) -> str:
        """How it is named here: `openai/gpt-5.4-mini`."""
        return f"{self.provider}/{self.model}"

    def price(self, at: datetime) -> HostedPrice:
        """The price in force at `at` (aware)."""
        found = self._info.get_prices(at)
        flat = _flat(found, 0)
        per_1k_requests = _rate(flat, _PER_REQUESTS) or Decimal(0)
        return HostedPrice(
            input_nusd_per_1k=_nusd_per_1k(_rate(flat, "input_mtok")),
            output_nusd_per_1k=_nusd_per_1k(_rate(flat, "output_mtok")),
            cached_input_nusd_per_1k=_nusd_per_1k(_rate(flat, "cache_read_mtok")),
            request_nusd=_nusd(per_1k_requests / _REQUESTS_PER_PRICE),
            has_tiers=vars(flat) != vars(found),
        )

    def cost_nusd(self, usage: Usage, at: datetime) -> int | None:
        """What one request would have cost at `at`, tiers by the length of its prompt included.

        None where nothing is known of its tokens, or the provider has no price for tokens.
        """
        if usage.total_tokens is None:
            return None
        prompt = usage.prompt_tokens or 0
        cached = min(usage.cached_prompt_tokens or 0, prompt)
        price = self._info.get_prices(at)
        if not _prices_tokens(price):
            return None
        return _nusd(_total(price, prompt, cached, usage.response_tokens or 0))

    def cost_of_days_nusd(self, days: Iterable[Day]) -> int | None:
        """What many requests would have cost, each day's at its own price; rounded once.

        Only totals are known of them, so where long prompts cost more, the mean prompt says which price holds.
        None where the provider has no price for tokens.
        """
        prices: dict[int, ModelPrice] = {}
        used: dict[int, list[Day]] = {}
        for day in days:
            price = self._info.get_prices(day.moment)
            prices[id(price)] = price  # the library's own object, the same on every day that it holds
            used.setdefault(id(price), []).append(day)
        total = Decimal(0)
        for key, spent in used.items():
            price = prices[key]
            if not _prices_tokens(price):
                return None
            requests = sum(day.requests for day in spent)
            prompt = sum(day.prompt_tokens for day in spent)
            cached = min(sum(day.cached_prompt_tokens for day in spent), prompt)
            response = sum(day.response_tokens for day in spent)
            flat = _flat(price, prompt // requests if requests else 0)
            once = _rate(flat, _PER_REQUESTS) or Decimal(0)
            # `_total` counts one request, whatever its tokens are.
            total += _total(flat, prompt, cached, response) + once * (requests - 1) / _REQUESTS_PER_PRICE
        return _nusd(total)


def source() -> str:
    """Where the prices are from: the library and its version."""
    return f"{LIBRARY} {metadata.version(LIBRARY)}"


def search(text: str, limit: int) -> tuple[list[HostedModel], int]:
    """The models whose provider and name have every word of `text`, the closest first: at most `limit` of them, and
    how many there are."""
    words = text.lower().split()
    found = [model for name, model in _by_reference().items() if all(word in _searched(name, model) for word in words)]
    found.sort(key=lambda model: (_distance(words, model), model.reference.lower()))
    return found[:limit], len(found)


def find(reference: str) -> HostedModel:
    """A model by `PROVIDER/MODEL`; also by a name that the provider takes for it, such as one with a date.

    Raises InvalidRequest that names models which are called much the same.
    """
    wanted = reference.strip().lower()
    known = _by_reference()
    exact = known.get(wanted)
    if exact is not None:
        return exact
    provider_id, _, name = wanted.partition("/")
    provider = _providers().get(provider_id)
    if provider is not None and name:
        info = provider.find_model(name, all_providers=list(_providers().values()))
        if info is not None:
            return _hosted(provider, info)
    near = difflib.get_close_matches(wanted, known, 3)
    raise InvalidRequest(
        f"There is no hosted model {reference[:80]!r} in the catalogue; a name is PROVIDER/MODEL.",
        hint=f"Do you mean {', '.join(near)}?" if near else "'gemmapy price catalogue WORD' searches it.",
    )


@cache
def _providers() -> dict[str, Provider]:
    from genai_prices.data import providers  # loaded when it is needed: see above

    return {provider.id: provider for provider in providers}


@cache
def _by_reference() -> dict[str, HostedModel]:
    hosted = (_hosted(provider, info) for provider in _providers().values() for info in provider.models)
    return {model.reference.lower(): model for model in hosted}


def _hosted(provider: Provider, info: ModelInfo) -> HostedModel:
    return HostedModel(
        provider=provider.id,
        provider_name=provider.name,
        model=info.id,
        name=info.name or info.id,
        context_window=info.context_window,
        is_deprecated=bool(info.deprecated),
        _info=info,
    )


def _searched(name: str, model: HostedModel) -> str:
    return f"{name} {model.provider_name} {model.name}".lower()


def _distance(words: list[str], model: HostedModel) -> int:
    """0 where a word is the whole name, 1 or 2 where the name begins so with or without its provider, 3 elsewhere."""
    name, reference = model.model.lower(), model.reference.lower()
    near = (
        name in words or reference in words,
        any(reference.startswith(word) for word in words),
        any(name.startswith(word) for word in words),
        True,
    )
    return near.index(True)


def _flat(price: ModelPrice, prompt_tokens: int) -> ModelPrice:
    """The price for prompts of a length, without tiers."""
    from genai_prices.types import ModelPrice, TieredPrices

    def flat(value: Decimal | TieredPrices | None) -> Decimal | None:
        if not isinstance(value, TieredPrices):
            return value
        reached = [tier.price for tier in value.tiers if prompt_tokens > tier.start]
        return reached[-1] if reached else value.base

    return ModelPrice(**{name: flat(value) for name, value in vars(price).items()})


def _rate(flat: ModelPrice, name: str) -> Decimal | None:
    """One of its amounts: USD per million tokens, or per 1,000 requests."""
    value = vars(flat).get(name)
    return value if isinstance(value, Decimal) else None


def _prices_tokens(price: ModelPrice) -> bool:
    return any(vars(price).get(name) is not None for name in ("input_mtok", "output_mtok"))


def _total(price: ModelPrice, prompt: int, cached: int, response: int) -> Decimal:
    """USD of one request, by the library."""
    from genai_prices import Usage as HostedUsage

    usage = HostedUsage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=response)
    return price.calc_price(usage)["total_price"]


def _nusd_per_1k(usd_per_million: Decimal | None) -> int | None:
    if usd_per_million is None:
        return None
    return int((usd_per_million * _NUSD_PER_1K_PER_USD_PER_MILLION).to_integral_value(ROUND_HALF_EVEN))


def _nusd(usd: Decimal) -> int:
    return int((usd * NUSD_PER_USD).to_integral_value(ROUND_HALF_EVEN))
