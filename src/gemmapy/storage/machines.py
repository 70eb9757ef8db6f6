"""Machines: their SQL, and what the ledger says that they did. Records are appended, never changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, func, insert, select

from gemmapy.core.periods import Window
from gemmapy.pricing.hardware import Machine, Worked
from gemmapy.storage.engine import scan
from gemmapy.storage.tables import adjustments, llm_metrics, machines, users

_m, _a = llm_metrics.c, adjustments.c


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """A machine's figures, with who entered them and when."""

    machine: Machine
    created_at: datetime
    entered_by: str | None
    note: str


def append(connection: Connection, machine: Machine, note: str, now: datetime, by: int | None) -> int:
    """Enters a record (its `id` is not read); returns its id."""
    values = {
        "name": machine.name,
        "upstreams": json.dumps(machine.upstreams),
        "watts_busy": machine.watts_busy,
        "watts_idle": machine.watts_idle,
        "kwh_nusd": machine.kwh_nusd,
        "purchase_nusd": machine.purchase_nusd,
        "lifetime_years": machine.lifetime_years,
        "parallel": machine.parallel,
        "effective_at": machine.effective_at,
        "note": note,
        "created_at": now,
        "created_by": by,
    }
    made = connection.execute(insert(machines).values(values)).inserted_primary_key
    assert made is not None
    return made[0]


def every_record(connection: Connection) -> list[MachineRecord]:
    """Every record that was ever entered, by name, the oldest first."""
    statement = (
        select(machines, users.c.username.label("entered_by"))
        .outerjoin(users, users.c.id == machines.c.created_by)
        .order_by(func.lower(machines.c.name), machines.c.effective_at, machines.c.id)
    )
    return [_record(row) for row in connection.execute(statement).mappings()]


def _record(row: Any) -> MachineRecord:
    machine = Machine(
        id=row["id"],
        name=row["name"],
        upstreams=tuple(json.loads(row["upstreams"])),
        watts_busy=row["watts_busy"],
        watts_idle=row["watts_idle"],
        kwh_nusd=row["kwh_nusd"],
        purchase_nusd=row["purchase_nusd"],
        lifetime_years=row["lifetime_years"],
        parallel=row["parallel"],
        effective_at=row["effective_at"],
    )
    return MachineRecord(machine, row["created_at"], row["entered_by"], row["note"])


def worked(connection: Connection, upstreams: tuple[str, ...], window: Window) -> list[Worked]:
    """What these upstreams did in the window, by model, from the ledger, its cost as adjusted since; answers from the
    cache are no work."""
    if not upstreams:
        return []
    measured = func.coalesce(_m.prompt_ms, _m.generation_ms)
    theirs = and_(_m.upstream.in_(upstreams), _m.cached.is_(False))
    recorded = (
        select(
            _m.model,
            func.count(),
            func.count(case((and_(measured.is_(None), _m.total_tokens > 0), 1))),
            *(_total(column) for column in (_m.prompt_ms, _m.generation_ms, _m.prompt_tokens, _m.response_tokens)),
            _total(_m.cost_nusd),
        )
        .where(_m.created_at >= window.start, _m.created_at < window.end, theirs)
        .group_by(_m.model)
    )
    adjusted = (
        select(_a.model, _total(_a.total_nusd))
        .join_from(adjustments, llm_metrics, _m.id == _a.metric_id)
        .where(_a.metric_created_at >= window.start, _a.metric_created_at < window.end, theirs)
        .group_by(_a.model)
    )
    done = [Worked(*row) for row in scan(connection, recorded)]
    since: dict[str, int] = dict(tuple[str, int](row) for row in scan(connection, adjusted))
    return [replace(work, stamped_nusd=work.stamped_nusd + since.get(work.model, 0)) for work in done]


def _total(column: Any) -> Any:
    return func.coalesce(func.sum(column), 0)
