"""`gemmapy price`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemmapy.cli.options import Data, Moment, opened, table
from gemmapy.core.clock import SystemClock
from gemmapy.core.money import usd
from gemmapy.metering.prices import PriceDesk, PriceEntry, hosted_price
from gemmapy.pricing import catalogue
from gemmapy.storage import prices

app = typer.Typer(help="List and set what models cost.", no_args_is_help=True)
_UNITS = (
    "USD per 1K tokens, per request, per second of compute; the cached price is what input costs where it is empty."
)
_PARTS = ("INPUT", "OUTPUT", "CACHED", "REQUEST", "COMPUTE")


@app.command("list")
def list_prices(at: Moment = None, data: Data = None) -> None:
    """Show the prices in force, now or at a moment."""
    with opened(data) as store:
        moment = at or store.clock.now()
        current = PriceDesk(store).book.current(moment).values()
    rows = [
        (
            price.id,
            price.model,
            *_amounts(
                price.input_nusd_per_1k,
                price.output_nusd_per_1k,
                price.cached_input_nusd_per_1k,
                price.request_nusd,
                price.compute_nusd_per_second,
            ),
            f"{price.effective_at:%Y-%m-%d %H:%M}",
        )
        for price in current
    ]
    table(("ID", "MODEL", *_PARTS, "SINCE"), rows)
    print(_UNITS)


@app.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="A name, which also prices its tags, or a prefix that ends in *.")],
    input_cost: Annotated[str, typer.Argument(metavar="INPUT", help="USD per 1K input tokens.")],
    output_cost: Annotated[str, typer.Argument(metavar="OUTPUT", help="USD per 1K output tokens.")],
    at: Moment = None,
    cached: Annotated[
        str | None, typer.Option(metavar="USD", help="Per 1K input tokens that the engine had cached.")
    ] = None,
    request: Annotated[str, typer.Option(metavar="USD", help="Per request.")] = "0",
    compute: Annotated[str, typer.Option(metavar="USD", help="Per second of compute.")] = "0",
    source: Annotated[str, typer.Option(metavar="TEXT", help="Where the price comes from.")] = "",
    data: Data = None,
) -> None:
    """Set a model's price, from now on or from a moment in the future; what was recorded keeps its cost."""
    entry = PriceEntry(model, input_cost, output_cost, cached, request, compute, at, source)
    with opened(data) as store:
        price_id = PriceDesk(store).enter(entry)
    since = "from now on" if at is None else f"from {at.isoformat()} on"
    print(f"Price {price_id} of {model.strip()} holds {since}; what was recorded keeps its cost.")


@app.command("history")
def history(
    model: Annotated[str | None, typer.Argument(help="Of this name alone.")] = None,
    data: Data = None,
) -> None:
    """Show every price that was ever entered, the newest first."""
    with opened(data) as store, store.read() as connection:
        rows = [
            (
                row["id"],
                row["model"],
                *_amounts(
                    row["input_nusd_per_1k"],
                    row["output_nusd_per_1k"],
                    row["cached_input_nusd_per_1k"],
                    row["request_nusd"],
                    row["compute_nusd_per_second"],
                ),
                f"{row['effective_at']:%Y-%m-%d %H:%M}",
                "withdrawn" if row["withdrawn_at"] else "",
                row["entered_by"],
                row["source"],
            )
            for row in prices.history(connection, model)
        ]
    table(("ID", "MODEL", *_PARTS, "SINCE", "STATE", "BY", "SOURCE"), rows)
    print(_UNITS)


@app.command("withdraw")
def withdraw(
    price_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="As `gemmapy price history` shows it.")],
    data: Data = None,
) -> None:
    """Take back a price that has not come into force."""
    with opened(data) as store:
        PriceDesk(store).withdraw(price_id)
    print(f"Price {price_id} is withdrawn.")


@app.command("catalogue")
def show_catalogue(
    search: Annotated[str, typer.Argument(help="Words that provider and name must have.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=5000)] = 30,
    at: Moment = None,
) -> None:
    """Show hosted models of many providers and what they cost there."""
    moment = at or SystemClock().now()
    found, total = catalogue.search(search, limit)
    rows: list[tuple[str, ...]] = []
    for model in found:
        price = model.price(moment)
        amounts = _amounts(price.input_nusd_per_1k, price.output_nusd_per_1k, price.cached_input_nusd_per_1k)
        rows.append((model.reference, *amounts, "more for long prompts" if price.has_tiers else ""))
    table(("MODEL", "INPUT", "OUTPUT", "CACHED", ""), rows)
    print(f"{len(found)} of {total}; USD per 1K tokens at {moment:%Y-%m-%d}, from {catalogue.source()}.")


@app.command("copy")
def copy(
    model: Annotated[str, typer.Argument(metavar="PROVIDER/MODEL", help="As `gemmapy price catalogue` shows it.")],
    as_model: Annotated[str | None, typer.Argument(metavar="AS_MODEL", help="Its name here.")] = None,
    data: Data = None,
) -> None:
    """Enter a hosted model's price, from now on, with where it comes from."""
    with opened(data) as store:
        entry = hosted_price(model, as_model, store.clock.now())
        price_id = PriceDesk(store).enter(entry)
    print(f"Price {price_id} of {entry.model.strip()} holds from now on: {entry.source}.")


def _amounts(*nusd: int | None) -> tuple[str, ...]:
    """Amounts as USD; nothing where there is no price of that kind."""
    return tuple("" if amount is None else f"{usd(amount):.9f}".rstrip("0").rstrip(".") for amount in nusd)
