"""Closed months and their statements: JSON, CSV, and a page to print."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from gemmapy.api.access import Admin, SignedIn, Use
from gemmapy.api.services import Services
from gemmapy.core.money import usd
from gemmapy.metering import printout
from gemmapy.metering.answers import ClosedMonth, Closings, Retention, Statement, Statements
from gemmapy.metering.retention import state
from gemmapy.metering.statements import close_month, entries, find
from gemmapy.storage import statements

router = APIRouter(tags=["Statements"])
Month = Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}$", description="As in 2026-10.")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Before = Annotated[int | None, Query(ge=1, le=2**63 - 1, description="The `next` of the page before.")]
_PRINTABLE = "default-src 'none'; style-src 'unsafe-inline'"


class MonthToClose(BaseModel):
    """A month (UTC) that is over; the one after the last that was closed."""

    model_config = ConfigDict(extra="forbid")
    month: StrictStr = Field(pattern=r"^\d{4}-\d{2}$", description="As in 2026-10.")
    dry_run: StrictBool = Field(False, description="Show what the statements would say, and write nothing.")


@router.post(
    "/api/admin/months", status_code=201, summary="Admins: close a month, with a statement for each user and project"
)
def close(body: MonthToClose, caller: Admin, use: Use, response: Response) -> ClosedMonth:
    if body.dry_run:
        response.status_code = 200
    return close_month(use.store, body.month, by=caller.user_id, dry_run=body.dry_run)


@router.get("/api/admin/months", summary="Admins: the months that are closed, the newest first")
def months(caller: Admin, use: Use) -> Closings:  # noqa: ARG001 - checked by its type, here and below
    with use.store.read() as connection:
        rows = statements.closed_months(connection)
    return {
        "months": [
            {
                "month": row["month"],
                "closed_at": row["closed_at"],
                "by": row["by"],
                "requests": row["requests"],
                "total_cost": usd(row["total_nusd"]),
                "corrections": usd(row["adjustments_nusd"]),
                "statements": row["statements"],
            }
            for row in rows
        ]
    }


@router.get("/api/admin/statements", summary="Admins: everyone's statements, the newest first")
def every(caller: Admin, use: Use, month: Month = None, limit: Limit = 100, before: Before = None) -> Statements:  # noqa: ARG001
    return _page(use, month, None, limit, before)


@router.get("/api/statements", summary="Your statements, the newest first")
def own(caller: SignedIn, use: Use, month: Month = None, limit: Limit = 100, before: Before = None) -> Statements:
    return _page(use, month, ("user", caller.user_id), limit, before)


@router.get(
    "/api/statements/{number}",
    summary="A statement, as it was when its month was closed",
    responses={200: {"content": {"text/csv": {}, "text/html": {}}}},
    response_model=Statement,
)
def one(
    number: Annotated[int, Field(ge=1, le=2**63 - 1)],
    caller: SignedIn,
    use: Use,
    format: Annotated[Literal["json", "csv", "html"], Query(description="html prints.")] = "json",  # noqa: A002
) -> Statement | Response:
    statement = find(use.store, number, None if caller.is_admin else caller.user_id)
    if format == "csv":
        name = f'attachment; filename="statement-{number}.csv"'
        return Response(printout.as_csv(statement), media_type="text/csv", headers={"Content-Disposition": name})
    if format == "html":
        return HTMLResponse(printout.as_html(statement), headers={"Content-Security-Policy": _PRINTABLE})
    return statement


@router.get("/api/admin/retention", summary="Admins: how long the ledger is kept, and where it begins")
def retention(caller: Admin, use: Use) -> Retention:  # noqa: ARG001
    return state(use.store, use.settings.retention_days)


def _page(
    use: Services, month: str | None, subject: tuple[str, int] | None, limit: int, before: int | None
) -> Statements:
    with use.store.read() as connection:
        rows = statements.listed(connection, month=month, subject=subject, before=before, limit=limit + 1)
    page = rows[:limit]
    return {"statements": entries(page), "next": page[-1]["number"] if len(rows) > limit else None}
