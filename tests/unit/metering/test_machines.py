"""Hardware: what is stamped on rows and the idle line are what a power meter and the purchase say."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support.clock import FixedClock

from gemmapy.core.errors import Conflict, InvalidRequest, NotFound
from gemmapy.core.ids import RequestIds
from gemmapy.core.periods import Window
from gemmapy.core.records import Intent, Outcome, Timings, Usage
from gemmapy.metering.hardware import Hardware, MachineEntry
from gemmapy.metering.prices import PriceDesk
from gemmapy.metering.reprice import Repricer, Repricing
from gemmapy.metering.retention import retire
from gemmapy.pricing import cost_of
from gemmapy.storage.store import Store

IDS = RequestIds()
PARALLEL, WATTS_BUSY, WATTS_IDLE, PURCHASE, YEARS = 4, 430.0, 62.5, 5_200.0, 3.5


def entry(**more: Any) -> MachineEntry:
    figures: dict[str, Any] = {
        "name": "box",
        "upstreams": ["ollama"],
        "watts_busy": WATTS_BUSY,
        "watts_idle": WATTS_IDLE,
        "kwh_usd": "0.31",
        "purchase_usd": PURCHASE,
        "lifetime_years": YEARS,
        "parallel": PARALLEL,
        **more,
    }
    return MachineEntry(**figures)


@pytest.fixture
def desk(store: Store) -> PriceDesk:
    return PriceDesk(store)


@pytest.fixture
def hardware(store: Store, desk: PriceDesk) -> Hardware:
    return Hardware(store, desk)


def record(
    store: Store,
    desk: PriceDesk,
    model: str,
    prompt_ms: int | None,
    generation_ms: int | None,
    *,
    upstream: str = "ollama",
    tokens: tuple[int, int] = (100, 50),
    cached: bool = False,
) -> None:
    """A request as the gateway records it, finished now, at the price in force."""
    usage, timings = Usage(*tokens), Timings(prompt_ms=prompt_ms, generation_ms=generation_ms)
    price = desk.book.at(model, store.clock.now())
    cost = None if price is None else cost_of(price, usage, timings.compute_ms)
    intent = Intent(IDS.new(), 1, model, "/api/chat", store.clock.now(), upstream=upstream)
    store.record(Outcome(intent, 200, usage, timings, cost=cost, cached=cached))


@dataclass(frozen=True)
class Job:
    start_ms: int
    prompt_ms: int
    generation_ms: int

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.prompt_ms + self.generation_ms


def jobs(dice: random.Random, begin_ms: int, end_ms: int, pause_ms: int) -> list[Job]:
    """Work on every place, one job after the other with pauses of `pause_ms` at the mean."""
    found: list[Job] = []
    for _ in range(PARALLEL):
        at = begin_ms + dice.randrange(60_000)
        while True:
            job = Job(at, dice.randrange(20, 9_000), dice.randrange(100, 90_000))
            if job.end_ms > end_ms:
                break
            found.append(job)
            at = job.end_ms + int(dice.expovariate(1 / pause_ms)) if pause_ms else job.end_ms
    return found


def metered_usd(done: list[Job], begin_ms: int, end_ms: int, kwh_usd: float) -> float:
    """A power meter: watts by how many jobs run at each moment, times its duration, in kWh, times their price."""
    steps = sorted([(job.start_ms, 1) for job in done] + [(job.end_ms, -1) for job in done] + [(end_ms, 0)])
    joules, active, last = 0.0, 0, begin_ms
    for at, change in steps:
        watts = WATTS_IDLE + (WATTS_BUSY - WATTS_IDLE) * active / PARALLEL
        joules += watts * (at - last) / 1000
        active, last = active + change, at
        assert 0 <= active <= PARALLEL
    assert active == 0
    return joules / 3_600_000 * kwh_usd


def test_busy_cost_on_rows_and_the_idle_line_are_the_meter_and_the_amortisation_to_a_thousandth(
    store: Store, clock: FixedClock, desk: PriceDesk, hardware: Hardware
) -> None:
    dice, begin, hour_ms = random.Random(20261124), clock.now(), 3_600_000
    hardware.add_machine(entry())
    hardware.enter_price("box", "*")
    # A quiet hour, a light one, one at full load; then power costs more, and it is light again, and nothing.
    cheap = [*jobs(dice, hour_ms, 2 * hour_ms, 300_000), *jobs(dice, 2 * hour_ms, 3 * hour_ms, 0)]
    dear = jobs(dice, 3 * hour_ms, 4 * hour_ms, 100_000)
    pending = sorted([*cheap, *dear], key=lambda job: job.end_ms)
    assert len(pending) > 300

    def go_to(ms: int) -> None:
        clock.go_on(seconds=(begin + timedelta(milliseconds=ms) - clock.now()).total_seconds())

    for number, job in enumerate(pending):
        if job in dear and clock.now() < begin + timedelta(hours=3):
            go_to(3 * hour_ms)
            hardware.add_machine(entry(kwh_usd="0.47", upstreams=["ollama", "vllm"]))
            hardware.enter_price("box", "*")
        go_to(job.end_ms)
        record(
            store,
            desk,
            f"m{number % 3}",
            job.prompt_ms,
            job.generation_ms,
            upstream="vllm" if job in dear else "ollama",
        )
    go_to(5 * hour_ms)

    said = hardware.get_machine_cost("box", Window(begin, clock.now()))
    metered = metered_usd(cheap, 0, 3 * hour_ms, 0.31) + metered_usd(dear, 3 * hour_ms, 5 * hour_ms, 0.47)
    amortised = PURCHASE * 5 / (YEARS * 365.25 * 24)
    with store.read() as connection:
        stamped = connection.exec_driver_sql("SELECT sum(cost_nusd) FROM llm_metrics").scalar_one() / 1e9
    assert stamped + said["idle_cost"] == pytest.approx(metered + amortised, rel=1e-3)
    assert said["stamped_cost"] == stamped
    assert said["busy_cost"] == pytest.approx(stamped, rel=1e-3)
    assert said["energy_cost"] == pytest.approx(metered, rel=1e-6)
    assert said["amortisation"] == pytest.approx(amortised, rel=1e-6)
    # The mix is one in which each part matters, so that none could be wrong unseen.
    assert min(stamped, said["idle_cost"]) > 0.2 * (metered + amortised)
    assert 0.2 < said["utilisation"] < 0.6
    assert len(said["periods"]) == 2
    assert said["warning"] is None


def test_lines_add_up_to_the_nano_dollar_both_ways(
    store: Store, clock: FixedClock, desk: PriceDesk, hardware: Hardware
) -> None:
    begin = clock.now()
    hardware.add_machine(entry(purchase_usd="1234.567891234", kwh_usd="0.333333333"))
    clock.go_on(seconds=777.777)
    record(store, desk, "llama3", 333, 7777)
    said = hardware.get_machine_cost("box", Window(begin, clock.now() + timedelta(seconds=1)))
    nusd = {
        name: round(said[name] * 1e9)  # pyright: ignore
        for name in ("total_cost", "busy_cost", "idle_cost", "energy_cost", "amortisation")
    }
    assert nusd["total_cost"] == nusd["busy_cost"] + nusd["idle_cost"] == nusd["energy_cost"] + nusd["amortisation"]


def test_costs_by_model_come_from_measured_prompt_and_generation(
    store: Store, clock: FixedClock, desk: PriceDesk, hardware: Hardware
) -> None:
    hardware.add_machine(entry(watts_busy=360, watts_idle=0, kwh_usd="0.25", purchase_usd=0, parallel=1))
    begin = clock.now()
    clock.go_on(hours=1)
    record(store, desk, "small", 1_000, 9_000, tokens=(1_000, 500))
    record(store, desk, "large", 10_000, 90_000, tokens=(1_000, 500))
    record(store, desk, "unmeasured", None, None)
    record(store, desk, "large", 10_000, 90_000, cached=True)
    record(store, desk, "large", 10_000, 90_000, upstream="other")
    clock.go_on(seconds=1)
    said = hardware.get_machine_cost("box", Window(begin, clock.now()))
    second = 360 / 3.6e6 * 0.25
    large, small, unmeasured = said["models"]
    assert [model["model"] for model in said["models"]] == ["large", "small", "unmeasured"]
    assert large["busy_cost"] == pytest.approx(100 * second, abs=1e-9)
    assert small["input_cost_per_million"] == pytest.approx(1 * second / 1_000 * 1e6)
    assert small["output_cost_per_million"] == pytest.approx(9 * second / 500 * 1e6)
    assert (unmeasured["input_cost_per_million"], unmeasured["output_cost_per_million"]) == (None, None)
    assert (said["requests"], said["unmeasured_requests"]) == (3, 1)
    assert said["compute_seconds"] == said["busy_seconds"] == 110
    assert said["total_tokens"] == 2 * 1_500 + 150
    assert said["cost_per_million_tokens"] == pytest.approx(110 * second / 3_150 * 1e6)


def test_a_figure_that_cannot_be_is_said(store: Store, clock: FixedClock, desk: PriceDesk, hardware: Hardware) -> None:
    hardware.add_machine(entry(parallel=1))
    begin = clock.now()
    clock.go_on(seconds=10)
    record(store, desk, "llama3", 0, 15_000)
    clock.go_on(seconds=1)
    said = hardware.get_machine_cost("box", Window(begin, clock.now()))
    assert said["idle_cost"] < 0
    assert said["utilisation"] > 1
    assert "15 of 11 seconds" in (said["warning"] or "")


def test_a_price_says_from_which_machine_and_figures(store: Store, desk: PriceDesk, hardware: Hardware) -> None:
    number = hardware.add_machine(entry())
    made = hardware.enter_price(number, "llama3", by=1)
    price = desk.book.at("llama3:8b", store.clock.now())
    assert price is not None
    exact = (WATTS_BUSY / 3.6e6 * 0.31 + PURCHASE / (YEARS * 365.25 * 86_400)) / PARALLEL
    assert price.compute_nusd_per_second == round(exact * 1e9)
    assert (price.input_nusd_per_1k, price.output_nusd_per_1k, price.request_nusd) == (0, 0, 0)
    assert made["source"] == (
        f"machine box, record {number}: 430 W busy, 0.31 USD per kWh, 5200 USD over 3.5 years, 4 at once"
    )


def test_a_price_that_rounding_moves_is_told_so(hardware: Hardware) -> None:
    hardware.add_machine(entry(watts_busy=3, watts_idle=1, purchase_usd=0, kwh_usd="0.1", parallel=8))
    assert "Rounding to a nano-dollar moves it by" in hardware.enter_price("box", "llama3")["message"]
    hardware.add_machine(entry(watts_busy=0, watts_idle=0, purchase_usd=0))
    with pytest.raises(InvalidRequest, match="less than a nano-dollar"):
        hardware.enter_price("box", "llama3")


def test_records_are_appended_and_the_last_that_took_effect_is_in_force(hardware: Hardware, clock: FixedClock) -> None:
    first = hardware.add_machine(entry(effective_at=clock.now() - timedelta(days=30)), by=1)
    second = hardware.add_machine(entry(name="BOX", kwh_usd="0.4", note="new contract"))
    third = hardware.add_machine(entry(kwh_usd="0.5", effective_at=clock.now() + timedelta(days=1)))
    shown = {machine["id"]: machine for machine in hardware.get_machines()["machines"]}
    assert [shown[number]["in_force"] for number in (first, second, third)] == [False, True, False]
    assert (shown[first]["entered_by"], shown[second]["entered_by"], shown[second]["note"]) == (
        "ada",
        None,
        "new contract",
    )
    assert hardware.enter_price(third, "llama3")["source"].startswith(f"machine BOX, record {second}:")
    clock.go_on(days=2)
    assert hardware.enter_price("box", "llama3")["source"].startswith(f"machine box, record {third}:")


def test_two_machines_are_never_one_upstream_at_one_time(hardware: Hardware, clock: FixedClock) -> None:
    now = clock.now()
    hardware.add_machine(entry())
    with pytest.raises(Conflict, match="'box' is the upstream 'ollama'"):
        hardware.add_machine(entry(name="other", upstreams=["vllm", "ollama"]))
    with pytest.raises(Conflict):  # the other's time reaches into that of the first
        hardware.add_machine(entry(name="other", effective_at=now - timedelta(days=1)))
    hardware.add_machine(entry(name="other", upstreams=["vllm"]))
    hardware.add_machine(entry(upstreams=[], effective_at=now + timedelta(days=1)))  # taken out of service
    hardware.add_machine(entry(name="other", upstreams=["ollama"], effective_at=now + timedelta(days=1)))
    assert len(hardware.get_machines()["machines"]) == 4


def test_there_is_no_cost_of_a_machine_that_is_not_there_or_not_yet(hardware: Hardware, clock: FixedClock) -> None:
    window = Window(clock.now() - timedelta(days=1), clock.now())
    for unknown in (1, "box", ""):
        with pytest.raises(NotFound, match="no machine"):
            hardware.get_machine_cost(unknown, window)
        with pytest.raises(NotFound, match="no machine"):
            hardware.enter_price(unknown, "llama3")
    later: datetime = clock.now() + timedelta(days=1)
    hardware.add_machine(entry(effective_at=later))
    with pytest.raises(InvalidRequest, match="known from 2026-11-25"):
        hardware.get_machine_cost("box", window)
    with pytest.raises(InvalidRequest, match="not in service yet"):
        hardware.enter_price("box", "llama3")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": " "}, "name must have"),
        ({"name": "a\nb"}, "name must have"),
        ({"upstreams": [""]}, "upstreams must be"),
        ({"upstreams": ["x"] + [f"u{n}" for n in range(50)]}, "upstreams must be"),
        ({"watts_busy": float("nan")}, "watts_busy must be"),
        ({"watts_idle": -1}, "watts_idle must be from 0"),
        ({"watts_idle": 500}, "at most watts_busy"),
        ({"kwh_usd": -1}, "kwh_cost must be"),
        ({"purchase_usd": "x"}, "purchase_cost must be"),
        ({"lifetime_years": 0}, "lifetime_years must be"),
        ({"parallel": 0}, "parallel must be"),
        ({"effective_at": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001 - that is the point
    ],
)
def test_a_machine_that_makes_no_sense_is_refused(hardware: Hardware, change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        hardware.add_machine(entry(**change))
    assert hardware.get_machines()["machines"] == []


def test_requests_from_before_can_be_charged_their_seconds(
    store: Store, clock: FixedClock, desk: PriceDesk, hardware: Hardware
) -> None:
    begin = clock.now()
    hardware.add_machine(entry())
    for upstream in ("ollama", "other"):
        record(store, desk, "phi", 400, 1_600, upstream=upstream)
    clock.go_on(hours=1)
    hardware.enter_price("box", "phi")
    window = Window(begin, clock.now())
    assert hardware.get_machine_cost("box", window)["stamped_cost"] == 0
    Repricer(store, desk).apply(Repricing(window, prices_at=clock.now(), reason="the box has a price"))
    price = desk.book.at("phi", clock.now())
    assert price is not None
    said = hardware.get_machine_cost("box", window)
    assert said["stamped_cost"] == 2 * price.compute_nusd_per_second / 1e9
    assert said["models"][0]["stamped_cost"] == said["stamped_cost"]
    assert said["busy_cost"] == pytest.approx(said["stamped_cost"], rel=1e-3)


def test_where_days_have_retired_the_window_begins_after_them_and_says_so(
    store: Store, clock: FixedClock, desk: PriceDesk, hardware: Hardware
) -> None:
    hardware.add_machine(entry())
    begin = clock.now()
    for _ in range(6):
        record(store, desk, "phi", 400, 1_600)
        clock.go_on(days=1)
    whole = hardware.get_machine_cost("box", Window(begin, clock.now()))
    assert (whole["requests"], whole["snapped"]) == (6, False)
    assert len(list(retire(store, 3))) == 3
    said = hardware.get_machine_cost("box", Window(begin, clock.now()))
    assert (said["requests"], said["snapped"], f"{said['from']:%m-%d %H:%M}") == (3, True, "11-27 00:00")
    with pytest.raises(InvalidRequest, match="known from 2026-11-27"):
        hardware.get_machine_cost("box", Window(begin, begin + timedelta(days=1)))
