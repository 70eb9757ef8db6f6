"""What requests would have cost at hosted models: one request's tokens, or a window's totals.

The tokens are those that the model here counted. Another model's tokenizer cuts the same text into other pieces, often
a tenth more or fewer, so these are estimates of cost and exact only as sums of what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import usd_or_none
from gemmapy.core.records import Usage
from gemmapy.metering.answers import ElsewhereCost
from gemmapy.metrics.measures import Sums
from gemmapy.pricing import catalogue
from gemmapy.pricing.catalogue import Day, HostedModel

MODELS_LIMIT = 20
COLUMNS = (
    *("requests", "prompt_tokens", "cached_prompt_tokens", "response_tokens", "total_nusd"),
    *("unpriced_requests", "unpriced_tokens"),
)
"""What `of_days` and its answer read of the sums."""
NOTE = "Tokens are counted by the models that ran here; another tokenizer counts the same text differently."


def named(references: Sequence[str]) -> list[HostedModel]:
    """The hosted models of these names, each once, in their order. Raises InvalidRequest for an unknown one."""
    if len(references) > MODELS_LIMIT:
        raise InvalidRequest(f"models may name at most {MODELS_LIMIT}, got {len(references)}.")
    found = (catalogue.find(reference) for reference in references)
    return list({model.reference: model for model in found}.values())


def of_request(usage: Usage, at: datetime, models: Iterable[HostedModel]) -> list[ElsewhereCost]:
    """One request's cost at each model, with the prices of its moment."""
    return [_cost(model, model.cost_nusd(usage, at)) for model in models]


def of_days(days: Mapping[int, Sums], models: Iterable[HostedModel]) -> list[ElsewhereCost]:
    """The cost of each UTC day (its first second since 1970) at that day's prices, together, at each model."""
    used = [
        Day(
            moment=datetime.fromtimestamp(second, UTC).replace(hour=12),  # prices change at midnight
            requests=sums.requests,
            prompt_tokens=sums.prompt_tokens,
            cached_prompt_tokens=sums.cached_prompt_tokens,
            response_tokens=sums.response_tokens,
        )
        for second, sums in days.items()
    ]
    return [_cost(model, model.cost_of_days_nusd(used)) for model in models]


def _cost(model: HostedModel, cost_nusd: int | None) -> ElsewhereCost:
    return {"provider": model.provider, "model": model.model, "cost": usd_or_none(cost_nusd)}
