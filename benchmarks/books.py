"""How fast the books are written and read: `python -m benchmarks.books --requests 1000000`.

Generates requests of 50 models, 1,000 users and 90 days, skewed as use is (a few models and people do most of it),
writes them through the same code as the gateway does, ledger, rollups and histograms in one transaction a batch, and
asks every question of the dashboard, for a user and for everybody. A plain SQL aggregation of the same window over the
ledger stands beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gemmapy import CostCalculator, MetricsCollector, Store
from gemmapy.core.ids import RequestIds
from gemmapy.core.records import Cost, Intent, Outcome, Timings, Usage, speed_mtps
from gemmapy.storage import ledger, people

MODELS, USERS, DAYS, BATCH = 50, 1_000, 90, 500
NOW = datetime(2026, 11, 24, 10, 7, 30, tzinfo=UTC)


class FixedClock:
    """Stands at the end of the ninety days."""

    def now(self) -> datetime:
        return NOW

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


def outcomes(chance: random.Random, ids: RequestIds, count: int, at: datetime) -> list[Outcome]:
    """So many requests of one moment."""
    made: list[Outcome] = []
    for _ in range(count):
        prompt, response = int(chance.lognormvariate(6, 1)), int(chance.lognormvariate(5, 1))
        generation_ms = max(1, int(response * chance.uniform(10, 40)))
        failed = chance.random() < 0.02
        made.append(
            Outcome(
                intent=Intent(
                    request_id=ids.new(),
                    user_id=1 + min(USERS - 1, int(chance.paretovariate(0.6)) - 1),
                    model=f"model-{min(MODELS - 1, int(chance.paretovariate(0.8)) - 1)}:8b",
                    endpoint=chance.choice(("/api/chat", "/v1/chat/completions", "/api/generate")),
                    started_at=at,
                    api_key_id=1,
                    upstream="ollama",
                    price_id=1,
                ),
                status=502 if failed else 200,
                usage=Usage(prompt, response),
                timings=Timings(generation_ms + 200, ttft_ms=chance.randint(30, 900), generation_ms=generation_ms),
                error_code="upstream_error" if failed else None,
                finish_reason="stop",
                cost=Cost(1, prompt * 100, response * 200),
                speed_mtps=speed_mtps(response, generation_ms),
            )
        )
    return made


def fill(store: Store, requests: int) -> float:
    """Writes them; how many a second, durable, the making of them not counted."""
    chance = random.Random(7)
    ids = RequestIds()
    for number in range(1, USERS + 1):
        store.write(lambda c, n=number: people.create_user(c, f"user{n}", None, is_admin=n == 1, now=NOW))
    spent = 0.0
    batches = requests // BATCH
    for number in range(batches):
        at = NOW - timedelta(days=DAYS) * (1 - (number + 0.5) / batches)
        batch = outcomes(chance, ids, BATCH, at)
        began = time.perf_counter()
        store.write(lambda c, b=batch, m=at: ledger.write(c, store.slot, [], [(o, False) for o in b], m))
        spent += time.perf_counter() - began
    return batches * BATCH / spent


def timed(ask: Callable[[], object], times: int) -> tuple[float, float]:
    """Median and worst, in milliseconds."""
    took: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), max(took)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.books", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=15)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        with Store.open(path, FixedClock()) as store:
            rate = fill(store, asked.requests)
        size = (path / "gemmapy.db").stat().st_size
        with Store.open(path, FixedClock()) as store:
            collector, costs = MetricsCollector(store), CostCalculator(store)
            print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {asked.requests:,} requests")
            print(f"written: {rate:,.0f} requests/s; {size / asked.requests:.0f} bytes a request on disk, all told")
            for table in ("llm_metrics", "rollup_models", "rollup_users", "rollup_histograms"):
                with store.read() as connection:
                    rows = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
                print(f"  {table}: {rows:,} rows")
            print("question                       whose      days   median ms     worst")
            for days, period in ((7, "week"), (90, "quarter")):
                for whose, user in (("everybody", None), ("user 1", 1)):
                    questions: dict[str, Callable[[], object]] = {
                        "dashboard, percentiles": lambda u=user, d=days: collector.get_dashboard_stats(u, d),
                        "series by the hour": lambda u=user, d=days: collector.get_time_series(u, d, "hour"),
                        "series by the day": lambda u=user, d=days: collector.get_time_series(u, d, "day"),
                        "endpoints": lambda u=user, d=days: collector.get_endpoint_stats(u, d),
                        "cost summary": lambda u=user, p=period: costs.get_user_costs(u, p),
                        "projection": lambda u=user, p=period: costs.get_cost_projection(u, p),
                    }
                    if user is None:
                        questions["admin overview"] = lambda p=period: costs.get_all_users_costs(p)
                    for name, ask in questions.items():
                        median, worst = timed(ask, asked.times)
                        print(f"{name:30} {whose:10} {days:4}  {median:10.1f}  {worst:8.1f}")
                scan = (
                    "SELECT model, count(*), sum(total_tokens), sum(cost_nusd), avg(duration_ms) FROM llm_metrics"
                    f" WHERE created_at >= '{NOW - timedelta(days=days):%Y-%m-%d %H:%M:%S.000}' GROUP BY model"
                )
                with store.read() as connection:
                    median, worst = timed(lambda s=scan, c=connection: c.exec_driver_sql(s).fetchall(), 3)
                print(f"{'plain SQL over the ledger':30} {'everybody':10} {days:4}  {median:10.1f}  {worst:8.1f}")


if __name__ == "__main__":
    main()
