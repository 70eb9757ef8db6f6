"""Hosted models: prices by date, by the length of the prompt, to the nano-dollar, without a network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
)
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.config import COMPARED
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.records import Usage
from gemmapy.pricing import catalogue
from gemmapy.pricing.catalogue import Day, HostedModel

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CHANGE = date(2026, 11, 1)
M = 1_000_000


def hosted(prices: ModelPrice | list[ConditionalPrice]) -> HostedModel:
    info = ModelInfo(id="m", match=ClauseEquals("m"), prices=prices)
    return HostedModel("p", "P", "m", "m", None, False, info)


def flat(**usd: str) -> HostedModel:
    return hosted(ModelPrice(**{name: Decimal(amount) for name, amount in usd.items()}))


def tiered(base: str, start: int, above: str) -> TieredPrices:
    return TieredPrices(base=Decimal(base), tiers=[Tier(start=start, price=Decimal(above))])


DATED = hosted(
    [
        ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(3), output_mtok=Decimal(15))),
        ConditionalPrice(
            constraint=StartDateConstraint(CHANGE), prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(5))
        ),
    ]
)
LONG = hosted(ModelPrice(input_mtok=tiered("1", 200_000, "2"), output_mtok=tiered("10", 200_000, "15")))


def test_a_request_costs_its_tokens_times_the_rate() -> None:
    model = flat(input_mtok="0.15", output_mtok="0.6")
    assert model.cost_nusd(Usage(1_000, 200), NOW) == 1_000 * 150 + 200 * 600


def test_cached_tokens_are_a_part_of_the_prompt_at_a_rate_of_their_own() -> None:
    usage = Usage(1_000, 0, cached_prompt_tokens=400)
    assert flat(input_mtok="1", output_mtok="5", cache_read_mtok="0.1").cost_nusd(usage, NOW) == 600_000 + 40_000
    assert flat(input_mtok="1", output_mtok="5").cost_nusd(usage, NOW) == 1_000_000
    more = Usage(10, 0, cached_prompt_tokens=400)
    assert flat(input_mtok="1", output_mtok="5", cache_read_mtok="0.1").cost_nusd(more, NOW) == 10 * 100


def test_the_price_is_the_one_of_the_requests_day() -> None:
    before = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    assert DATED.cost_nusd(Usage(1_000, 100), before) == 1_000 * 3_000 + 100 * 15_000
    assert DATED.cost_nusd(Usage(1_000, 100), before + timedelta(minutes=1)) == 1_000 * 1_000 + 100 * 5_000
    assert DATED.price(before).input_nusd_per_1k == 3_000 * 1_000


def test_a_long_prompt_costs_more_where_the_provider_says_so() -> None:
    assert LONG.cost_nusd(Usage(200_000, 1), NOW) == 200_000 * 1_000 + 10_000
    assert LONG.cost_nusd(Usage(200_001, 1), NOW) == 200_001 * 2_000 + 15_000
    assert LONG.price(NOW).has_tiers
    assert LONG.price(NOW).input_nusd_per_1k == 1_000_000
    assert not DATED.price(NOW).has_tiers


@pytest.mark.parametrize(("tokens", "nusd"), [(1, 0), (2, 1), (3, 2), (5, 2)])
def test_half_a_nano_dollar_goes_to_the_even_one(tokens: int, nusd: int) -> None:
    assert flat(input_mtok="0.0005", output_mtok="1").cost_nusd(Usage(tokens, 0), NOW) == nusd


def test_unknown_tokens_cost_nothing_that_is_known() -> None:
    assert flat(input_mtok="1", output_mtok="1").cost_nusd(Usage(), NOW) is None


def test_what_is_not_sold_by_the_token_has_no_cost() -> None:
    model = flat(audio_hours="0.1")
    assert model.cost_nusd(Usage(1, 1), NOW) is None
    assert model.cost_of_days_nusd([Day(NOW, 1, 1, 0, 1)]) is None
    assert model.price(NOW).input_nusd_per_1k is None


def test_a_price_per_request_is_asked_for_each() -> None:
    model = flat(input_mtok="1", output_mtok="1", requests_kcount="5")
    assert model.price(NOW).request_nusd == 5_000_000
    assert model.cost_nusd(Usage(0, 0), NOW) == 5_000_000
    assert model.cost_of_days_nusd([Day(NOW, 3, 0, 0, 0), Day(NOW + timedelta(days=1), 4, 0, 0, 0)]) == 7 * 5_000_000


def test_days_are_priced_each_at_its_own_price() -> None:
    days = [Day(datetime(2026, 10, 31, 12, tzinfo=UTC), 2, M, 0, 0), Day(NOW, 2, 0, 0, M)]
    assert DATED.cost_of_days_nusd(days) == (3 + 5) * 10**9
    assert DATED.cost_of_days_nusd([]) == 0


def test_the_mean_prompt_of_many_says_which_tier_holds() -> None:
    assert LONG.cost_of_days_nusd([Day(NOW, 10, M, 0, 0)]) == 10**9
    assert LONG.cost_of_days_nusd([Day(NOW, 4, M, 0, 0)]) == 2 * 10**9


spent = st.lists(st.tuples(st.integers(0, 60), st.integers(0, M), st.integers(0, M), st.integers(0, M)), max_size=8)


@given(spent)
def test_a_period_costs_what_its_requests_cost_but_for_rounding(requests: Sequence[tuple[int, int, int, int]]) -> None:
    model = hosted(
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal("0.333"), output_mtok=Decimal("0.777"))),
            ConditionalPrice(
                constraint=StartDateConstraint(CHANGE),
                prices=ModelPrice(
                    input_mtok=Decimal("0.111"), cache_read_mtok=Decimal("0.0123"), output_mtok=Decimal("0.4")
                ),
            ),
        ]
    )
    days, apart = [], 0
    for ago, prompt, cached, response in requests:
        moment = NOW - timedelta(days=ago)
        cached = min(cached, prompt)
        days.append(Day(moment, 1, prompt, cached, response))
        apart += model.cost_nusd(Usage(prompt, response, cached), moment) or 0
    together = model.cost_of_days_nusd(days)
    assert together is not None
    assert abs(together - apart) <= len(days)


def test_the_models_that_are_compared_by_default_are_known_and_sold_by_the_token() -> None:
    for reference in COMPARED:
        model = catalogue.find(reference)
        assert model.reference == reference
        assert not model.is_deprecated
        assert (model.cost_nusd(Usage(1_000, 1_000), NOW) or 0) > 0


def test_every_hosted_model_can_be_priced() -> None:
    models, total = catalogue.search("", 100_000)
    assert len(models) == total > 1_000
    assert len({model.reference for model in models}) == total
    priced = [model for model in models if model.cost_nusd(Usage(1_000, 100, 10), NOW) is not None]
    assert len(priced) > total * 0.9
    for model in models:
        model.price(NOW)


def test_a_search_needs_every_word_and_shows_the_closest_first() -> None:
    found, total = catalogue.search("GPT 4o mini openai", 5)
    assert total >= len(found) == 5
    assert all({"gpt", "4o", "mini", "openai"} <= set(_words(model)) for model in found)
    assert catalogue.search("openai/gpt-4o", 1)[0][0].reference == "openai/gpt-4o"
    assert catalogue.search("gpt-4o", 3)[0][0].model == "gpt-4o"
    assert catalogue.search("no such thing at all", 5) == ([], 0)


def _words(model: HostedModel) -> list[str]:
    return [word for word in ("gpt", "4o", "mini", "openai") if word in f"{model.reference} {model.name}".lower()]


def test_a_model_is_found_in_any_case_and_by_what_its_provider_takes_for_it() -> None:
    assert catalogue.find(" OpenAI/GPT-4o-mini ").reference == "openai/gpt-4o-mini"
    assert catalogue.find("openai/gpt-4o-mini-2024-07-18").reference == "openai/gpt-4o-mini"


@pytest.mark.parametrize("reference", ["", "gpt-4o", "openai/", "/", "nobody/gpt-4o", "openai/zzz", "x" * 500])
def test_an_unknown_model_is_refused(reference: str) -> None:
    with pytest.raises(InvalidRequest, match="a name is PROVIDER/MODEL"):
        catalogue.find(reference)


def test_a_misspelt_name_is_told_what_it_may_mean() -> None:
    with pytest.raises(InvalidRequest) as refused:
        catalogue.find("openai/gpt-4o-mimi")
    assert "openai/gpt-4o-mini" in refused.value.hint


def test_it_is_loaded_only_when_somebody_asks_and_reaches_no_network() -> None:
    program = """
import socket, sys
def refuse(*_): raise AssertionError("the catalogue reached for the network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import gemmapy.serving
from gemmapy.pricing import catalogue
assert "genai_prices" not in sys.modules
assert catalogue.find("openai/gpt-4o").model == "gpt-4o"
import threading
assert threading.active_count() == 1
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
