"""What one's own machine costs: by the second of the clock, busy or idle, and by the second of a request's compute.

Pure and exact: fractions of a nano-dollar, rounded half-even where they become a price or a figure. The formulas are
those of docs/hardware.md. The one assumption is that the power drawn rises in step with the requests at work, from
`watts_idle` with none to `watts_busy` with `parallel`; then busy cost and idle line add up to meter and amortisation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from gemmapy.core.money import NUSD_PER_USD, usd
from gemmapy.core.periods import Window

SECONDS_PER_YEAR = Fraction("365.25") * 86_400
JOULES_PER_KWH = 3_600_000
_MS_PER_S = 1_000


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as it is from `effective_at` on, until a later record of the same name."""

    id: int
    name: str
    upstreams: tuple[str, ...]
    """The names of the upstreams that it is; none: it has been taken out of service."""
    watts_busy: float
    """At the wall, with `parallel` requests at work."""
    watts_idle: float
    kwh_nusd: int
    """The price of a kilowatt-hour."""
    purchase_nusd: int
    lifetime_years: float
    parallel: int
    """Requests that it works on at once."""
    effective_at: datetime

    @property
    def amortisation_nusd_per_second(self) -> Fraction:
        """Of the clock, whether it works or not."""
        return self.purchase_nusd / (exact(self.lifetime_years) * SECONDS_PER_YEAR)

    @property
    def busy_nusd_per_second(self) -> Fraction:
        """Of the clock, with every place taken: energy and amortisation."""
        return exact(self.watts_busy) * self.kwh_nusd / JOULES_PER_KWH + self.amortisation_nusd_per_second

    @property
    def idle_nusd_per_second(self) -> Fraction:
        """Of the clock, with nothing to do: energy and amortisation."""
        return exact(self.watts_idle) * self.kwh_nusd / JOULES_PER_KWH + self.amortisation_nusd_per_second

    @property
    def compute_nusd_per_second(self) -> Fraction:
        """Of one request's compute, which takes one of `parallel` places."""
        return self.busy_nusd_per_second / self.parallel

    @property
    def figures(self) -> str:
        """What it is computed from, in one line: the source of a price."""
        return (
            f"{self.watts_busy:g} W busy, {usd(self.kwh_nusd):.9g} USD per kWh, {usd(self.purchase_nusd):.15g} USD over"
            f" {self.lifetime_years:g} years, {self.parallel} at once"
        )


@dataclass(frozen=True, slots=True)
class Worked:
    """What a machine did of one model: sums of the ledger."""

    model: str
    requests: int = 0
    unmeasured: int = 0
    """Requests whose engine said nothing of its time; their compute is in no sum."""
    prompt_ms: int = 0
    generation_ms: int = 0
    prompt_tokens: int = 0
    response_tokens: int = 0
    stamped_nusd: int = 0
    """What they are charged, whatever price that was."""

    def __add__(self, other: Worked) -> Worked:
        return Worked(
            self.model,
            self.requests + other.requests,
            self.unmeasured + other.unmeasured,
            self.prompt_ms + other.prompt_ms,
            self.generation_ms + other.generation_ms,
            self.prompt_tokens + other.prompt_tokens,
            self.response_tokens + other.response_tokens,
            self.stamped_nusd + other.stamped_nusd,
        )

    @property
    def compute_seconds(self) -> Fraction:
        return Fraction(self.prompt_ms + self.generation_ms, _MS_PER_S)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a window in which one record of a machine holds."""

    machine: Machine
    window: Window

    @property
    def wall_seconds(self) -> Fraction:
        span = self.window.end - self.window.start
        return Fraction((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds, 1_000_000)


@dataclass(frozen=True, slots=True)
class ModelShare:
    """One model's part of what a machine did, with the busy cost of its seconds."""

    worked: Worked
    prompt_nusd: Fraction
    generation_nusd: Fraction


