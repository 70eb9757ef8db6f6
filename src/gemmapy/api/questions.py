"""What a question about figures can be narrowed to: a window, and which requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Query

from gemmapy.api.access import SignedIn, Use, UserId, scope
from gemmapy.api.moments import AnyMoment
from gemmapy.api.services import Services
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.periods import Window, between
from gemmapy.storage import people
from gemmapy.storage.figures import Filter

Name = Annotated[str | None, Query(min_length=1, max_length=200)]
Number = Annotated[int | None, Query(ge=0, le=2**63 - 1)]
Moment = Annotated[AnyMoment | None, Query(description="ISO 8601 with a time zone, as in 2026-11-01T00:00:00Z.")]


@dataclass(frozen=True, slots=True)
class Question:
    """Whose requests, which of them, and when; no window is the route's own (`days`, `period`)."""

    window: Window | None
    which: Filter


def _question(
    caller: SignedIn,
    use: Use,
    user_id: UserId = None,
    project: Annotated[Name, Query(description="By its name.")] = None,
    model: Name = None,
    endpoint: Name = None,
    key: Annotated[Number, Query(description="An API key's id. Read from the ledger, so slower.")] = None,
    status: Annotated[int | None, Query(ge=0, le=999, description="Read from the ledger, so slower.")] = None,
    start: Annotated[Moment, Query(alias="from")] = None,
    end: Annotated[Moment, Query(alias="to")] = None,
) -> Question:
    return Question(
        window=_window(use, start, end),
        which=Filter(
            user_id=scope(caller, user_id),
            project_id=None if project is None else project_id_of(use, project),
            model=model,
            endpoint=endpoint,
            api_key_id=key,
            status=status,
        ),
    )


Asked = Annotated[Question, Depends(_question)]


def _window(use: Services, start: datetime | None, end: datetime | None) -> Window | None:
    if start is None:
        if end is not None:
            raise InvalidRequest("to needs a from.")
        return None
    return between(start, end or use.clock.now())


def project_id_of(use: Services, name: str) -> int:
    """The id behind a project's name. Raises InvalidRequest."""
    with use.store.read() as connection:
        found = people.project_id_of(connection, name)
    if found is None:
        raise InvalidRequest(f"There is no project named {name!r}.", hint="GET /api/profile lists yours.")
    return found


def without_user(question: Question) -> Filter:
    """The filter without whose requests they are, for methods that take that by itself."""
    return replace(question.which, user_id=None)
