"""How fast the books are written and read: `python -m benchmarks.books --requests 10000 1000000 10000000`.

Generates requests of 50 models, 1,000 users and 90 days, skewed as use is (a few models and people do most of it),
writes them through `MetricsCollector`, durable, with rollups and histograms, and asks every question of the dashboard,
for the busiest user and for everybody. Before each question the clock goes on and one more request is recorded, so that
no answer is the last one again. The first answer of a process is shown beside the later ones.

The reference is a plain SQL aggregation of the same window over the same rows: in SQLite, and in DuckDB where that is
installed (`pip install duckdb`). With `--data FOLDER` what was generated stays there and is used again.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gemmapy import CostCalculator, FinishedRequest, MetricsCollector, Store
from gemmapy.storage import people

MODELS, USERS, DAYS = 50, 1_000, 90
END = datetime(2026, 11, 24, 10, 7, 30, tzinfo=UTC)
MOMENTS = DAYS * 24 * 8
"""Requests come in bunches, one in seven and a half minutes."""
ENDPOINTS = ("/api/chat", "/v1/chat/completions", "/api/generate")
PERIODS = ((7, "week"), (90, "quarter"))


class MovingClock:
    """Stands until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.at = now

    def now(self) -> datetime:
        return self.at

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


def requests_of(chance: random.Random, count: int, days_left: float) -> list[FinishedRequest]:
    """So many requests of one moment."""
    made: list[FinishedRequest] = []
    for _ in range(count):
        prompt, response = int(chance.lognormvariate(6, 1)), int(chance.lognormvariate(5, 1))
        generation_ms = max(1, int(response * chance.uniform(10, 40)))
        model = min(MODELS - 1, int(chance.paretovariate(0.8)) - 1)
        made.append(
            FinishedRequest(
                user_id=1 + min(USERS - 1, int(chance.paretovariate(0.6)) - 1),
                # A third of the models came or went in the meantime.
                model=f"model-{model if model % 3 else model + int(days_left > DAYS / 2)}:8b",
                endpoint=chance.choice(ENDPOINTS),
                prompt_tokens=prompt,
                response_tokens=response,
                duration_ms=generation_ms + 200,
                ttft_ms=chance.randint(30, 900),
                generation_ms=generation_ms,
                error="the upstream failed" if chance.random() < 0.02 else None,
                finish_reason="stop",
                stream=True,
                upstream="ollama",
                api_key_id=1,
            )
        )
    return made


def begin(folder: Path, clock: MovingClock) -> Store:
    """The books in a folder; where there are none, new ones with their users and a price for everything."""
    store = Store.open(folder, clock)
    with store.read() as connection:
        is_new = bool(people.never_made(connection, [1]))
    if is_new:
        for number in range(1, USERS + 1):
            store.write(lambda c, n=number: people.create_user(c, f"user{n}", None, is_admin=n == 1, now=clock.now()))
        for number in range(MODELS):
            CostCalculator(store).update_pricing(f"model-{number}", "0.0001", "0.0002")
    return store


def fill(folder: Path, requests: int) -> None:
    """Ninety days of requests."""
    clock = MovingClock(END - timedelta(days=DAYS + 1))
    chance = random.Random(7)
    with begin(folder, clock) as store:
        collector = MetricsCollector(store)
        written = 0
        for number in range(MOMENTS):
            days_left = DAYS * (1 - (number + 0.5) / MOMENTS)
            clock.at = END - timedelta(days=days_left)
            count = requests * (number + 1) // MOMENTS - written
            if count:
                collector.record_many(requests_of(chance, count, days_left))
                written += count


def write_speed(seconds: float) -> None:
    """How many requests a second are recorded when as many as can be are; the making of them is not counted."""
    chance = random.Random(8)
    with tempfile.TemporaryDirectory() as folder:
        clock = MovingClock(END)
        with begin(Path(folder) / "data", clock) as store:
            collector = MetricsCollector(store)
            for at_once in (1, 100, 1_000, 10_000):
                recorded, spent, worked = 0, 0.0, 0.0
                while spent < seconds:
                    many = requests_of(chance, at_once, 0)
                    clock.at += timedelta(milliseconds=at_once / 20)
                    began, cpu = time.perf_counter(), time.process_time()
                    collector.record_many(many)
                    spent += time.perf_counter() - began
                    worked += time.process_time() - cpu
                    recorded += at_once
                print(f"| {at_once} | {recorded / spent:,.0f} | {worked / recorded * 1e6:.0f} |")


def sizes(path: Path, requests: int) -> list[str]:
    """Bytes a request on disk, by what they are for."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    parts: dict[str, int] = {}
    for name, size in connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
        kind = "rollups" if name.startswith("rollup_") else "the rest"
        if name == "rollup_histograms":
            kind = "histograms"
        elif "llm_metrics" in name:
            kind = "ledger"
        elif name.startswith("idx_metrics"):
            kind = "its indexes"
        parts[kind] = parts.get(kind, 0) + size
    connection.close()
    return [f"{kind} {size / requests:.0f}" for kind, size in sorted(parts.items(), key=lambda part: -part[1])]


Ask = Callable[[], object]


def questions(store: Store, days: int, period: str, user: int | None) -> dict[str, Ask]:
    """Everything that a dashboard asks."""
    collector, costs = MetricsCollector(store), CostCalculator(store)
    asked: dict[str, Ask] = {
        "dashboard with percentiles": lambda: collector.get_dashboard_stats(user, days),
        "series by the hour": lambda: collector.get_time_series(user, days, "hour"),
        "series by the day": lambda: collector.get_time_series(user, days, "day"),
        "endpoints with percentiles": lambda: collector.get_endpoint_stats(user, days),
        "cost summary": lambda: costs.get_user_costs(user, period),
        "projection": lambda: costs.get_cost_projection(user, period),
    }
    if user is None:
        asked["everyone's costs by model"] = lambda: costs.get_all_users_costs(period)
    return asked


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds: of the first answer, the middle one, and the 99th of a hundred."""

    first: float
    median: float
    p99: float