@dataclass(frozen=True, slots=True)
class MachineCost:
    """A machine's cost over a window, in seconds, kilowatt-hours and nano-USD."""

    wall_seconds: Fraction
    busy_seconds: Fraction
    """Compute over `parallel`: so long would the machine have worked with every place taken."""
    busy_kwh: Fraction
    idle_kwh: Fraction
    energy_nusd: Fraction
    amortisation_nusd: Fraction
    busy_nusd: Fraction
    idle_nusd: Fraction
    """Negative where more compute was measured than the machine has."""
    models: tuple[ModelShare, ...]

    @property
    def total_nusd(self) -> Fraction:
        """Energy and amortisation, which is also busy and idle."""
        return self.busy_nusd + self.idle_nusd

    @property
    def is_overcommitted(self) -> bool:
        """More compute was measured than the machine has, so a figure of it is wrong."""
        return self.busy_seconds > self.wall_seconds


def exact(number: float) -> Fraction:
    """A figure as it was typed: 0.1 is a tenth, not the nearest binary fraction."""
    return Fraction(str(number))


def rounded(amount: Fraction) -> int:
    """To the nearest nano-dollar, ties to the even one."""
    return round(amount)


def stretches(records: Iterable[Machine], window: Window) -> list[Stretch]:
    """The window cut where a record of one machine takes effect; what lies before its first record is left out.

    Of two records of one moment, the one entered later holds.
    """
    ordered = sorted(records, key=lambda record: (record.effective_at, record.id))
    found: list[Stretch] = []
    for place, record in enumerate(ordered):
        end = ordered[place + 1].effective_at if place + 1 < len(ordered) else window.end
        start, end = max(record.effective_at, window.start), min(end, window.end)
        if start < end:
            found.append(Stretch(record, Window(start, end)))
    return found


def in_force(records: Iterable[Machine], at: datetime) -> Machine | None:
    """The record of one machine that holds at a moment; None before its first."""
    held = [record for record in records if record.effective_at <= at]
    return max(held, key=lambda record: (record.effective_at, record.id), default=None)


def cost_of_machine(parts: Sequence[tuple[Stretch, Sequence[Worked]]]) -> MachineCost:
    """Adds up what a machine did in each stretch, at the figures of that stretch."""
    zero = Fraction(0)
    wall = busy = busy_kwh = idle_kwh = amortisation = energy = busy_nusd = idle_nusd = zero
    models: dict[str, ModelShare] = {}
    for stretch, worked in parts:
        machine, seconds = stretch.machine, stretch.wall_seconds
        at_work = sum((work.compute_seconds for work in worked), zero) / machine.parallel
        idle = seconds - at_work
        worked_kwh = exact(machine.watts_busy) * at_work / JOULES_PER_KWH
        waited_kwh = exact(machine.watts_idle) * idle / JOULES_PER_KWH
        wall, busy = wall + seconds, busy + at_work
        busy_kwh, idle_kwh = busy_kwh + worked_kwh, idle_kwh + waited_kwh
        energy += (worked_kwh + waited_kwh) * machine.kwh_nusd
        amortisation += seconds * machine.amortisation_nusd_per_second
        busy_nusd += at_work * machine.busy_nusd_per_second
        idle_nusd += idle * machine.idle_nusd_per_second
        per_ms = machine.compute_nusd_per_second / _MS_PER_S
        for work in worked:
            known = models.get(work.model, ModelShare(Worked(work.model), zero, zero))
            models[work.model] = ModelShare(
                known.worked + work,
                known.prompt_nusd + work.prompt_ms * per_ms,
                known.generation_nusd + work.generation_ms * per_ms,
            )
    shares = sorted(models.values(), key=lambda share: (-share.worked.compute_seconds, share.worked.model))
    return MachineCost(wall, busy, busy_kwh, idle_kwh, energy, amortisation, busy_nusd, idle_nusd, tuple(shares))


def per_million(nusd: Fraction, tokens: int) -> float | None:
    """USD per million tokens; None of no tokens."""
    return float(nusd / NUSD_PER_USD * 1_000_000 / tokens) if tokens else None
