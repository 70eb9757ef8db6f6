"""The ledger's writes: `inflight` and `llm_metrics`, many requests at a time.

Called inside the writer's transaction and nowhere else. A request is in `inflight` or in `llm_metrics`, never in both
and, once its admission was acknowledged, never in neither.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, delete, insert, select, text, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

from gemmapy.core.records import Intent, Outcome, Timings, Usage
from gemmapy.metrics.measures import rating_column
from gemmapy.storage import rollups, watermark
from gemmapy.storage.tables import inflight, llm_metrics, millis, revisions, time_text

ERROR_MESSAGE_LIMIT = 2_000
INTERRUPTED = "interrupted"

_INFLIGHT_COLUMNS = tuple(column.name for column in inflight.columns)
_METRIC_COLUMNS = tuple(column.name for column in llm_metrics.columns if column.name != "user_rating")


@cache
def _sql(statement: str) -> str:
    """A statement's text, compiled once: the writer's thread has no time to compile it for every batch."""
    statements: dict[str, ClauseElement] = {
        "admit": insert(inflight).values(dict.fromkeys(_INFLIGHT_COLUMNS)),
        "settle": delete(inflight).where(inflight.c.request_id == text("?")),
        "record": insert(llm_metrics).values(dict.fromkeys(_METRIC_COLUMNS)),
    }
    return str(statements[statement].compile(dialect=sqlite.dialect()))


def write(
    connection: Connection,
    writer: int,
    admitted: Sequence[tuple[Intent, int]],
    finished: Sequence[tuple[Outcome, bool]],
    now: datetime,
) -> list[int]:
    """Writes a batch: what was admitted, and what is finished; returns the finished ones' ids, in their order.

    The number beside an Intent is the slot of the process that answers it, which may be another than the `writer`. The
    bool beside an Outcome says whether its request has a row in `inflight` that must go. A request that is in both
    lists never touches `inflight`.
    """
    # The driver's own cursor: of a lone request, a layer between would cost as much as what it does.
    cursor: Any = connection.connection.cursor()
    over = {outcome.intent.request_id for outcome, _ in finished}
    begun = {intent.request_id for intent, _ in admitted}
    new = [_inflight_row(slot, intent) for intent, slot in admitted if intent.request_id not in over]
    if new:
        cursor.executemany(_sql("admit"), new)
    if not finished:
        return []
    gone = [(o.intent.request_id,) for o, was_admitted in finished if was_admitted and o.intent.request_id not in begun]
    if gone:
        cursor.executemany(_sql("settle"), gone)
    first = _next_metric_id(cursor)
    now = max(now, watermark.final_until(connection))  # the clock may have stepped back into what is final
    created_at = time_text(now)
    cursor.executemany(
        _sql("record"), [_metric_row(first + place, outcome, created_at) for place, (outcome, _) in enumerate(finished)]
    )
    cursor.close()
    rollups.add(connection, writer, [outcome for outcome, _ in finished], now)
    return list(range(first, first + len(finished)))


def write_past(connection: Connection, past: Sequence[tuple[Outcome, datetime]]) -> list[int]:
    """Writes requests that were over long ago, each with the moment that it was recorded at, in their order; returns
    their ids. The rollups know nothing of them: have them rebuilt in the same transaction."""
    cursor: Any = connection.connection.cursor()
    first = _next_metric_id(cursor)
    cursor.close()
    rows = [_metric_row(first + place, outcome, time_text(at)) for place, (outcome, at) in enumerate(past)]
    connection.exec_driver_sql(_sql("record"), rows)
    return list(range(first, first + len(past)))


def _next_metric_id(cursor: Any) -> int:
    """The id after the last one ever given, also to rows since deleted. The transaction holds the write lock."""
    row = cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'llm_metrics'").fetchone()
    return 1 if row is None else int(row[0]) + 1


def _inflight_row(writer: int, intent: Intent) -> tuple[Any, ...]:
    """In the order of `_INFLIGHT_COLUMNS`, which a test holds it to."""
    return (
        intent.request_id,
        writer,
        intent.user_id,
        intent.model,
        intent.endpoint,
        time_text(intent.started_at),
        intent.stream,
        intent.api_key_id,
        intent.project_id,
        intent.end_user,
        intent.client_request_id,
        intent.upstream,
        intent.price_id,
        intent.prompt_estimate,
        intent.requested_model,
    )


def _metric_row(metric_id: int, outcome: Outcome, created_at: str) -> tuple[Any, ...]:
    """A row of the ledger, in the order of `_METRIC_COLUMNS`, which a test holds it to."""
    intent, usage, timings, cost = outcome.intent, outcome.usage, outcome.timings, outcome.cost
    speed, message = outcome.speed_mtps, outcome.error_message
    return (
        metric_id,
        intent.user_id,
        intent.model,
        intent.endpoint,
        usage.prompt_tokens,
        usage.response_tokens,
        usage.total_tokens,
        timings.duration_ms,
        None if speed is None else speed / 1000,
        outcome.cached,
        outcome.error_code is not None,
        message and message[:ERROR_MESSAGE_LIMIT],
        created_at,
        intent.request_id,
        millis(intent.started_at),
        outcome.status,
        outcome.error_code,
        outcome.finish_reason,
        intent.stream,
        usage.estimated,
        usage.cached_prompt_tokens,
        timings.ttft_ms,
        timings.queue_ms,
        timings.load_ms,
        timings.prompt_ms,
        timings.generation_ms,
        cost and cost.total_nusd,
        cost and cost.prompt_nusd,
        cost and cost.response_nusd,
        outcome.saved_nusd,
        cost and cost.price_id,
        intent.upstream,
        outcome.attempts,
        intent.api_key_id,
        intent.project_id,
        intent.end_user,
        intent.client_request_id,
        intent.requested_model,
        msgspec.json.encode(outcome.attempt_log).decode() if outcome.attempt_log else None,
    )


def writers_in_flight(connection: Connection) -> set[int]:
    """The slots that have requests in flight, be their processes alive or not."""
    return set(connection.execute(select(inflight.c.writer).distinct()).scalars())


def interrupted(connection: Connection, writers: Iterable[int]) -> list[Outcome]:
    """What the given writers, which are gone, left in flight: outcomes that say so, to be recorded and settled.

    The prompt's estimate is kept; the response's tokens and how long it took are unknown, and nothing is priced.
    """
    rows = connection.execute(select(inflight).where(inflight.c.writer.in_(list(writers)))).mappings()
    outcomes: list[Outcome] = []
    for row in rows:
        intent = Intent(**{name: row[name] for name in _INFLIGHT_COLUMNS if name != "writer"})
        outcomes.append(
            Outcome(
                intent=intent,
                status=0,
                usage=Usage(prompt_tokens=intent.prompt_estimate, estimated=True),
                timings=Timings(),
                error_code=INTERRUPTED,
                error_message="The gateway ended while this request was under way.",
            )
        )
    return outcomes


def write_nothing(connection: Connection) -> None:
    """Writes a page as it is: fails where anything would."""
    connection.execute(update(revisions).values(revision=revisions.c.revision))


def metric_id_of(connection: Connection, request_id: bytes) -> int | None:
    """The ledger's id of a request; None where it is not in the ledger."""
    return connection.execute(select(llm_metrics.c.id).where(llm_metrics.c.request_id == request_id)).scalar()


