"""`gemmapy reprice`, `close`, `statement` and `retire`: what is done with the books now and then."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from gemmapy.cli.options import Data, opened, table
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import usd
from gemmapy.core.periods import between
from gemmapy.metering import printout
from gemmapy.metering.reprice import Repricer, Repricing
from gemmapy.metering.retention import due
from gemmapy.metering.retention import retire as retire_days
from gemmapy.metering.statements import close_month, find
from gemmapy.storage import people, statements
from gemmapy.storage.figures import Filter

statement_app = typer.Typer(help="List and print the statements of closed months.", no_args_is_help=True)
SHOWN = 40


def moment(text: str, name: str) -> datetime:
    """A day or a moment, UTC where it names no zone. Raises InvalidRequest."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{name} must be a day or a moment, as in 2026-11-01, got {text[:40]!r}.") from None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def reprice(
    start: Annotated[str, typer.Option("--from", metavar="MOMENT", help="From this day or moment on (UTC).")],
    end: Annotated[str | None, typer.Option("--to", metavar="MOMENT", help="Up to it, without it. [now]")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model, as it was asked for.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    unpriced_only: Annotated[bool, typer.Option("--unpriced-only", help="Only requests without a price.")] = False,
    prices_at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="By the price list of this moment. [now]")
    ] = None,
    as_recorded: Annotated[
        bool, typer.Option("--as-recorded", help="Back to what each request was recorded with.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; needed to apply, stays in the trail.")] = "",
    apply: Annotated[bool, typer.Option("--apply", help="Do it. Without this, only shows the difference.")] = False,
    data: Data = None,
) -> None:
    """Price a period anew, as adjustments that leave a trail; nothing that was recorded is overwritten.

    For example: gemmapy price set phi4 0.0002 0.0004, then gemmapy reprice --from 2026-11-01 --unpriced-only.
    """
    with opened(data) as store:
        with store.read() as connection:
            user_id = None if user is None else people.user_id_of(connection, user)
        asked = Repricing(
            window=between(moment(start, "--from"), store.clock.now() if end is None else moment(end, "--to")),
            which=Filter(user_id=user_id, model=model),
            prices_at=None if prices_at is None else moment(prices_at, "--prices-at"),
            as_recorded=as_recorded,
            unpriced_only=unpriced_only,
            reason=reason,
        )
        told = Repricer(store).apply(asked) if apply else Repricer(store).preview(asked)
    lines = told["breakdown"]
    table(
        ("USER", "MODEL", "REQUESTS", "BEFORE", "AFTER", "DIFFERENCE"),
        [
            (
                line["username"],
                line["model"],
                f"{line['requests']:,}",
                f"{line['cost_before']:.9f}",
                f"{line['cost_after']:.9f}",
                f"{line['difference']:+.9f}",
            )
            for line in lines[:SHOWN]
        ],
    )
    if len(lines) > SHOWN:
        print(f"... and {len(lines) - SHOWN} more")
    print(
        f"{told['changed']:,} of {told['requests']:,} requests: {told['difference']:+.9f} USD"
        f" ({told['no_longer_unpriced']:,} no longer unpriced, {told['without_price']:,} still without a price)."
    )
    print(f"Applied as repricing {told['repricing_id']}." if apply else "Nothing is changed; --apply does it.")


def close(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10, UTC.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what the statements would say.")] = False,
    data: Data = None,
) -> None:
    """Close a month: a frozen, numbered statement for each user and project. Later corrections go into the next."""
    with opened(data) as store:
        told = close_month(store, month, dry_run=dry_run)
    table(
        ("NUMBER", "FOR", "NAME", "USD"),
        [
            (entry["number"] or "-", entry["kind"], entry["subject"], f"{entry['total_cost']:.9f}")
            for entry in told["statements"]
        ],
    )
    corrections = f", corrections of earlier months {told['corrections']:+.9f} USD" if told["corrections"] else ""
    state = "would be closed" if dry_run else "is closed"
    print(f"{month} {state}: {told['requests']:,} requests, {told['total_cost']:.9f} USD{corrections}.")


@statement_app.command("list")
def list_statements(
    month: Annotated[str | None, typer.Option(help="This month's only.")] = None, data: Data = None
) -> None:
    """Show the statements, the newest first."""
    with opened(data) as store, store.read() as connection:
        rows = statements.listed(connection, month=month, limit=100_000)
    table(
        ("NUMBER", "MONTH", "FOR", "NAME", "USD"),
        [(r["number"], r["month"], r["kind"], r["subject"], f"{usd(r['total_nusd']):.9f}") for r in rows],
    )


class Format(StrEnum):
    """How a statement is printed."""

    JSON = "json"
    CSV = "csv"
    HTML = "html"


@statement_app.command("show")
def show_statement(
    number: Annotated[int, typer.Argument(metavar="NUMBER")],
    format: Annotated[Format, typer.Option(help="html is a page to print.")] = Format.JSON,  # noqa: A002
    data: Data = None,
) -> None:
    """Print a statement, as it was when its month was closed."""
    with opened(data) as store:
        statement = find(store, number)
    if format is Format.CSV:
        print(printout.as_csv(statement), end="")
    elif format is Format.HTML:
        print(printout.as_html(statement), end="")
    else:
        print(json.dumps(statement, ensure_ascii=False, indent=2))


def retire(
    keep_days: Annotated[int, typer.Option(help="So many whole days stay, beside today.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which days would retire.")] = False,
    data: Data = None,
) -> None:
    """Delete the ledger's rows of old days, after an audit; what they added up to stays.

    Rollups go on answering for those days. Their requests can no longer be listed, rated or priced anew.
    """
    with opened(data) as store:
        if dry_run:
            days = due(store, keep_days)
            for day in days:
                print(f"{datetime.fromtimestamp(day, UTC):%Y-%m-%d}")
            print(f"{len(days)} days would retire.")
            return
        count = 0
        for day in retire_days(store, keep_days):
            print(f"{day.day}  {day.requests:,} requests, {usd(day.total_nusd):.9f} USD")
            count += 1
    print(f"{count} days have retired.")
