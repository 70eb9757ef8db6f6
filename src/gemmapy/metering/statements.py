"""Closing a month: a frozen, numbered statement for each user and each project.

A month (UTC) is closed once, in order, when it is over. Its statements are made of the ledger, proved against the
rollups, and written with the closing in one transaction; nothing changes them afterwards. What is adjusted later in a
month that is closed comes into the next month's statements, as corrections.

Who pays what: a user's statement has everything that the user used, by project; `own_cost` is what no project pays. A
project's has everything that was charged to it, by user.
"""

from __future__ import annotations

import calendar
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gemmapy.core.errors import Conflict, InvalidRequest, NotFound
from gemmapy.core.money import CURRENCY, usd
from gemmapy.core.periods import Window
from gemmapy.metering.answers import ClosedMonth, Statement, StatementEntry
from gemmapy.metrics.measures import SPENDING, Sums
from gemmapy.storage import adjustments, figures, people, statements, watermark
from gemmapy.storage.statements import Closing, Correction, Key, NewStatement
from gemmapy.storage.store import Store

GRACE = timedelta(minutes=1)
"""A month is over so long after its end, so that a request of its last moment is written."""
TRIES = 3
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def month_window(month: str) -> Window:
    """The window of a month such as `2026-10`, in UTC. Raises InvalidRequest."""
    if not _MONTH.fullmatch(month) or month < "1970-01":
        raise InvalidRequest(f"month must be a year and a month, as in 2026-10, got {month[:20]!r}.")
    start = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
    return Window(start, start + timedelta(days=calendar.monthrange(start.year, start.month)[1]))


def next_month(month: str) -> str:
    """The month after."""
    return f"{month_window(month).end:%Y-%m}"


@dataclass(slots=True)
class _Paper:
    """A statement that is being put together."""

    lines: list[tuple[dict[str, Any], Mapping[str, int]]] = field(default_factory=list[Any])
    corrections: list[Correction] = field(default_factory=list[Correction])


def close_month(store: Store, month: str, by: int | None = None, *, dry_run: bool = False) -> ClosedMonth:
    """Closes a month; `by` is the user who says so. Blocks, but holds up no traffic.

    Raises InvalidRequest, and Conflict where the month is not over, was closed, does not follow the last that was, has
    retired, or where the books do not balance. With `dry_run` nothing is written.
    """
    window = month_window(month)
    now = store.clock.now()
    if now < window.end + GRACE:
        raise Conflict(f"{month} is not over: it ends on {window.end:%Y-%m-%d} at 00:00 UTC.", hint="Close it then.")
    for _ in range(TRIES):
        closing, papers = _prepare(store, month, window)
        made = _statements(closing, papers, window, now)
        if dry_run:
            numbers: list[int] | None = [0] * len(made)
        else:
            numbers = store.write(lambda c, m=made, g=closing: _write(c, g, m, now, by))
        if numbers is not None:
            return {
                "month": month,
                "closed": not dry_run,
                "closed_at": now,
                "requests": closing.requests,
                "total_cost": usd(closing.total_nusd),
                "corrections": usd(closing.adjustments_nusd),
                "currency": CURRENCY,
                "statements": [
                    {
                        "number": number,
                        "month": month,
                        "kind": statement.kind,
                        "subject_id": statement.subject_id,
                        "subject": statement.subject,
                        "total_cost": usd(statement.total_nusd),
                        "currency": CURRENCY,
                        "closed_at": now,
                    }
                    for number, statement in zip(numbers, made, strict=True)
                ],
            }
    raise Conflict(f"{month} could not be closed: requests are being adjusted at this moment.", hint="Try again then.")


@dataclass(frozen=True, slots=True)
class _Papers:
    """Everything that the statements of a month are made of."""

    users: dict[int, _Paper]
    projects: dict[int, _Paper]
    names: Mapping[int, str | None]
    project_names: Mapping[int, str]


def _prepare(store: Store, month: str, window: Window) -> tuple[Closing, _Papers]:
    with store.read() as connection:
        before = _check_order(connection, month)
        watermark.check_whole(connection, window)
        last = adjustments.last_id(connection)
        usage = statements.usage_of(connection, window, last)
        _check_balance(connection, month, window, usage)
        corrections = list[Correction]()
        if before is not None:
            closed = Window(month_window(before["first"]).start, window.start)
            corrections = statements.corrections(connection, closed, before["last_adjustment_id"], last)
        names, project_names = people.names(connection), people.project_names(connection)
    users: defaultdict[int, _Paper] = defaultdict(_Paper)
    projects: defaultdict[int, _Paper] = defaultdict(_Paper)
    for (user_id, project_id, model), counted in sorted(usage.items(), key=lambda entry: -entry[1]["total_nusd"]):
        project = None if project_id is None else project_names.get(project_id)
        users[user_id].lines.append(({"model": model, "project": project}, counted))
        if project_id is not None:
            user = names.get(user_id) or f"deleted user {user_id}"
            projects[project_id].lines.append(({"model": model, "user_id": user_id, "username": user}, counted))
    for correction in corrections:
        users[correction.user_id].corrections.append(correction)
        if correction.project_id is not None:
            projects[correction.project_id].corrections.append(correction)
    closing = Closing(
        month=month,
        last_adjustment_id=last,
        requests=sum(counted["requests"] for counted in usage.values()),
        total_nusd=sum(counted["total_nusd"] for counted in usage.values()),
        adjustments_nusd=sum(correction.total_nusd for correction in corrections),
    )
    return closing, _Papers(dict(users), dict(projects), names, project_names)


