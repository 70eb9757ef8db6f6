"""The audit: ledger, rollups, per user, per model and what the API answers are one number, or it says where not.

Runs beside a gateway: each day is compared in one snapshot of the database, in which a request's row and its share of
the rollups are both there or both not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gemmapy.core.money import usd
from gemmapy.core.periods import Window
from gemmapy.metering.calculator import CostCalculator
from gemmapy.metering.collector import MetricsCollector
from gemmapy.metrics.measures import Sums
from gemmapy.metrics.windows import DAY_S
from gemmapy.storage import figures, recount, retention, statements
from gemmapy.storage.recount import Difference
from gemmapy.storage.store import Store


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not add up."""

    day: str
    what: str


@dataclass(slots=True)
class Audit:
    """What was looked at, and what was found."""

    days: int = 0
    requests: int = 0
    total_nusd: int = 0


def audit(store: Store, seen: Audit, *, repair: bool = False) -> Iterator[Finding]:
    """Looks at every day; with `repair`, makes the rollups of a day that is wrong of its ledger again.

    `seen` is filled while it goes on, with the days that the ledger has. The ledger itself is never touched, nor are
    the rollups of days that have retired.
    """
    with store.read() as connection:
        days = list(recount.days_of_ledger(connection))
        retired = retention.kept(connection)
    yield from _retired(store, retired)
    with store.read() as connection:
        for number in statements.damaged(connection):
            yield Finding("", f"statement {number} is not what it was when its month was closed")
    for day in days:
        if day in retired:
            continue
        name = datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d")
        with store.read() as connection:
            wrong = list(recount.differences(connection, day))
            window = Window(datetime.fromtimestamp(day, UTC), datetime.fromtimestamp(day + DAY_S, UTC))
            ledger = figures.sums_of_ledger(connection, window)
            for by in ("model", "endpoint", "user"):
                parts = sum(figures.sums(connection, window, by).values(), Sums())
                if parts != ledger and not wrong:
                    yield Finding(name, f"the {by}s add up to {parts}, the ledger to {ledger}")
        seen.days += 1
        seen.requests += ledger.requests
        seen.total_nusd += ledger.total_nusd
        for difference in wrong:
            yield Finding(name, _words(difference))
        if wrong and repair:
            store.write(lambda connection, day=day: recount.rebuild(connection, day))
        elif not wrong:
            yield from _answers(store, name, window, ledger)


def _retired(store: Store, kept: Mapping[int, tuple[Sums, str]]) -> Iterator[Finding]:
    """Days without a ledger: their rollups must be what they were when it was deleted. Nothing can repair them."""
    for day, (sums, checksum) in kept.items():
        name = datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d")
        window = Window(datetime.fromtimestamp(day, UTC), datetime.fromtimestamp(day + DAY_S, UTC))
        with store.read() as connection:
            stated = figures.sums(connection, window, "all").get(None, Sums())
            if stated != sums:
                yield Finding(name, f"the rollups of this retired day add up to {stated}, its ledger was {sums}")
            elif retention.checksum_of(connection, day) != checksum:
                yield Finding(
                    name, "the rollups of this retired day are not what they were when its ledger was deleted"
                )


def _answers(store: Store, name: str, window: Window, ledger: Sums) -> Iterator[Finding]:
    """What the API says of a day that is over, in the words of the API."""
    if window.end + timedelta(minutes=1) > store.clock.now():
        return  # it still grows
    calculator, collector = CostCalculator(store), MetricsCollector(store)
    told = {
        "the cost summary": calculator.get_user_costs(None, window=window)["total_cost"],
        "the admin overview": calculator.get_all_users_costs(window=window)["total_cost"],
    }
    for what, cost in told.items():
        if cost != usd(ledger.total_nusd):
            yield Finding(name, f"{what} says {cost} USD, the ledger {usd(ledger.total_nusd)}")
    requests = collector.get_dashboard_stats(window=window)["total_requests"]
    if requests != ledger.requests:
        yield Finding(name, f"the dashboard says {requests} requests, the ledger {ledger.requests}")


def _words(difference: Difference) -> str:
    keys = ", ".join(f"{name}={value!r}" for name, value in difference.key.items())
    return (
        f"{difference.table} ({keys}): {difference.column} is {difference.rollup}, the ledger says {difference.ledger}"
    )
