"""The past priced anew: adjustments beside the ledger, and the repricings that made them. Their SQL.

A row of the ledger keeps what it was recorded with. What it costs by now is that and the sum of its adjustments, which
are rows of their own, are never changed, and go into the rollups of the request's own bucket in the same transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, literal, select, tuple_, update
from sqlalchemy.sql.expression import literal_column

from gemmapy.core.periods import Window
from gemmapy.core.records import Usage
from gemmapy.metrics.measures import ADJUSTABLE
from gemmapy.metrics.windows import QUARTER_S
from gemmapy.storage import rollups
from gemmapy.storage.engine import scan
from gemmapy.storage.figures import Filter
from gemmapy.storage.tables import adjustments, llm_metrics, prices, projects, repricings, users

Place = tuple[datetime, int]
"""Where a page of the ledger ended: the moment and the id of its last row."""


@dataclass(frozen=True, slots=True)
class Charged:
    """What a request was charged, in nano-USD, or that it is unpriced. Of an answer from the cache: what it saved."""

    prompt_nusd: int = 0
    response_nusd: int = 0
    total_nusd: int = 0
    saved_nusd: int = 0
    unpriced_requests: int = 0
    unpriced_tokens: int = 0

    def amounts(self) -> tuple[int, ...]:
        """In the order of `ADJUSTABLE`."""
        return tuple(getattr(self, name) for name in ADJUSTABLE)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request of the ledger, as far as its price depends on it."""

    metric_id: int
    created_at: datetime
    user_id: int
    model: str
    endpoint: str
    project_id: int | None
    api_key_id: int | None
    status: int | None
    cached: bool
    usage: Usage
    compute_ms: int | None
    recorded: Charged
    """As it was recorded."""
    charged: Charged
    """With its adjustments."""
    price_id: int | None
    """The price that it was recorded with."""

    @property
    def is_unpriced(self) -> bool:
        return self.charged.unpriced_requests > 0


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A request, and what it is to be charged from now on."""

    request: Recorded
    charged: Charged
    price_id: int | None

    def deltas(self) -> tuple[int, ...]:
        """The differences to what it is charged now, in the order of `ADJUSTABLE`."""
        pairs = zip(self.charged.amounts(), self.request.charged.amounts(), strict=True)
        return tuple(new - old for new, old in pairs)


_m = llm_metrics.c
_a = adjustments.c


def page(
    connection: Connection, window: Window, which: Filter, after: Place | None, limit: int
) -> tuple[list[Recorded], Place | None]:
    """At most `limit` requests of the window that follow `after`, the oldest first, as they are charged now; and where
    the next page begins, None where there is none."""
    # `+column` keeps the index over time in use: the others would have to sort a user's whole life for every page.
    narrowed = [literal_column(f"+{c.left.name}", c.left.type) == c.right for c in which.conditions(llm_metrics)]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownArgumentType]
    statement = (
        select(llm_metrics)
        .where(_m.created_at >= window.start, _m.created_at < window.end, *narrowed)
        .order_by(_m.created_at, _m.id)
        .limit(limit)
    )
    if after is not None:
        moment = literal(after[0], _m.created_at.type)
        statement = statement.where(tuple_(_m.created_at, _m.id) > tuple_(moment, literal(after[1])))
    rows = [dict(row) for row in connection.execute(statement).mappings()]
    changed = _changes(connection, [row["id"] for row in rows])
    found = [_recorded(row, changed.get(row["id"])) for row in rows]
    return found, (found[-1].created_at, found[-1].metric_id) if len(rows) == limit else None


def _changes(connection: Connection, metric_ids: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """The sums of the requests' adjustments so far."""
    if not metric_ids:
        return {}
    statement = (
        select(_a.metric_id, *(func.sum(_a[name]) for name in ADJUSTABLE))
        .where(_a.metric_id.in_(metric_ids))
        .group_by(_a.metric_id)
    )
    return {metric_id: tuple(sums) for metric_id, *sums in scan(connection, statement)}


def _recorded(row: Mapping[str, Any], changes: tuple[int, ...] | None) -> Recorded:
    usage = Usage(row["prompt_tokens"], row["response_tokens"], row["cached_prompt_tokens"], bool(row["estimated"]))
    unpriced = row["cost_nusd"] is None and bool(usage.total_tokens)
    recorded = Charged(
        prompt_nusd=row["prompt_cost_nusd"] or 0,
        response_nusd=row["response_cost_nusd"] or 0,
        total_nusd=row["cost_nusd"] or 0,
        saved_nusd=row["saved_nusd"] or 0,
        unpriced_requests=int(unpriced),
        unpriced_tokens=(usage.total_tokens or 0) if unpriced else 0,
    )
    charged = recorded
    if changes is not None:
        charged = Charged(*(old + change for old, change in zip(recorded.amounts(), changes, strict=True)))
    worked = [part for part in (row["prompt_ms"], row["generation_ms"]) if part is not None]
    return Recorded(
        metric_id=row["id"],
        created_at=row["created_at"],
        user_id=row["user_id"],
        model=row["model"],
        endpoint=row["endpoint"],
        project_id=row["project_id"],
        api_key_id=row["api_key_id"],
        status=row["status"],
        cached=bool(row["cached"]),
        usage=usage,
        compute_ms=sum(worked) if worked else None,
        recorded=recorded,
        charged=charged,
        price_id=row["price_id"],
    )


