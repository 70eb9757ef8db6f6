"""PriceDesk: one price list, whoever looks and wherever it was changed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.core.errors import InvalidRequest
from gemmapy.metering.prices import PriceDesk
from gemmapy.storage import revisions
from gemmapy.storage.store import Store


def priced(desk: PriceDesk, model: str, clock: FixedClock) -> int | None:
    found = desk.book.at(model, clock.now())
    return None if found is None else found.input_nusd_per_1k


def test_a_price_holds_from_the_moment_it_is_entered(store: Store, clock: FixedClock) -> None:
    desk = PriceDesk(store)
    entered = clock.now()
    desk.set("phi", "0.5", 1)
    clock.go_on(hours=1)
    desk.set("phi", 2, 1)
    assert priced(desk, "phi", clock) == 2_000_000_000
    before = desk.book.at("phi", entered)
    assert before is not None
    assert before.input_nusd_per_1k == 500_000_000


def test_another_desk_sees_a_new_price_once_it_refreshes(store: Store, clock: FixedClock) -> None:
    mine, other = PriceDesk(store), PriceDesk(store)
    mine.set("phi", 1, 1)
    assert priced(other, "phi", clock) is None
    other.refresh()
    assert priced(other, "phi", clock) == 1_000_000_000


def test_a_collector_prices_what_a_calculator_has_just_entered(store: Store) -> None:
    collector, costs = MetricsCollector(store), CostCalculator(store)
    costs.update_pricing("phi", 0.1, 0.2)
    collector.record(1, "phi", "/x", prompt_tokens=2_000, response_tokens=3_000)
    summary = costs.get_user_costs(1)
    assert summary["total_cost"] == 2 * 0.1 + 3 * 0.2
    assert summary["unpriced_requests"] == 0


def test_a_calculator_lists_and_uses_what_another_entered(store: Store) -> None:
    one, lists, uses = CostCalculator(store), CostCalculator(store), CostCalculator(store)
    one.update_pricing("phi", 0.1, 0.2)
    # Two of them, since either call brings its own calculator up to date.
    assert lists.get_pricing()["models"]["phi"] == {"input": 0.1, "output": 0.2}
    assert uses.calculate_cost("phi", 1_000, 0)["total_cost"] == 0.1


def test_a_refresh_without_a_change_keeps_the_book_and_what_it_remembers(store: Store) -> None:
    desk = PriceDesk(store)
    book = desk.book
    desk.refresh()
    assert desk.book is book


def test_every_price_counts_up_the_revision_that_other_processes_watch(store: Store) -> None:
    desk = PriceDesk(store)
    seen: list[int] = []
    for cost in (1, 2):
        with store.read() as connection:
            seen.append(revisions.current(connection)["prices"])
        desk.set("phi", cost, cost)
    with store.read() as connection:
        assert revisions.current(connection)["prices"] == seen[1] + 1 == seen[0] + 2


def test_prices_entered_at_once_are_all_in_the_book(store: Store, clock: FixedClock) -> None:
    desk = PriceDesk(store)
    at_once = threading.Barrier(4)

    def enter(number: int) -> None:
        at_once.wait(10)
        desk.set(f"m{number}", number, number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(1, 5)))
    assert [priced(desk, f"m{number}", clock) for number in range(1, 5)] == [n * 10**9 for n in range(1, 5)]


@pytest.mark.parametrize(
    ("model", "cost", "says"),
    [
        ("  ", 1, "1 to 200 characters, has 0"),
        ("x" * 201, 1, "1 to 200 characters, has 201"),
        ("a\nb", 1, "control characters"),
        ("a\x00", 1, "control characters"),
        ("*a", 1, r"\* at its end"),
        ("m", True, "input_cost must be a number of dollars"),
        ("m", None, "input_cost must be a number of dollars"),
        ("m", "nan", "zero or more"),
        ("m", "0.0000000001", "at most 9 decimals"),
    ],
)
def test_a_price_that_is_refused_changes_nothing(store: Store, model: str, cost: Any, says: str) -> None:
    desk = PriceDesk(store)
    book = desk.book
    with pytest.raises(InvalidRequest, match=says):
        desk.set(model, cost, 1)
    desk.refresh()
    assert desk.book is book
