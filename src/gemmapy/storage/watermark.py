"""Where the ledger begins: the moment before which its rows have retired (`retention.py`) and only rollups know.

Whoever reads or changes single requests asks here first.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select

from gemmapy.core.errors import Conflict
from gemmapy.core.periods import Window
from gemmapy.metrics.windows import DAY_S
from gemmapy.storage.engine import scan
from gemmapy.storage.tables import llm_metrics, retired_days

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def watermark(connection: Connection) -> datetime:
    """The moment from which on the ledger is whole; 1970 where nothing has retired."""
    last = connection.execute(select(func.max(retired_days.c.day))).scalar()
    return BEGINNING if last is None else datetime.fromtimestamp(last + DAY_S, UTC)


_FINAL = "SELECT (SELECT max(day) FROM retired_days), (SELECT max(month) FROM closings)"


def final_until(connection: Connection) -> datetime:
    """The moment before which nothing can be recorded any more: the end of the last day that has retired and of the
    last month that was closed. A clock that has stepped back may be before it."""
    day, month = next(scan(connection, _FINAL))
    retired = BEGINNING if day is None else datetime.fromtimestamp(day + DAY_S, UTC)
    closed = BEGINNING
    if month is not None:
        first = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
        closed = (first + timedelta(days=31)).replace(day=1)
    return max(retired, closed)


def snapped(connection: Connection, window: Window, grain: int | None) -> Window:
    """The window that can be answered in its place: itself, but for what lies in retired days.

    There rollups know buckets of `grain` seconds, so an end that breaks one moves outwards to its border; a question
    that only the ledger can answer (None) begins where the ledger does.
    """
    whole_from = watermark(connection)
    if window.start >= whole_from:
        return window
    if grain is None:
        return Window(whole_from, max(window.end, whole_from))
    start = datetime.fromtimestamp(window.start.timestamp() // grain * grain, UTC)
    end = window.end
    if end < whole_from:
        end = datetime.fromtimestamp(-(-end.timestamp() // grain) * grain, UTC)
    return Window(start, end)


def check_whole(connection: Connection, window: Window) -> None:
    """Raises Conflict where a part of the window has retired, so that its requests cannot be changed any more."""
    whole_from = watermark(connection)
    if window.start < whole_from:
        raise Conflict(
            f"The requests before {whole_from:%Y-%m-%d} UTC have retired: their rows are deleted and their sums final.",
            hint=f"Let the window begin at {whole_from:%Y-%m-%dT%H:%M:%SZ} or later.",
        )


def check_request(connection: Connection, metric_id: int | bytes) -> None:
    """Raises Conflict where a request, by its id or request id, is one of a retired day."""
    whole_from = watermark(connection)
    if whole_from == BEGINNING:
        return
    if isinstance(metric_id, bytes):
        key = llm_metrics.c.request_id == metric_id
        is_old = metric_id[6] >> 4 == 7 and int.from_bytes(metric_id[:6]) < whole_from.timestamp() * 1000  # a UUIDv7's
    else:
        key = llm_metrics.c.id == metric_id
        is_old = metric_id <= (connection.execute(select(func.max(retired_days.c.last_metric_id))).scalar() or 0)
    created_at = connection.execute(select(llm_metrics.c.created_at).where(key)).scalar()
    if is_old if created_at is None else created_at < whole_from:
        raise Conflict(
            f"This request is from before {whole_from:%Y-%m-%d} UTC and has retired, so it cannot be changed any more.",
            hint="What its day added up to is final.",
        )
