"""Who uses how much: each user's and each project's figures in a window, beside those of the window before it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection
from typing_extensions import TypedDict

from gemmapy.core.money import usd
from gemmapy.core.periods import Window
from gemmapy.metering.answers import AnsweredWindow
from gemmapy.metering.windows import answered
from gemmapy.metrics.measures import Sums
from gemmapy.storage import figures, people, requests
from gemmapy.storage.figures import Filter
from gemmapy.storage.store import Store


class Earlier(TypedDict):
    """The same in the window of the same length before."""

    requests: int
    errors: int
    total_tokens: int
    cost: float


class Use(TypedDict):
    """What somebody used; `share` is of the cost of all that is listed, None where that is nothing; `previous` is None
    where those days have retired."""

    requests: int
    errors: int
    error_rate: float
    prompt_tokens: int
    response_tokens: int
    total_tokens: int
    cost: float
    share: float | None
    unpriced_requests: int
    cache_hits: int
    saved: float
    avg_duration: float
    avg_tokens_per_sec: float
    satisfaction_rate: float
    total_rated: int
    previous: Earlier | None


class UserUse(Use):
    user_id: int
    username: str | None
    last_request_at: datetime | None


class ProjectUse(Use):
    """`project` and `project_id` are None for the requests that name none."""

    project_id: int | None
    project: str | None


class UserShares(TypedDict):
    window: AnsweredWindow
    users: list[UserUse]


class ProjectShares(TypedDict):
    window: AnsweredWindow
    projects: list[ProjectUse]


def user_shares(store: Store, window: Window, which: Filter) -> UserShares:
    """Everybody who asked anything in the window or in the one before, the dearest first. Deleted users have no name.

    From rollups, unless `which` asks for an endpoint, key or status too.
    """
    with store.read() as connection:
        told, found, before = _found(connection, window, which, "user")
        names = people.names(connection)
        last = requests.last_of_users(connection, list({*found, *(before or {})}))
    uses = _uses(found, before)
    return {
        "window": told,
        "users": [
            {**use, "user_id": user_id, "username": names.get(user_id), "last_request_at": last.get(user_id)}
            for user_id, use in uses.items()
        ],
    }


def project_shares(store: Store, window: Window, which: Filter) -> ProjectShares:
    """Every project that paid for anything in the window or in the one before, and what no project pays for, the
    dearest first."""
    with store.read() as connection:
        told, found, before = _found(connection, window, which, "project")
        names = people.project_names(connection)
    uses = _uses(found, before)
    return {
        "window": told,
        "projects": [
            {**use, "project_id": project_id, "project": None if project_id is None else names.get(project_id)}
            for project_id, use in uses.items()
        ],
    }


def _found(
    connection: Connection, asked: Window, which: Filter, by: Literal["user", "project"]
) -> tuple[AnsweredWindow, dict[Any, Sums], dict[Any, Sums] | None]:
    span = figures.answerable(connection, asked, by, which)
    earlier = Window(span.start - (span.end - span.start), span.start)
    before = None
    if figures.answerable(connection, earlier, by, which) == earlier:
        before = _sums(connection, earlier, which, by)
    return answered(asked, span), _sums(connection, span, which, by), before


def _sums(connection: Connection, span: Window, which: Filter, by: Literal["user", "project"]) -> dict[Any, Sums]:
    found: dict[Any, Sums] = figures.sums(connection, span, by, which)
    if by == "project" and which.project_id is None:
        total = sum(figures.sums(connection, span, "all", which).values(), Sums())
        rest = total.less(sum(found.values(), Sums()))
        if rest.requests:
            found[None] = rest
    return found


def _uses(found: Mapping[Any, Sums], before: Mapping[Any, Sums] | None) -> dict[Any, Use]:
    """By whom, the dearest first, then the busiest."""
    total_nusd = sum(sums.total_nusd for sums in found.values())
    groups = {group: found.get(group, Sums()) for group in [*found, *(before or {})]}
    ordered = sorted(groups.items(), key=lambda entry: (-entry[1].total_nusd, -entry[1].requests, entry[0] or 0))
    return {
        group: _use(sums, total_nusd, None if before is None else before.get(group, Sums())) for group, sums in ordered
    }


def _use(sums: Sums, total_nusd: int, before: Sums | None) -> Use:
    return {
        "requests": sums.requests,
        "errors": sums.errors,
        "error_rate": sums.error_rate,
        "prompt_tokens": sums.prompt_tokens,
        "response_tokens": sums.response_tokens,
        "total_tokens": sums.total_tokens,
        "cost": usd(sums.total_nusd),
        "share": sums.total_nusd / total_nusd if total_nusd else None,
        "unpriced_requests": sums.unpriced_requests,
        "cache_hits": sums.cache_hits,
        "saved": usd(sums.saved_nusd),
        "avg_duration": sums.avg_duration,
        "avg_tokens_per_sec": sums.avg_tokens_per_sec,
        "satisfaction_rate": sums.satisfaction_rate,
        "total_rated": sums.total_rated,
        "previous": None
        if before is None
        else {
            "requests": before.requests,
            "errors": before.errors,
            "total_tokens": before.total_tokens,
            "cost": usd(before.total_nusd),
        },
    }
