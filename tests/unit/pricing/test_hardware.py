"""The cost of one's own machine: the formulas, and that nothing is lost between busy, idle, energy and amortisation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.periods import Window
from gemmapy.pricing.hardware import (
    Machine,
    Stretch,
    Worked,
    cost_of_machine,
    in_force,
    per_million,
    stretches,
)

START = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = Window(START, START + timedelta(hours=1))
YEAR_S = 365.25 * 24 * 3600


def machine(number: int = 1, at: datetime = START, **more: float) -> Machine:
    """720 W at work and 72 W idle, at 0.25 USD per kWh; 3,155.76 USD over four years; four at once."""
    figures = {"watts_busy": 720, "watts_idle": 72, "lifetime_years": 4, **more}
    return Machine(
        id=number,
        name="box",
        upstreams=("ollama",),
        watts_busy=figures["watts_busy"],
        watts_idle=figures["watts_idle"],
        kwh_nusd=int(figures.get("kwh_nusd", 250_000_000)),
        purchase_nusd=int(figures.get("purchase_nusd", 3_155_760_000_000)),
        lifetime_years=figures["lifetime_years"],
        parallel=int(figures.get("parallel", 4)),
        effective_at=at,
    )


def test_amortisation_is_the_purchase_over_the_seconds_of_its_life() -> None:
    assert machine().amortisation_nusd_per_second == Fraction(3_155_760_000_000) / Fraction(4 * YEAR_S) == 25_000


def test_a_busy_second_is_energy_and_amortisation() -> None:
    energy = 720 / 3.6e6 * 0.25 * 10**9
    assert machine().busy_nusd_per_second == energy + 25_000 == 75_000


def test_an_idle_second_is_the_same_with_what_it_draws_when_idle() -> None:
    assert machine().idle_nusd_per_second == 72 / 3.6e6 * 0.25 * 10**9 + 25_000 == 30_000


def test_a_second_of_compute_takes_one_of_the_places() -> None:
    assert machine().compute_nusd_per_second == 75_000 / 4


def test_figures_are_those_that_were_typed_and_not_binary_fractions() -> None:
    assert machine(watts_busy=0.1, purchase_nusd=0).busy_nusd_per_second == Fraction(250_000_000, 36_000_000)


def test_an_hour_with_one_busy_quarter() -> None:
    worked = Worked("llama3", 10, 0, 600_000, 3_000_000, prompt_tokens=9_000, response_tokens=1_000)
    cost = cost_of_machine([(Stretch(machine(), HOUR), [worked])])
    assert (cost.wall_seconds, cost.busy_seconds) == (3600, 3600 / 4)
    assert (float(cost.busy_kwh), float(cost.idle_kwh)) == (0.720 / 4, 0.054)
    assert cost.busy_nusd == 900 * 75_000
    assert cost.idle_nusd == 2700 * 30_000
    assert cost.energy_nusd == (cost.busy_kwh + cost.idle_kwh) * 250_000_000
    assert cost.amortisation_nusd == 3600 * 25_000
    (share,) = cost.models
    assert (share.prompt_nusd, share.generation_nusd) == (600 * 75_000 / 4, 3000 * 75_000 / 4)
    assert per_million(cost.total_nusd, 10_000) == (900 * 75_000 + 2700 * 30_000) / 10**9 * 100
    assert not cost.is_overcommitted


def test_more_compute_than_the_machine_has_shows_as_a_negative_idle_line() -> None:
    cost = cost_of_machine([(Stretch(machine(parallel=1), HOUR), [Worked("llama3", 1, 0, 0, 7_200_000)])])
    assert cost.is_overcommitted
    assert cost.idle_nusd == -3600 * 30_000
    assert cost.total_nusd == cost.energy_nusd + cost.amortisation_nusd


def test_of_no_tokens_there_is_no_cost_per_million() -> None:
    assert per_million(Fraction(5), 0) is None


amounts = st.integers(0, 10**13)
machines = st.builds(
    machine,
    watts_busy=st.floats(100, 2000),
    watts_idle=st.floats(0, 100),
    kwh_nusd=st.integers(0, 10**9),
    purchase_nusd=amounts,
    lifetime_years=st.floats(0.5, 20),
    parallel=st.integers(1, 64),
)
work = st.lists(
    st.builds(Worked, st.sampled_from(["a", "b"]), st.just(1), st.just(0), st.integers(0, 10**7), st.integers(0, 10**7))
)


@given(st.lists(st.tuples(machines, work), max_size=4))
def test_busy_and_idle_are_energy_and_amortisation_and_the_models_are_busy(
    parts: list[tuple[Machine, list[Worked]]],
) -> None:
    cost = cost_of_machine([(Stretch(record, HOUR), worked) for record, worked in parts])
    assert cost.busy_nusd + cost.idle_nusd == cost.energy_nusd + cost.amortisation_nusd
    assert sum(share.prompt_nusd + share.generation_nusd for share in cost.models) == cost.busy_nusd
    assert sum(share.worked.requests for share in cost.models) == sum(len(worked) for _, worked in parts)


@given(st.lists(st.integers(-100, 200), min_size=1, max_size=6), st.integers(1, 100))
def test_a_window_is_cut_where_a_record_takes_effect_and_nothing_is_lost(hours: list[int], length: int) -> None:
    window = Window(START, START + timedelta(hours=length))
    records = [machine(number, START + timedelta(hours=hour)) for number, hour in enumerate(hours, 1)]
    found = stretches(records, window)
    begin = max(START, START + timedelta(hours=min(hours)))
    if begin >= window.end:
        assert found == []
        return
    assert (found[0].window.start, found[-1].window.end) == (begin, window.end)
    for before, after in pairwise(found):
        assert before.window.end == after.window.start
    for part in found:
        for moment in (part.window.start, part.window.end - timedelta(microseconds=1)):
            assert in_force(records, moment) == part.machine
    assert sum(part.wall_seconds for part in found) == (window.end - begin).total_seconds()


@pytest.mark.parametrize("ids", [(1, 2), (2, 1)])
def test_of_two_records_of_one_moment_the_later_entered_holds(ids: tuple[int, int]) -> None:
    records = [machine(number) for number in ids]
    held = in_force(records, START)
    assert held is not None
    assert held.id == 2
    assert [part.machine.id for part in stretches(records, HOUR)] == [2]
    assert in_force(records, START - timedelta(seconds=1)) is None
