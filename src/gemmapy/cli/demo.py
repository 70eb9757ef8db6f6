"""`gemmapy demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemmapy.config import Settings, of_environment
from gemmapy.core.errors import ConfigurationError


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="An empty folder to fill and keep; by default one that is gone after."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [default: 5000]")] = None,
    requests: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many requests lie in the past, about.")
    ] = 50_000,
    serve: Annotated[bool, typer.Option(" /--no-serve", help="Fill the folder only.")] = True,
) -> None:
    """Show a team at work: a quarter of invented use, and requests that go on while you watch.

    Fills a scratch folder with the requests of a team of twenty, then serves it and lets them go on asking a built-in
    model that understands nothing. No model and no network are needed, and no data of yours are touched.
    """
    from gemmapy.demo import run

    if not serve and data is None:
        raise ConfigurationError("--no-serve needs --data: else nothing would be left.")
    # The command line and the environment, and not gemmapy.toml: a demo is nobody's gateway.
    with run.scratch(data) as folder:
        chosen = Settings.of(of_environment(), {"data": folder, "host": host, "port": port})
        filled, took_s = run.fill(folder, requests)
        print(f"{filled.requests:,} requests of 90 days, made up and written in {took_s:.1f} s: {folder}")
        if not serve:
            print(f"Sign in as {filled.username} with {filled.password} after: gemmapy serve --data {folder}")
            return
        print(f"Sign in as {filled.username} (an admin) or lucia (not one) with {filled.password}", flush=True)
        run.serve(chosen, filled)