def _check_order(connection: statements.Connection, month: str) -> dict[str, Any] | None:
    """The last closing, with the first month that ever was closed as `first`; None where there is none."""
    closed = statements.closed_months(connection)
    if not closed:
        return None
    last = closed[0]
    if month in {entry["month"] for entry in closed}:
        raise Conflict(f"{month} is closed already; its statements are final.", hint="GET /api/admin/statements")
    if month != next_month(last["month"]):
        raise Conflict(
            f"Months are closed one after the other: the last was {last['month']}, so {next_month(last['month'])} is"
            f" next, not {month}."
        )
    return {**last, "first": closed[-1]["month"]}


def _check_balance(
    connection: statements.Connection, month: str, window: Window, usage: Mapping[Key, Mapping[str, int]]
) -> None:
    """What the statements are made of must be what every screen shows."""
    rolled = figures.sums(connection, window, "all", columns=SPENDING)[None] if usage else Sums()
    for name in ("requests", "prompt_tokens", "response_tokens", "total_nusd", "unpriced_requests"):
        ledger, shown = sum(counted[name] for counted in usage.values()), getattr(rolled, name)
        if ledger != shown:
            raise Conflict(
                f"{month} cannot be closed: the ledger has {ledger} {name}, the rollups {shown}.",
                hint="'gemmapy audit' says where; 'gemmapy audit --repair' mends the rollups.",
            )


def _statements(closing: Closing, papers: _Papers, window: Window, now: datetime) -> list[NewStatement]:
    made: list[NewStatement] = []
    for user_id, paper in sorted(papers.users.items()):
        name = papers.names.get(user_id) or f"deleted user {user_id}"
        made.append(_statement("user", user_id, name, paper, closing, window, now))
    for project_id, paper in sorted(papers.projects.items()):
        name = papers.project_names[project_id]
        made.append(_statement("project", project_id, name, paper, closing, window, now))
    return made


def _statement(
    kind: str, subject_id: int, subject: str, paper: _Paper, closing: Closing, window: Window, now: datetime
) -> NewStatement:
    corrected = sum(correction.total_nusd for correction in paper.corrections)
    spent = sum(counted["total_nusd"] for _, counted in paper.lines)
    content: dict[str, Any] = {
        "month": closing.month,
        "from": window.start.isoformat(),
        "to": window.end.isoformat(),
        "kind": kind,
        "subject_id": subject_id,
        "subject": subject,
        "closed_at": now.isoformat(timespec="seconds"),
        "currency": CURRENCY,
        "lines": [{**who, **_line(counted)} for who, counted in paper.lines],
        "corrections": [
            {
                "month": correction.month,
                "model": correction.model,
                "repricing_id": correction.repricing_id,
                "reason": correction.reason,
                "requests": correction.requests,
                "cost": usd(correction.total_nusd),
            }
            for correction in paper.corrections
        ],
        **_line(_added(counted for _, counted in paper.lines)),
        "usage_cost": usd(spent),
        "correction_cost": usd(corrected),
        "total_cost": usd(spent + corrected),
        "total_nusd": spent + corrected,
    }
    del content["cost"]
    if kind == "user":
        own = sum(counted["total_nusd"] for who, counted in paper.lines if who["project"] is None)
        own += sum(correction.total_nusd for correction in paper.corrections if correction.project_id is None)
        content |= {"own_cost": usd(own), "charged_to_projects": usd(spent + corrected - own)}
    return NewStatement(kind, subject_id, subject, spent + corrected, content)


def _added(counted: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = dict.fromkeys(statements.COUNTED, 0)
    for one in counted:
        for name in total:
            total[name] += one[name]
    return total


def _line(counted: Mapping[str, int]) -> dict[str, Any]:
    return {
        "requests": counted["requests"],
        "errors": counted["errors"],
        "cache_hits": counted["cache_hits"],
        "prompt_tokens": counted["prompt_tokens"],
        "response_tokens": counted["response_tokens"],
        "prompt_cost": usd(counted["prompt_nusd"]),
        "response_cost": usd(counted["response_nusd"]),
        "other_cost": usd(counted["total_nusd"] - counted["prompt_nusd"] - counted["response_nusd"]),
        "cost": usd(counted["total_nusd"]),
        "saved": usd(counted["saved_nusd"]),
        "unpriced_requests": counted["unpriced_requests"],
        "unpriced_tokens": counted["unpriced_tokens"],
    }


def _write(
    connection: statements.Connection, closing: Closing, made: list[NewStatement], now: datetime, by: int | None
) -> list[int] | None:
    """None where something was adjusted while the statements were put together: they have to be made again."""
    _check_order(connection, closing.month)
    if adjustments.last_id(connection) != closing.last_adjustment_id:
        return None
    return statements.close(connection, closing, made, now, by)


# What is closed


def find(store: Store, number: int, user_id: int | None = None) -> Statement:
    """A statement by its number, as it was when its month was closed. With `user_id`, only that user's own.

    Raises NotFound, and Conflict where it was tampered with.
    """
    with store.read() as connection:
        row = statements.one(connection, number)
    if row is None or (user_id is not None and (row["kind"], row["subject_id"]) != ("user", user_id)):
        raise NotFound(f"There is no statement {number} of yours.", hint="GET /api/statements lists them.")
    if statements.checksum(row["content"]) != row["checksum"]:
        raise Conflict(f"Statement {number} is not what it was when its month was closed.", hint="Restore a backup.")
    return json.loads(row["content"])


def entries(rows: Iterable[Mapping[str, Any]]) -> list[StatementEntry]:
    """Rows of the list as JSON."""
    return [
        {
            "number": row["number"],
            "month": row["month"],
            "kind": row["kind"],
            "subject_id": row["subject_id"],
            "subject": row["subject"],
            "total_cost": usd(row["total_nusd"]),
            "currency": CURRENCY,
            "closed_at": row["closed_at"],
        }
        for row in rows
    ]
