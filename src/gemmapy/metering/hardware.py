"""`Hardware`: one's own machines, what they cost over a window, and the price of their compute in the price book."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from sqlalchemy import Connection

from gemmapy.core.errors import Conflict, InvalidRequest, NotFound
from gemmapy.core.money import CURRENCY, NUSD_PER_USD, parse_usd, usd
from gemmapy.core.periods import Window
from gemmapy.metering.answers import (
    MachineCosts,
    MachineList,
    MachineModel,
    MachinePeriod,
    MachinePrice,
    MachineShown,
)
from gemmapy.metering.prices import PriceDesk, PriceEntry
from gemmapy.pricing.hardware import (
    Machine,
    ModelShare,
    Stretch,
    cost_of_machine,
    in_force,
    per_million,
    rounded,
    stretches,
)
from gemmapy.storage import machines, watermark
from gemmapy.storage.machines import MachineRecord
from gemmapy.storage.store import Store

NAME_LIMIT = 100
NOTE_LIMIT = 500
UPSTREAMS_LIMIT = 50
MOST_WATTS = 10_000_000
MOST_YEARS = 100
MOST_PARALLEL = 100_000
COARSE = Fraction(1, 1_000)
"""A price that rounding to a nano-dollar moves by more than this is told so."""


@dataclass(frozen=True, slots=True)
class MachineEntry:
    """A machine as people describe it: watts, USD, years."""

    name: str
    upstreams: Sequence[str]
    watts_busy: float
    watts_idle: float
    kwh_usd: float | str | Decimal
    purchase_usd: float | str | Decimal
    lifetime_years: float
    parallel: int = 1
    effective_at: datetime | None = None
    """Also in the past: the day that it was bought. None is now."""
    note: str = ""


class Hardware:
    """Plain calls that block until done; each returns what the route of the same name answers."""

    def __init__(self, store: Store, desk: PriceDesk | None = None) -> None:
        self._store = store
        self._desk = desk or PriceDesk(store)

    def get_machines(self) -> MachineList:
        """Every machine with its records, the oldest first; the last one that has taken effect is in force."""
        now = self._store.clock.now()
        with self._store.read() as connection:
            records = machines.every_record(connection)
        by_name: dict[str, list[MachineRecord]] = {}
        for record in records:
            by_name.setdefault(record.machine.name.lower(), []).append(record)
        shown: list[MachineShown] = []
        for of_one in by_name.values():
            held = in_force((record.machine for record in of_one), now)
            shown.extend(_shown(record, record.machine is held) for record in of_one)
        return {"currency": CURRENCY, "machines": shown}

    def add_machine(self, entry: MachineEntry, by: int | None = None) -> int:
        """Enters a machine, or a known one's new figures from a moment on; returns the record's id.

        Raises InvalidRequest, and Conflict where another machine is one of its upstreams at that time.
        """
        now = self._store.clock.now()
        machine = _checked(entry, now)
        note = entry.note.strip()[:NOTE_LIMIT]

        def append(connection: Connection) -> int:
            _refuse_shared([record.machine for record in machines.every_record(connection)], machine)
            return machines.append(connection, machine, note, now, by)

        return self._store.write(append)

    def enter_price(self, machine_id: int | str, model: str, by: int | None = None) -> MachinePrice:
        """Enters a price for `model` that asks for seconds of compute what they cost on a machine, by the id of one of
        its records or by its name, with its figures of this moment.

        Raises NotFound, InvalidRequest.
        """
        now = self._store.clock.now()
        machine = in_force(self._records(machine_id), now)
        if machine is None:
            raise InvalidRequest(f"The machine {machine_id} is not in service yet.")
        fraction = machine.compute_nusd_per_second
        nusd = rounded(fraction)
        if not nusd:
            raise InvalidRequest(f"A second of compute of {machine.name!r} costs less than a nano-dollar.")
        entry = PriceEntry(
            model=model,
            input_usd=0,
            output_usd=0,
            compute_usd_per_second=Decimal(nusd) / NUSD_PER_USD,
            source=f"machine {machine.name}, record {machine.id}: {machine.figures}",
        )
        price_id = self._desk.enter(entry, by)
        message = f"A second of compute of {model.strip()} costs {usd(nusd):.9f} USD from now on."
        off = abs(nusd - fraction) / fraction
        if off > COARSE:
            message += f" Rounding to a nano-dollar moves it by {float(off):.2%}."
        return {"id": price_id, "compute_cost": usd(nusd), "source": entry.source, "message": message}

    def get_machine_cost(self, machine_id: int | str, window: Window) -> MachineCosts:
        """What a machine cost over a window, by the id of one of its records or by its name; reads the ledger.

        The window ends now at the latest, and begins with the machine's first record, and where the ledger does. Raises
        NotFound, InvalidRequest.
        """
        records = self._records(machine_id)
        asked = Window(window.start, min(window.end, self._store.clock.now()))
        with self._store.read() as connection:
            span = watermark.snapped(connection, asked, None)
            found = stretches(records, span)
            if not found:
                first = max(span.start, min(record.effective_at for record in records))
                raise InvalidRequest(
                    f"Of this machine something is known from {first.isoformat()} on, which is after the window.",
                    hint="It is in service since then, or the requests before it have retired.",
                )
            parts = [(part, machines.worked(connection, part.machine.upstreams, part.window)) for part in found]
        cost = cost_of_machine(parts)
        # Each line is rounded once, and such that both ways to add up give the total.
        total_nusd, busy_nusd, energy_nusd = map(rounded, (cost.total_nusd, cost.busy_nusd, cost.energy_nusd))
        worked = [share.worked for share in cost.models]
        prompt_tokens = sum(work.prompt_tokens for work in worked)
        response_tokens = sum(work.response_tokens for work in worked)
        tokens = prompt_tokens + response_tokens
        last = found[-1].machine
        return {
            "id": last.id,
            "name": last.name,
            "from": found[0].window.start,
            "to": found[-1].window.end,
            "snapped": span != asked,
            "currency": CURRENCY,
            "wall_seconds": float(cost.wall_seconds),
            "busy_seconds": float(cost.busy_seconds),
            "compute_seconds": float(sum((work.compute_seconds for work in worked), Fraction(0))),
            "utilisation": float(cost.busy_seconds / cost.wall_seconds),
            "requests": sum(work.requests for work in worked),
            "unmeasured_requests": sum(work.unmeasured for work in worked),
            "busy_kwh": float(cost.busy_kwh),
            "idle_kwh": float(cost.idle_kwh),
            "energy_cost": usd(energy_nusd),
            "amortisation": usd(total_nusd - energy_nusd),
            "total_cost": usd(total_nusd),
            "busy_cost": usd(busy_nusd),
            "idle_cost": usd(total_nusd - busy_nusd),
            "stamped_cost": usd(sum(work.stamped_nusd for work in worked)),
            "prompt_tokens": prompt_tokens,
            "response_tokens": response_tokens,
            "total_tokens": tokens,
            "cost_per_million_tokens": per_million(cost.total_nusd, tokens),
            "busy_cost_per_million_tokens": per_million(cost.busy_nusd, tokens),
            "models": [_model(share) for share in cost.models],
            "periods": [_period(part) for part in found],
            "warning": _warning(float(cost.busy_seconds), float(cost.wall_seconds)) if cost.is_overcommitted else None,
        }

    def _records(self, machine_id: int | str) -> list[Machine]:
        """All of one machine, by the id of any or by its name."""
        with self._store.read() as connection:
            every = [record.machine for record in machines.every_record(connection)]
        named = {record.name.lower() for record in every if machine_id == record.id}
        if isinstance(machine_id, str):
            named = {machine_id.strip().lower()}
        records = [record for record in every if record.name.lower() in named]
        if not records:
            raise NotFound(f"There is no machine {machine_id}.", hint="'gemmapy machine list' shows them.")
        return records


def _checked(entry: MachineEntry, now: datetime) -> Machine:
    name = entry.name.strip()
    if not 1 <= len(name) <= NAME_LIMIT or not name.isprintable():
        raise InvalidRequest(f"name must have 1 to {NAME_LIMIT} printable characters, got {name[:NAME_LIMIT]!r}.")
    upstreams = tuple(dict.fromkeys(upstream.strip() for upstream in entry.upstreams))
    if len(upstreams) > UPSTREAMS_LIMIT or not all(0 < len(upstream) <= NAME_LIMIT for upstream in upstreams):
        raise InvalidRequest(f"upstreams must be at most {UPSTREAMS_LIMIT} names of 1 to {NAME_LIMIT} characters.")
    for what, watts in (("watts_busy", entry.watts_busy), ("watts_idle", entry.watts_idle)):
        if not math.isfinite(watts) or not 0 <= watts <= MOST_WATTS:
            raise InvalidRequest(f"{what} must be from 0 to {MOST_WATTS} watts, got {watts:g}.")
    if entry.watts_idle > entry.watts_busy:
        raise InvalidRequest(
            f"watts_idle must be at most watts_busy, got {entry.watts_idle:g} and {entry.watts_busy:g}."
        )
    if not math.isfinite(entry.lifetime_years) or not 0.01 <= entry.lifetime_years <= MOST_YEARS:
        raise InvalidRequest(f"lifetime_years must be from 0.01 to {MOST_YEARS}, got {entry.lifetime_years:g}.")
    if not 1 <= entry.parallel <= MOST_PARALLEL:
        raise InvalidRequest(f"parallel must be from 1 to {MOST_PARALLEL}, got {entry.parallel}.")
    effective_at = entry.effective_at or now
    if effective_at.tzinfo is None:
        raise InvalidRequest("effective_at must have a time zone, as in 2026-11-01T00:00:00Z.")
    return Machine(
        id=0,
        name=name,
        upstreams=upstreams,
        watts_busy=float(entry.watts_busy),
        watts_idle=float(entry.watts_idle),
        kwh_nusd=parse_usd(entry.kwh_usd, "kwh_cost"),
        purchase_nusd=parse_usd(entry.purchase_usd, "purchase_cost"),
        lifetime_years=float(entry.lifetime_years),
        parallel=entry.parallel,
        effective_at=effective_at,
    )


def _refuse_shared(records: Sequence[Machine], new: Machine) -> None:
    """Raises Conflict where another machine is one of its upstreams at any moment that the new record holds: what that
    upstream did would be counted twice."""
    is_own = {record.id: record.name.lower() == new.name.lower() for record in records}
    later = [record.effective_at for record in records if is_own[record.id] and record.effective_at > new.effective_at]
    others = [record for record in records if not is_own[record.id]]
    moments = {new.effective_at} | {
        record.effective_at
        for record in others
        if new.effective_at < record.effective_at and all(record.effective_at < end for end in later)
    }
    for name in {record.name.lower() for record in others}:
        of_one = [record for record in others if record.name.lower() == name]
        for moment in sorted(moments):
            held = in_force(of_one, moment)
            shared = set(new.upstreams) & set(held.upstreams if held else ())
            if held is not None and shared:
                raise Conflict(
                    f"The machine {held.name!r} is the upstream {min(shared)!r} at {moment.isoformat()}.",
                    hint="Describe several machines behind one upstream as one, with the sum of their figures.",
                )


def _warning(busy_seconds: float, wall_seconds: float) -> str:
    return (
        f"More compute was measured than the machine has: it would have been busy for {busy_seconds:.0f} of"
        f" {wall_seconds:.0f} seconds, so its idle line is negative. Raise `parallel` to the requests that it really"
        " works on at once, or look whether another machine serves one of its upstreams."
    )


def _shown(record: MachineRecord, is_in_force: bool) -> MachineShown:
    machine = record.machine
    return {
        "id": machine.id,
        "name": machine.name,
        "upstreams": list(machine.upstreams),
        "watts_busy": machine.watts_busy,
        "watts_idle": machine.watts_idle,
        "kwh_cost": usd(machine.kwh_nusd),
        "purchase_cost": usd(machine.purchase_nusd),
        "lifetime_years": machine.lifetime_years,
        "parallel": machine.parallel,
        "effective_at": machine.effective_at,
        "in_force": is_in_force,
        "busy_cost_per_hour": _per_hour(machine.busy_nusd_per_second),
        "idle_cost_per_hour": _per_hour(machine.idle_nusd_per_second),
        "compute_cost": usd(rounded(machine.compute_nusd_per_second)),
        "created_at": record.created_at,
        "entered_by": record.entered_by,
        "note": record.note,
    }


def _per_hour(nusd_per_second: Fraction) -> float:
    return usd(rounded(nusd_per_second * 3_600))


def _model(share: ModelShare) -> MachineModel:
    work = share.worked
    return {
        "model": work.model,
        "requests": work.requests,
        "unmeasured_requests": work.unmeasured,
        "compute_seconds": float(work.compute_seconds),
        "prompt_seconds": work.prompt_ms / 1_000,
        "generation_seconds": work.generation_ms / 1_000,
        "prompt_tokens": work.prompt_tokens,
        "response_tokens": work.response_tokens,
        "busy_cost": usd(rounded(share.prompt_nusd + share.generation_nusd)),
        "stamped_cost": usd(work.stamped_nusd),
        "input_cost_per_million": per_million(share.prompt_nusd, work.prompt_tokens) if work.prompt_ms else None,
        "output_cost_per_million": (
            per_million(share.generation_nusd, work.response_tokens) if work.generation_ms else None
        ),
    }


def _period(part: Stretch) -> MachinePeriod:
    machine = part.machine
    return {
        "from": part.window.start,
        "to": part.window.end,
        "record": machine.id,
        "busy_cost_per_hour": _per_hour(machine.busy_nusd_per_second),
        "idle_cost_per_hour": _per_hour(machine.idle_nusd_per_second),
        "energy_cost_per_kwh": usd(machine.kwh_nusd),
        "amortisation_per_hour": _per_hour(machine.amortisation_nusd_per_second),
    }
