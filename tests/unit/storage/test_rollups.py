"""Rollups are what the ledger says: in any window, after anything that can happen to it."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy import MetricsCollector
from gemmapy.core.ids import RequestIds
from gemmapy.core.periods import Window
from gemmapy.core.records import Intent
from gemmapy.metrics.histogram import percentile
from gemmapy.metrics.measures import Sums
from gemmapy.metrics.windows import Cut
from gemmapy.storage import figures, people, revisions, rollups
from gemmapy.storage.figures import Filter
from gemmapy.storage.store import Store

RECORD = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from([1, 2]),
        "model": st.sampled_from(["llama2", "llama3:8b", "phi"]),
        "endpoint": st.sampled_from(["/api/chat", "/v1/chat/completions"]),
        "prompt_tokens": st.none() | st.integers(0, 10_000),
        "response_tokens": st.none() | st.integers(0, 10_000),
        "duration_ms": st.none() | st.integers(0, 10**6),
        "ttft_ms": st.none() | st.integers(0, 10**5),
        "error": st.none() | st.just("no"),
        "cached": st.booleans(),
        "estimated": st.booleans(),
        "project_id": st.none() | st.just(7),
    }
)
STEP = st.one_of(
    st.tuples(st.just("record"), RECORD),
    st.tuples(st.just("rate"), st.tuples(st.integers(0, 30), st.sampled_from([-1, 0, 1]))),
    st.tuples(st.just("wait"), st.sampled_from([1, 400, 901, 20_000, 90_000])),
    st.tuples(st.just("crash"), st.none()),
)


def everything(store: Store) -> list[Any]:
    """Every difference of every day."""
    with store.read() as connection:
        return [d for day in rollups.days_of_ledger(connection) for d in rollups.differences(connection, day)]


def scanned(store: Store, window: Window, by: Any, which: Filter, monkeypatch: Any) -> dict[Any, Sums]:
    """The same question answered by the ledger alone."""
    with monkeypatch.context() as patched, store.read() as connection:
        patched.setattr(figures, "cut", lambda asked, *_: Cut((), (asked,)))
        return figures.sums(connection, window, by, which)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(STEP, max_size=25),
    back=st.timedeltas(timedelta(0), timedelta(days=4)),
    length=st.timedeltas(timedelta(seconds=1), timedelta(days=4)),
)
def test_any_window_after_anything_is_a_scan_of_the_ledger(
    steps: list[Any], back: timedelta, length: timedelta
) -> None:
    clock = FixedClock()
    ids = RequestIds()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        store = Store.open(Path(folder) / "d", clock)
        for name in ("ada", "bob"):
            store.write(lambda c, n=name: people.create_user(c, n, None, is_admin=True, now=clock.now()))
        collector = MetricsCollector(store)
        recorded: list[int] = []
        for kind, what in steps:
            if kind == "record":
                recorded.append(collector.record(**what))
            elif kind == "rate" and recorded:
                collector.update_rating(recorded[what[0] % len(recorded)], what[1])
            elif kind == "wait":
                clock.go_on(seconds=what)
            elif kind == "crash":
                lost = Intent(ids.new(), 1, "llama2", "/api/chat", clock.now(), prompt_estimate=5)
                store.write(lambda c, i=lost: rollups_of_a_crash(c, i))
                store.close()
                store = Store.open(Path(folder) / "d", clock)
                store.recover()
                collector = MetricsCollector(store)
        assert everything(store) == []
        window = Window(clock.now() - back - length, clock.now() - back + timedelta(seconds=1))
        for by in ("all", "model", "endpoint", "user", "project", "quarter", "day"):
            for which in (Filter(), Filter(user_id=1), Filter(model="phi"), Filter(user_id=2, endpoint="/api/chat")):
                with store.read() as connection:
                    answered = figures.sums(connection, window, by, which)
                assert answered == scanned(store, window, by, which, monkeypatch)
        store.close()


def rollups_of_a_crash(connection: Any, intent: Intent) -> None:
    """A row in flight of a writer that is gone."""
    from gemmapy.storage import ledger

    ledger.write(connection, 200, [intent], [], intent.started_at)


@pytest.fixture
def used(store: Store, clock: FixedClock) -> Store:
    """Forty requests over two days."""
    collector = MetricsCollector(store)
    for number in range(40):
        collector.record(
            1 + number % 2, ("llama2", "phi")[number % 2], "/x", response_tokens=number, duration_ms=100 + 7 * number
        )
        clock.go_on(minutes=71)
    return store


def test_percentiles_from_rollups_are_those_of_the_ledger_within_1_percent(used: Store, clock: FixedClock) -> None:
    window = Window(clock.now() - timedelta(days=3), clock.now())
    with used.read() as connection:
        bins = figures.histograms(connection, window, "all")
        by_model = figures.histograms(connection, window, "model")
    durations = sorted(100 + 7 * number for number in range(40))
    for share in (0.5, 0.9, 0.99):
        assert percentile(bins[None, "duration_ms"], share) == pytest.approx(durations[int(share * 39)], rel=0.01)
    assert percentile(by_model["phi", "duration_ms"], 0) == pytest.approx(107, rel=0.01)


@pytest.mark.parametrize("table", ["rollup_totals", "rollup_models", "rollup_users"])
@pytest.mark.parametrize("grain", [900, 86_400, 16 * 86_400])
def test_a_difference_is_found_named_and_repaired(used: Store, table: str, grain: int) -> None:
    last = f"(SELECT max(bucket) FROM {table} WHERE grain = {grain})"
    where = f"WHERE grain = {grain} AND bucket = {last}"
    used.write(lambda c: c.exec_driver_sql(f"UPDATE {table} SET total_tokens = total_tokens + 5 {where}"))
    found = everything(used)
    assert found
    assert {difference.table for difference in found} == {table}
    assert all(abs((difference.rollup or 0) - (difference.ledger or 0)) % 5 == 0 for difference in found)
    used.write(rollups.rebuild)
    assert everything(used) == []


def test_a_histogram_that_is_wrong_is_found_and_repaired(used: Store) -> None:
    used.write(lambda c: c.exec_driver_sql("UPDATE rollup_histograms SET bins = x'' WHERE scope = 'model'"))
    assert {difference.table for difference in everything(used)} == {"rollup_histograms"}
    used.write(rollups.rebuild)
    assert everything(used) == []


def test_a_row_of_the_ledger_that_is_missing_is_found(used: Store) -> None:
    used.write(lambda c: c.exec_driver_sql("DELETE FROM llm_metrics WHERE id = 3"))
    assert {difference.ledger for difference in everything(used) if difference.column == "requests"} >= {None}


def revision(store: Store) -> int:
    with store.read() as connection:
        return revisions.current(connection).get(rollups.BOOKS, 0)


def test_a_late_change_is_added_in_every_grain_and_told_by_the_revision(used: Store, clock: FixedClock) -> None:
    before = revision(used)
    moment = clock.now() - timedelta(days=1)
    window = Window(clock.now() - timedelta(days=30), clock.now() + timedelta(seconds=1))
    with used.read() as connection:
        old = figures.sums(connection, window, "user")[1]
    deltas = {"total_nusd": 5, "unpriced_requests": -1}
    used.write(lambda c: rollups.adjust(c, used.slot, moment, rollups.Keys(1, "llama2", "/x", None), deltas))
    with used.read() as connection:
        for grain in (900, 86_400, 16 * 86_400):
            rows = f"SELECT sum(total_nusd) FROM rollup_totals WHERE grain = {grain}"
            assert connection.exec_driver_sql(rows).scalar() == sum_of_ledger(used) + 5
        new = figures.sums(connection, window, "user")[1]
    assert new == old + Sums(total_nusd=5, unpriced_requests=-1)
    assert revision(used) == before + 1


def sum_of_ledger(store: Store) -> int:
    with store.read() as connection:
        return connection.exec_driver_sql("SELECT sum(cost_nusd) FROM llm_metrics").scalar() or 0


def test_what_rollups_say_of_a_day_does_not_depend_on_who_wrote_it(used: Store, clock: FixedClock) -> None:
    day = int(clock.now().timestamp()) // 86_400 * 86_400 - 86_400
    with used.read() as connection:
        before = list(rollups.contents_of_day(connection, day))
    assert {table for table, _, _ in before} >= {"rollup_totals", "rollup_users", "rollup_histograms"}
    used.write(lambda c: rollups.rebuild(c, day))
    with used.read() as connection:
        assert list(rollups.contents_of_day(connection, day)) == before


def test_two_writers_add_up(used: Store, clock: FixedClock) -> None:
    with Store.open(used.data_dir, clock) as other:
        assert other.slot != used.slot
        for store in (used, other):
            MetricsCollector(store).record(1, "llama2", "/x", response_tokens=1, duration_ms=1)
    assert everything(used) == []
    with used.read() as connection:
        both = connection.exec_driver_sql("SELECT count(DISTINCT writer) FROM rollup_totals").scalar()
    assert both == 2