def timed(ask: Ask, times: int, before: Callable[[], object]) -> Took:
    """Asks again and again."""
    took: list[float] = []
    for _ in range(times + 1):
        before()
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1000)
    first, *later = took
    return Took(first, statistics.median(later), sorted(later)[int(0.99 * (len(later) - 1))])


Answers = dict[tuple[str, str, int], Took]


def read_speed(folder: Path, times: int) -> Answers:
    """Every question by its name, whose, and days."""
    found: Answers = {}
    clock = MovingClock(END)
    chance = random.Random(9)
    for days, period in PERIODS:
        for whose, user in (("everybody", None), ("busiest user", 1)):
            with begin(folder, clock) as store:
                collector = MetricsCollector(store)

                def go_on(collector: MetricsCollector = collector) -> None:
                    clock.at += timedelta(seconds=1)
                    collector.record_many(requests_of(chance, 1, 0))

                for name, ask in questions(store, days, period, user).items():
                    found[name, whose, days] = timed(ask, times, go_on)
    return found


_COLUMNS = "created_at, model, error, cached, total_tokens, cost_nusd, duration_ms"
_SCAN = (
    "SELECT model, count(*), sum(CAST(error AS INTEGER)), sum(CAST(cached AS INTEGER)), sum(total_tokens),"
    " sum(cost_nusd), avg(duration_ms) FROM llm_metrics WHERE created_at >= '{since}' GROUP BY model"
)


def reference(folder: Path, times: int) -> Answers:
    """The same figures by model as plain SQL over every row of the window."""
    found: Answers = {}
    since = {days: f"{END - timedelta(days=days):%Y-%m-%d %H:%M:%S.000}" for days, _ in PERIODS}
    rows = sqlite3.connect(f"file:{folder / 'gemmapy.db'}?mode=ro", uri=True)
    for days, text in since.items():
        sql = _SCAN.format(since=text)
        found["plain SQL: SQLite", "everybody", days] = timed(lambda s=sql: rows.execute(s).fetchall(), times, int)
    with contextlib.suppress(ImportError):
        for days, ask in _duckdb(rows, since):
            found["plain SQL: DuckDB", "everybody", days] = timed(ask, times, int)
    rows.close()
    return found


def _duckdb(rows: sqlite3.Connection, since: dict[int, str]) -> Iterator[tuple[int, Ask]]:
    duckdb: Any = importlib.import_module("duckdb")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows.execute(f"SELECT {_COLUMNS} FROM llm_metrics"))
        database = duckdb.connect(str(Path(folder) / "rows.duckdb"))
        types = (
            "{'created_at': 'VARCHAR', 'model': 'VARCHAR', 'error': 'INTEGER', 'cached': 'INTEGER',"
            " 'total_tokens': 'BIGINT', 'cost_nusd': 'BIGINT', 'duration_ms': 'BIGINT'}"
        )
        database.execute(
            "CREATE TABLE llm_metrics AS SELECT * REPLACE (CAST(created_at AS TIMESTAMP) AS created_at)"
            f" FROM read_csv('{path}', header = false, columns = {types})"
        )
        for days, text in since.items():
            sql = _SCAN.format(since=text)
            yield days, lambda s=sql: database.execute(s).fetchall()
        database.close()


def show(found: dict[int, Answers]) -> None:
    """A table: for each size the first answer, the median and the 99th percentile; the growth of the median."""
    counts = list(found)
    heads = [f"{count:,}: first / p50 / p99" for count in counts]
    print("| question | whose | days | " + " | ".join(heads) + " | growth |")
    print("|---|---|---|" + "---|" * (len(counts) + 1))
    for key in found[counts[0]]:
        took = [found[count][key] for count in counts if key in found[count]]
        cells = [f"{one.first:.1f} / {one.median:.1f} / {one.p99:.1f}" for one in took]
        growth = took[-1].median / took[0].median
        print(f"| {key[0]} | {key[1]} | {key[2]} | " + " | ".join(cells) + f" | {growth:.1f} |")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.books", description=__doc__)
    parser.add_argument("--requests", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--times", type=int, default=50, help="how often each question is asked")
    parser.add_argument("--seconds", type=float, default=5, help="how long each way of writing is tried; 0: not")
    parser.add_argument("--data", type=Path, help="keep what is generated here, and use it again")
    asked = parser.parse_args(arguments)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python", end=" ")
    print(f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}\n")
    if asked.seconds:
        print("| requests at once | recorded a second, durable | CPU µs a request |\n|---|---|---|")
        write_speed(asked.seconds)
    found: dict[int, Answers] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for requests in asked.requests:
            folder = (asked.data or Path(scratch)) / str(requests)
            done = folder / "filled"
            if not done.exists():
                began = time.perf_counter()
                fill(folder, requests)
                done.touch()
                print(f"\n{requests:,} requests generated and written in {time.perf_counter() - began:,.0f} s", end="")
            path = folder / "gemmapy.db"
            parts = ", ".join(sizes(path, requests))
            print(f"\n{requests:,} requests: {path.stat().st_size / requests:.0f} bytes each on disk ({parts})")
            found[requests] = {**read_speed(folder, asked.times), **reference(folder, 3)}
    print()
    show(found)


if __name__ == "__main__":
    main()
