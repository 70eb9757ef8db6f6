"""`gemmapy audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemmapy.cli.options import Data, opened
from gemmapy.core.money import usd
from gemmapy.metering.audit import Audit, audit

SHOWN = 20


def run(
    repair: Annotated[
        bool, typer.Option("--repair", help="Make the rollups of each wrong day of its ledger again.")
    ] = False,
    data: Data = None,
) -> None:
    """Prove that the books balance, also while the gateway runs.

    Compares, day by day, the ledger with every rollup, the sums by user, model and endpoint, and what the API answers.
    Ends with 0 where all of it is one number, with 1 and the differences where not. The ledger is never changed.
    """
    seen, found = Audit(), 0
    with opened(data) as store:
        for finding in audit(store, seen, repair=repair):
            found += 1
            if found <= SHOWN:
                print(f"{finding.day}  {finding.what}")
    if found > SHOWN:
        print(f"... and {found - SHOWN} more")
    looked = f"{seen.days} days, {seen.requests:,} requests, {usd(seen.total_nusd):,.9f} USD"
    if not found:
        print(f"The books balance: {looked}.")
        return
    print(f"{found} differences in {looked}." + (" Repaired: run it again to see." if repair else ""))
    raise typer.Exit(1)
