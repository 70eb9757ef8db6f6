"""Work on the books that a process of its own does, and may be killed in: what `launcher.py` can be told to run.

Each is in small pieces here, so that there are several transactions to be killed between.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.core.periods import Window
from gemmapy.metering import reprice as repricing
from gemmapy.metering import retention
from gemmapy.metering.reprice import Repricer, Repricing
from gemmapy.metering.statements import close_month
from gemmapy.storage import people
from gemmapy.storage.store import Store
from tests.support.clock import FixedClock


def days() -> list[datetime]:
    """The mornings of the days that the books know: three of the month before last, one of the last, and yesterday."""
    today = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0)
    last = (today.replace(day=1) - timedelta(days=1)).replace(day=5)
    before = (last.replace(day=1) - timedelta(days=1)).replace(day=10)
    return [before, before + timedelta(days=1), before + timedelta(days=2), last, today - timedelta(days=1)]


def fill(data: Path, each_day: int = 24) -> None:
    """Books with so many requests on each of the days, of two models, one of them without a price until now."""
    clock = FixedClock(days()[0])
    with Store.open(data, clock) as store:
        store.write(lambda c: people.create_user(c, "ada", None, is_admin=True, now=clock.now()))
        collector = MetricsCollector(store)
        for day in days():
            clock.go_on(seconds=(day - clock.now()).total_seconds())
            for number in range(each_day):
                model = ("llama3", "phi")[number % 2]
                collector.record(1, model, "/api/chat", prompt_tokens=100 + number, response_tokens=number)
                clock.go_on(minutes=10)
        CostCalculator(store).update_pricing("phi", 0.001, 0.002)
        CostCalculator(store).update_pricing("llama3", 0.0003, 0.0004)


def upgrade(data: Path) -> None:
    """Opens the data, which brings an older schema up to date."""
    Store.open(data).close()


def reprice(data: Path) -> None:
    """Charges all that there is by today's prices."""
    repricing.PAGE = 50
    with Store.open(data) as store:
        Repricer(store).apply(Repricing(Window(days()[0], store.clock.now()), reason="a test"), by=1)


def retire(data: Path) -> None:
    """Lets the two oldest days go."""
    retention.AT_ONCE = 15
    with Store.open(data) as store:
        list(retention.retire(store, (store.clock.now() - days()[2]).days))


def close(data: Path) -> None:
    """Closes the month before last."""
    with Store.open(data) as store:
        close_month(store, f"{days()[0]:%Y-%m}")


JOBS: dict[str, Callable[[Path], None]] = {"upgrade": upgrade, "reprice": reprice, "retire": retire, "close": close}