def applied(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the ledger with what was adjusted since in their columns of money, and `recorded_cost_nusd` as it was."""
    changed = _changes(connection, [row["id"] for row in rows])
    found: list[dict[str, Any]] = []
    for row in rows:
        now = {**row, "recorded_cost_nusd": row["cost_nusd"]}
        if row["id"] in changed:
            request = _recorded(row, changed[row["id"]])
            unpriced, charged = request.is_unpriced, request.charged
            now["cost_nusd"] = None if unpriced else charged.total_nusd
            now["prompt_cost_nusd"] = None if unpriced else charged.prompt_nusd
            now["response_cost_nusd"] = None if unpriced else charged.response_nusd
            now["saved_nusd"] = charged.saved_nusd if request.cached and not unpriced else None
        found.append(now)
    return found


def append(
    connection: Connection, writer: int, repricing_id: int, changes: Iterable[Adjustment], now: datetime
) -> None:
    """Writes adjustments, and adds them to the rollups of their requests' own buckets."""
    rows: list[dict[str, Any]] = []
    buckets: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(ADJUSTABLE))
    moments: dict[int, datetime] = {}
    for change in changes:
        request, deltas = change.request, change.deltas()
        rows.append(
            {
                "repricing_id": repricing_id,
                "created_at": now,
                "metric_id": request.metric_id,
                "metric_created_at": request.created_at,
                "user_id": request.user_id,
                "model": request.model,
                "endpoint": request.endpoint,
                "project_id": request.project_id,
                "api_key_id": request.api_key_id,
                "status": request.status,
                "price_id": change.price_id,
                **dict(zip(ADJUSTABLE, deltas, strict=True)),
            }
        )
        quarter = int(request.created_at.timestamp()) // QUARTER_S
        moments[quarter] = request.created_at
        bucket = buckets[quarter, request.user_id, request.model, request.endpoint, request.project_id]
        for place, delta in enumerate(deltas):
            bucket[place] += delta
    if not rows:
        return
    connection.execute(insert(adjustments), rows)
    for (quarter, user_id, model, endpoint, project_id), deltas in buckets.items():
        rollups.adjust(
            connection,
            writer,
            moments[quarter],
            rollups.Keys(user_id, model, endpoint, project_id),
            dict(zip(ADJUSTABLE, deltas, strict=True)),
        )


# The trail


@dataclass(frozen=True, slots=True)
class NewRepricing:
    """Which requests are to be priced anew, by which prices, and why."""

    window: Window
    which: Filter
    prices_at: datetime | None
    """The price list of this moment; None: what each was recorded with."""
    unpriced_only: bool
    reason: str


def begin(connection: Connection, asked: NewRepricing, now: datetime, by: int | None) -> int:
    """Notes that a repricing begins; returns its id."""
    values = {
        "created_at": now,
        "created_by": by,
        "reason": asked.reason,
        "window_start": asked.window.start,
        "window_end": asked.window.end,
        "prices_at": asked.prices_at,
        "model": asked.which.model,
        "user_id": asked.which.user_id,
        "project_id": asked.which.project_id,
        "unpriced_only": asked.unpriced_only,
    }
    made = connection.execute(insert(repricings).values(values)).inserted_primary_key
    assert made is not None
    return made[0]


def finish(connection: Connection, repricing_id: int, now: datetime) -> None:
    """Notes that all of a repricing is written."""
    connection.execute(update(repricings).where(repricings.c.id == repricing_id).values(finished_at=now))


def trail(connection: Connection, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """The repricings, the newest first, with how many requests they changed and by how much."""
    changed = (
        select(_a.repricing_id, func.count().label("requests"), func.sum(_a.total_nusd).label("total_nusd"))
        .group_by(_a.repricing_id)
        .subquery()
    )
    statement = (
        select(
            repricings,
            users.c.username.label("by"),
            projects.c.name.label("project"),
            func.coalesce(changed.c.requests, 0).label("requests"),
            func.coalesce(changed.c.total_nusd, 0).label("total_nusd"),
        )
        .outerjoin(users, users.c.id == repricings.c.created_by)
        .outerjoin(projects, projects.c.id == repricings.c.project_id)
        .outerjoin(changed, changed.c.repricing_id == repricings.c.id)
        .order_by(repricings.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        statement = statement.where(repricings.c.id < before)
    return [dict(row) for row in connection.execute(statement).mappings()]


def of_request(connection: Connection, metric_id: int) -> list[dict[str, Any]]:
    """What was adjusted of one request, the oldest first, with the reason and the price."""
    statement = (
        select(adjustments, repricings.c.reason, prices.c.model.label("price_model"))
        .join(repricings, repricings.c.id == _a.repricing_id)
        .outerjoin(prices, prices.c.id == _a.price_id)
        .where(_a.metric_id == metric_id)
        .order_by(_a.id)
    )
    return [dict(row) for row in connection.execute(statement).mappings()]


def last_id(connection: Connection) -> int:
    """The id of the newest adjustment; 0 where there is none."""
    return connection.execute(select(func.coalesce(func.max(_a.id), 0))).scalar_one()


def sums_by(
    connection: Connection, columns: Sequence[ColumnElement[Any]], *where: ColumnElement[bool]
) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The differences of each group, in the order of `ADJUSTABLE`."""
    statement = select(*columns, *(func.sum(_a[name]) for name in ADJUSTABLE)).where(*where).group_by(*columns)
    width = len(columns)
    return {tuple(cells[:width]): tuple(cells[width:]) for cells in scan(connection, statement)}
