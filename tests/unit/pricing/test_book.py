"""The price book: which price holds, and what a request costs at it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.records import Usage
from gemmapy.pricing import Price, PriceBook, cost_of
from gemmapy.pricing.bundled import BUNDLED

START = datetime(2026, 1, 1, tzinfo=UTC)


def price(model: str, number: int = 1, at: datetime = START, **more: int) -> Price:
    return Price(number, model, 150_000, 300_000, at, **more)


def priced_by(book: PriceBook, model: str) -> str | None:
    found = book.at(model, START)
    return None if found is None else found.model


BOOK = PriceBook(
    price(name, number)
    for number, name in enumerate(
        ["llama3", "llama3:8b", "library/phi", "hf.co/x/y", "gpt-*", "gpt-4", "Mixtral", "qwen:*"], 1
    )
)


@pytest.mark.parametrize(
    ("model", "by"),
    [
        ("llama3", "llama3"),
        ("llama3:latest", "llama3"),
        ("llama3:8b", "llama3:8b"),
        ("llama3:8b-instruct-q4_0", "llama3:8b"),
        ("llama3:70b-instruct", "llama3"),
        ("llama3:8bit", "llama3"),
        ("llama3@sha256:abc", "llama3"),
        ("LLAMA3:8B", "llama3:8b"),
        ("llama3.1", None),
        ("llama3.1:8b", None),
        ("llama3-chatqa", None),
        ("llama", None),
        ("library/phi:mini", "library/phi"),
        ("phi", None),
        ("hf.co/x/y:Q4_K_M", "hf.co/x/y"),
        ("hf.co/x/yz", None),
        ("gpt-4", "gpt-4"),
        ("gpt-4:mini", "gpt-4"),
        ("gpt-4o", "gpt-*"),
        ("mixtral:8x7b", "Mixtral"),
        ("qwen:7b", "qwen:*"),
        ("qwen", None),
        ("", None),
    ],
)
def test_a_price_holds_for_its_model_and_its_tags_and_for_no_other(model: str, by: str | None) -> None:
    assert priced_by(BOOK, model) == by


def test_a_later_price_holds_from_its_moment_on() -> None:
    tomorrow = START + timedelta(days=1)
    book = PriceBook([price("m", 2, tomorrow), price("m", 1)])
    ids = {at: found.id for at in (START, tomorrow) if (found := book.at("m", at))}
    assert ids == {START: 1, tomorrow: 2}
    assert book.at("m", START - timedelta(seconds=1)) is None


def test_of_two_prices_of_one_moment_the_one_entered_later_holds() -> None:
    found = PriceBook([price("m", 2), price("m", 1)]).at("m", START)
    assert found is not None
    assert found.id == 2


def test_a_longer_name_that_is_not_in_force_yet_leaves_it_to_the_shorter() -> None:
    book = PriceBook([price("m", 1), price("m:8b", 2, START + timedelta(days=1))])
    found = book.at("m:8b", START)
    assert found is not None
    assert found.model == "m"


def test_a_cost_is_tokens_times_price() -> None:
    cost = cost_of(price("m"), Usage(25_000, 50_000))
    assert cost.prompt_nusd == 25_000 * 150_000 // 1000
    assert cost.response_nusd == 50_000 * 300_000 // 1000
    assert cost.total_nusd == cost.prompt_nusd + cost.response_nusd


def test_cached_tokens_are_part_of_the_prompt() -> None:
    cost = cost_of(price("m", cached_input_nusd_per_1k=10_000), Usage(1000, 0, cached_prompt_tokens=400))
    assert cost.prompt_nusd == 600 * 150_000 // 1000 + 400 * 10_000 // 1000
    assert cost_of(price("m"), Usage(1000, 0, cached_prompt_tokens=400)).prompt_nusd == 150_000


def test_a_request_and_its_compute_can_cost() -> None:
    cost = cost_of(price("m", request_nusd=7, compute_nusd_per_second=2_000), Usage(0, 0), compute_ms=1_500)
    assert cost.other_nusd == 7 + 3_000
    assert cost.total_nusd == 7 + 3_000


def test_each_part_rounds_half_to_even() -> None:
    half = Price(1, "m", 500, 1500, START)
    cost = cost_of(half, Usage(1, 1))
    assert (cost.prompt_nusd, cost.response_nusd) == (0, 2)  # 0.5 and 1.5


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**9))
def test_a_cost_is_within_half_a_nano_dollar_of_the_product(tokens: int, cached: int, rate: int) -> None:
    usage = Usage(tokens, None, min(cached, tokens))
    cost = cost_of(Price(1, "m", rate, 0, START, cached_input_nusd_per_1k=rate // 2), usage)
    exact = (tokens - min(cached, tokens)) * rate + min(cached, tokens) * (rate // 2)
    assert abs(cost.total_nusd * 1000 - exact) <= 500


def test_names_from_clients_do_not_fill_the_memory() -> None:
    book = PriceBook([price("m")])
    for number in range(10_000):
        book.at(f"m:{number}", START)
    assert len(book._names) <= 4096  # pyright: ignore[reportPrivateUsage]


def test_the_bundled_prices_are_the_contracts() -> None:
    assert {entry.model: (entry.input_nusd_per_1k, entry.output_nusd_per_1k) for entry in BUNDLED} == {
        "llama2": (100_000, 200_000),
        "llama3": (150_000, 300_000),
        "mistral": (100_000, 200_000),
    }