def known(connection: Connection, request_ids: Collection[bytes]) -> dict[bytes, int | None]:
    """Those of the given requests that were written before: the ledger's id, or None for one that is in flight."""
    in_flight = select(inflight.c.request_id).where(inflight.c.request_id.in_(request_ids))
    recorded = select(llm_metrics.c.request_id, llm_metrics.c.id).where(llm_metrics.c.request_id.in_(request_ids))
    found: dict[bytes, int | None] = dict.fromkeys(connection.execute(in_flight).scalars())
    for row in connection.execute(recorded):
        found[row.request_id] = row.id
    return found


def rate(connection: Connection, writer: int, metric_id: int | bytes, rating: int, user_id: int | None) -> bool:
    """Sets a row's rating, by `id` or `request_id`, and moves it in the rollups; False where `user_id` has no such row
    (None: anyone's). Raises Conflict for a request that has retired."""
    watermark.check_request(connection, metric_id)
    key = llm_metrics.c.request_id if isinstance(metric_id, bytes) else llm_metrics.c.id
    mine = key == metric_id if user_id is None else and_(key == metric_id, llm_metrics.c.user_id == user_id)
    row = connection.execute(select(llm_metrics).where(mine)).mappings().first()
    if row is None:
        return False
    connection.execute(update(llm_metrics).where(llm_metrics.c.id == row["id"]).values(user_rating=rating))
    keys = rollups.Keys(row["user_id"], row["model"], row["endpoint"], row["project_id"])
    moved = {rating_column(rating): 1}
    if row["user_rating"] is not None:
        before = rating_column(row["user_rating"])
        moved[before] = moved.get(before, 0) - 1
    rollups.adjust(connection, writer, row["created_at"], keys, moved)
    return True
