"""`gemmapy machine`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from gemmapy.cli.options import Data, Moment, opened, parse_moment, table
from gemmapy.core.periods import between, last_days
from gemmapy.metering.answers import MachineCosts
from gemmapy.metering.hardware import Hardware, MachineEntry

app = typer.Typer(help="Describe your own hardware, and see what it costs.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME")]
FromMoment = Annotated[
    datetime | None, typer.Option("--from", metavar="MOMENT", parser=parse_moment, help="Instead of --days.")
]
ToMoment = Annotated[datetime | None, typer.Option("--to", metavar="MOMENT", parser=parse_moment, help="Needs --from.")]


@app.command("list")
def list_machines(data: Data = None) -> None:
    """Show every machine, with all that was ever entered of it."""
    with opened(data) as store:
        machines = Hardware(store).get_machines()["machines"]
    rows = [
        (
            machine["id"],
            machine["name"],
            " ".join(machine["upstreams"]),
            f"{machine['watts_busy']:g}",
            f"{machine['watts_idle']:g}",
            f"{machine['kwh_cost']:g}",
            f"{machine['purchase_cost']:.15g}",
            f"{machine['lifetime_years']:g}",
            machine["parallel"],
            f"{machine['busy_cost_per_hour']:.4f}",
            f"{machine['effective_at']:%Y-%m-%d %H:%M}",
            "in force" if machine["in_force"] else "",
            machine["note"],
        )
        for machine in machines
    ]
    headings = ("ID", "NAME", "UPSTREAMS", "W BUSY", "W IDLE", "USD/KWH", "USD", "YEARS", "PARALLEL", "USD/H BUSY")
    table((*headings, "SINCE", "STATE", "NOTE"), rows)


@app.command("add")
def add(
    name: Name,
    watts_busy: Annotated[float, typer.Option(help="At the wall, with every place taken.")],
    watts_idle: Annotated[float, typer.Option(help="At the wall, with nothing to do.")],
    kwh: Annotated[str, typer.Option(metavar="USD", help="Price of a kilowatt-hour.")],
    purchase: Annotated[str, typer.Option(metavar="USD", help="What it cost to buy.")],
    years: Annotated[float, typer.Option(help="How long it will serve.")],
    upstream: Annotated[
        list[str] | None, typer.Option(help="An upstream that it is; repeatable. None: it is out of service.")
    ] = None,
    parallel: Annotated[int, typer.Option(help="Requests that it works on at once.")] = 1,
    at: Moment = None,
    note: Annotated[str, typer.Option()] = "",
    data: Data = None,
) -> None:
    """Describe a machine, or its new figures, from now on or from a moment."""
    entry = MachineEntry(name, upstream or (), watts_busy, watts_idle, kwh, purchase, years, parallel, at, note)
    with opened(data) as store:
        record = Hardware(store).add_machine(entry)
    print(f"Record {record}: the machine {name.strip()} has these figures from {at or 'now'} on.")


@app.command("price")
def price(
    name: Name,
    model: Annotated[str, typer.Argument(help="A name, which also prices its tags, or a prefix that ends in *.")],
    data: Data = None,
) -> None:
    """Price a model by the seconds that it computes on a machine, from now on."""
    with opened(data) as store:
        made = Hardware(store).enter_price(name, model)
    print(f"Price {made['id']}: {made['message']}\n  {made['source']}")


@app.command("cost")
def cost(
    name: Name,
    days: Annotated[int, typer.Option(min=1, help="The last so many times 24 hours.")] = 30,
    start: FromMoment = None,
    end: ToMoment = None,
    data: Data = None,
) -> None:
    """Show what a machine cost, busy and idle, and per million tokens."""
    if end is not None and start is None:
        raise typer.BadParameter("--to needs --from.")
    with opened(data) as store:
        now = store.clock.now()
        window = last_days(days, now) if start is None else between(start, end or now)
        said = Hardware(store).get_machine_cost(name, window)
    _show(said)


def _show(said: MachineCosts) -> None:
    print(f"{said['name']} from {said['from']:%Y-%m-%d %H:%M} to {said['to']:%Y-%m-%d %H:%M} UTC\n")
    hours, busy = said["wall_seconds"] / 3600, said["busy_seconds"] / 3600
    table(
        ("", "HOURS", "KWH", "USD"),
        [
            ("busy", f"{busy:.2f}", f"{said['busy_kwh']:.2f}", f"{said['busy_cost']:.4f}"),
            ("idle", f"{hours - busy:.2f}", f"{said['idle_kwh']:.2f}", f"{said['idle_cost']:.4f}"),
            ("", f"{hours:.2f}", f"{said['busy_kwh'] + said['idle_kwh']:.2f}", f"{said['total_cost']:.4f}"),
        ],
    )
    print(f"\nenergy {said['energy_cost']:.4f} USD, amortisation {said['amortisation']:.4f} USD")
    print(f"recorded as cost of its {said['requests']} requests: {said['stamped_cost']:.4f} USD")
    if said["unmeasured_requests"]:
        print(f"of {said['unmeasured_requests']} requests the engine did not say how long it worked on them")
    print(f"per million tokens: {_amount(said['cost_per_million_tokens'])} USD all in,", end=" ")
    print(f"{_amount(said['busy_cost_per_million_tokens'])} USD busy, {said['utilisation']:.1%} utilised\n")
    table(
        ("MODEL", "REQUESTS", "COMPUTE S", "INPUT TOKENS", "OUTPUT TOKENS", "USD/M INPUT", "USD/M OUTPUT"),
        [
            (
                model["model"],
                model["requests"],
                f"{model['compute_seconds']:.1f}",
                model["prompt_tokens"],
                model["response_tokens"],
                _amount(model["input_cost_per_million"]),
                _amount(model["output_cost_per_million"]),
            )
            for model in said["models"]
        ],
    )
    if said["warning"]:
        print(f"\nwarning: {said['warning']}")


def _amount(usd: float | None) -> str:
    return "-" if usd is None else f"{usd:.4f}"
