"""Readers and writers at the same time: nobody waits for a reader, and everybody sees books that balance."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.metering.audit import Audit, audit
from gemmapy.storage.store import Store


def test_a_reader_that_takes_its_time_blocks_no_writer_and_sees_one_moment(store: Store) -> None:
    collector = MetricsCollector(store)
    collector.record(1, "llama3", "/x", prompt_tokens=1)
    count = "SELECT count(*) FROM llm_metrics"
    with store.read() as connection:
        assert connection.exec_driver_sql(count).scalar() == 1
        for _ in range(20):
            collector.record(1, "llama3", "/x", prompt_tokens=1)  # each is on disk before the reader has gone
        assert connection.exec_driver_sql(count).scalar() == 1
    with store.read() as connection:
        assert connection.exec_driver_sql(count).scalar() == 21


def test_writers_of_two_processes_and_readers_at_once_agree_to_the_last_request(
    store: Store, clock: FixedClock
) -> None:
    """Two open stores hold two writer slots, as two processes do."""
    done = threading.Event()
    seen: list[tuple[int, int]] = []

    def read() -> None:
        collector, costs = MetricsCollector(store), CostCalculator(store)
        while not done.is_set():
            before = collector.get_dashboard_stats()["total_requests"]
            by_model = sum(line["request_count"] for line in costs.get_user_costs(None)["breakdown"])
            seen.append((before, by_model))

    with Store.open(store.data_dir, clock) as other, ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(2)]

        def write(where: Store) -> None:
            collector = MetricsCollector(where)
            for number in range(25):
                collector.record(1 + number % 2, "llama3", "/x", prompt_tokens=number, duration_ms=number)

        for future in [pool.submit(write, where) for where in (store, other) * 3]:
            future.result()
        done.set()
        for reader in readers:
            reader.result()
        assert list(audit(store, Audit())) == []
    assert MetricsCollector(store).get_dashboard_stats()["total_requests"] == 150
    assert all(earlier <= later for earlier, later in seen), "a later question never knows of fewer"
