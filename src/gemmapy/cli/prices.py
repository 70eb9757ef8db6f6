"""`gemmapy price`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemmapy.cli.options import Data, opened, table
from gemmapy.metering.calculator import CostCalculator

app = typer.Typer(help="List and set what models cost.", no_args_is_help=True)


@app.command("list")
def list_prices(data: Data = None) -> None:
    """Show the prices in force."""
    with opened(data) as store:
        pricing = CostCalculator(store).get_pricing()
    rows = [(name, f"{price['input']:.9g}", f"{price['output']:.9g}") for name, price in pricing["models"].items()]
    table(("MODEL", "USD PER 1K INPUT", "USD PER 1K OUTPUT"), rows)


@app.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="A name, which also prices its tags, or a prefix that ends in *.")],
    input_cost: Annotated[str, typer.Argument(metavar="INPUT", help="USD per 1K input tokens.")],
    output_cost: Annotated[str, typer.Argument(metavar="OUTPUT", help="USD per 1K output tokens.")],
    data: Data = None,
) -> None:
    """Set a model's price from now on; what was recorded keeps its cost."""
    with opened(data) as store:
        print(CostCalculator(store).update_pricing(model, input_cost, output_cost)["message"])
