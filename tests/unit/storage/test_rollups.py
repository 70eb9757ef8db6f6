"""Rollups are what the ledger says: in any window, after anything that can happen to it."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock
from tests.support.quick import few_or_many

from gemmapy import MetricsCollector
from gemmapy.core.ids import RequestIds
from gemmapy.core.periods import Window
from gemmapy.core.records import Intent
from gemmapy.metrics.histogram import percentiles
from gemmapy.metrics.measures import Sums
from gemmapy.metrics.windows import GRAINS, Cut, Edge
from gemmapy.storage import figures, people, recount, revisions, rollups, spending
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
        "project_id": st.none() | st.sampled_from([7, 8]),
    }
)
STEP = st.one_of(
    st.tuples(st.just("record"), RECORD),
    st.tuples(st.just("rate"), st.tuples(st.integers(0, 30), st.sampled_from([-1, 0, 1]))),
    st.tuples(st.just("wait"), st.sampled_from([1, 400, 901, 4_000, 20_000, 90_000, -1, -5_000, -100_000])),
    st.tuples(st.just("ask"), st.none()),
    st.tuples(st.just("another process"), RECORD),
    st.tuples(st.just("crash"), st.none()),
)


def everything(store: Store) -> list[Any]:
    """Every difference of every day."""
    with store.read() as connection:
        return [d for day in recount.days_of_ledger(connection) for d in recount.differences(connection, day)]


BYS: tuple[figures.By, ...] = ("all", "model", "endpoint", "user", "project", "quarter", "hour", "day")
HISTOGRAM_BYS: tuple[figures.HistogramBy, ...] = ("all", "model", "endpoint", "quarter", "hour", "day")
FILTERS = (
    Filter(),
    Filter(user_id=1),
    Filter(model="phi"),
    Filter(user_id=2, endpoint="/api/chat"),
    Filter(project_id=7),
    Filter(user_id=1, project_id=8, model="llama3:8b", endpoint="/api/chat"),
)
SOME_COLUMNS = ("requests", "total_nusd", "prompt_tokens")
Answers = dict[str, Any]


def answers(store: Store, window: Window) -> Answers:
    """Everything that can be asked of a window."""
    found: Answers = {}
    with store.read() as connection:
        for which in FILTERS:
            for by in BYS:
                found[f"{by} {which}"] = figures.sums(connection, window, by, which)
            found[f"spending {which}"] = figures.sums(connection, window, "model", which, SOME_COLUMNS)
            for by in HISTOGRAM_BYS:
                found[f"histograms {by} {which}"] = figures.histograms(connection, window, by, which)
        spent = spending.by_user_and_model(connection, window)
        found["spent"] = {
            user: {model: tuple(one.numbers) for model, one in of.models.items()} for user, of in spent.items()
        }
    return found


def scanned(store: Store, window: Window, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """The same questions answered by the ledger alone."""
    with monkeypatch.context() as patched:
        patched.setattr(figures, "cut", lambda asked, *_: Cut((), (Edge(asked),)))
        return answers(store, window)


@few_or_many(6, 100)
def test_any_window_after_anything_is_a_scan_of_the_ledger(examples: int) -> None:
    check = given(
        steps=st.lists(STEP, max_size=25),
        back=st.timedeltas(timedelta(0), timedelta(days=4)),
        length=st.timedeltas(timedelta(seconds=1), timedelta(days=4)),
    )(window_is_a_scan)
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    settings(max_examples=examples, deadline=None, phases=phases)(check)()


def window_is_a_scan(steps: list[Any], back: timedelta, length: timedelta) -> None:
    clock = FixedClock()
    ids = RequestIds()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        store = Store.open(Path(folder) / "d", clock)
        other = Store.open(Path(folder) / "d", clock)
        for name in ("ada", "bob"):
            store.write(lambda c, n=name: people.create_user(c, n, None, is_admin=True, now=clock.now()))
        collector, beside = MetricsCollector(store), MetricsCollector(other)
        recorded: list[int] = []
        for kind, what in steps:
            if kind == "record":
                recorded.append(collector.record(**what))
            elif kind == "another process":
                recorded.append(beside.record(**what))
            elif kind == "rate" and recorded:
                collector.update_rating(recorded[what[0] % len(recorded)], what[1])
            elif kind == "wait":
                clock.go_on(seconds=what)
            elif kind == "ask":  # so that what is remembered has to be told from what changed
                answers(store, Window(clock.now() - length, clock.now() + timedelta(seconds=1)))
            elif kind == "crash":
                lost = Intent(ids.new(), 1, "llama2", "/api/chat", clock.now(), prompt_estimate=5)
                store.write(lambda c, i=lost: rollups_of_a_crash(c, i))
                store.close()
                store = Store.open(Path(folder) / "d", clock)
                store.recover()
                collector = MetricsCollector(store)
        assert everything(store) == []
        for end in (clock.now() + timedelta(seconds=1), clock.now() - back):
            window = Window(end - length, end)
            expected = scanned(store, window, monkeypatch)
            assert answers(store, window) == expected
            assert answers(store, window) == expected  # as remembered
        other.close()
        store.close()


def rollups_of_a_crash(connection: Any, intent: Intent) -> None:
    """A row in flight of a writer that is gone."""
    from gemmapy.storage import ledger

    ledger.write(connection, 200, [(intent, 200)], [], intent.started_at)


@pytest.fixture
def used(store: Store, clock: FixedClock) -> Store:
    """Forty requests over two days."""
    collector = MetricsCollector(store)
    for number in range(40):
        collector.record(
            1 + number % 2,
            ("llama2", "phi")[number % 2],
            "/x",
            response_tokens=number,
            duration_ms=100 + 7 * number,
            project_id=7,
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
        assert percentiles(bins[None][0], (share,)) == [pytest.approx(durations[int(share * 39)], rel=0.01)]
    assert percentiles(by_model["phi"][0], (0,)) == [pytest.approx(107, rel=0.01)]


TABLES = [(rollup.table.name, grain) for rollup in rollups.ROLLUPS for grain in rollup.grains]


@pytest.mark.parametrize(("table", "grain"), [pair for pair in TABLES if pair != ("rollup_spending", 3600)])
def test_a_difference_is_found_named_and_repaired(used: Store, table: str, grain: int) -> None:
    last = f"(SELECT max(bucket) FROM {table} WHERE grain = {grain})"
    where = f"WHERE grain = {grain} AND bucket = {last}"
    used.write(lambda c: c.exec_driver_sql(f"UPDATE {table} SET requests = requests + 5 {where}"))
    found = everything(used)
    assert found
    assert {difference.table for difference in found} == {table}
    assert all(abs((difference.rollup or 0) - (difference.ledger or 0)) % 5 == 0 for difference in found)
    used.write(recount.rebuild)
    assert everything(used) == []


def test_a_histogram_that_is_wrong_is_found_and_repaired(used: Store) -> None:
    used.write(lambda c: c.exec_driver_sql("UPDATE rollup_histograms SET bins = x'00' WHERE scope = 1"))
    assert {difference.table for difference in everything(used)} == {"rollup_histograms"}
    used.write(recount.rebuild)
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
        for grain in GRAINS:
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
        before = list(recount.contents_of_day(connection, day))
    assert {table for table, _, _ in before} >= {"rollup_totals", "rollup_users", "rollup_histograms"}
    used.write(lambda c: recount.rebuild(c, day))
    with used.read() as connection:
        assert list(recount.contents_of_day(connection, day)) == before


def test_two_writers_add_up(used: Store, clock: FixedClock) -> None:
    with Store.open(used.data_dir, clock) as other:
        assert other.slot != used.slot
        for store in (used, other):
            MetricsCollector(store).record(1, "llama2", "/x", response_tokens=1, duration_ms=1)
    assert everything(used) == []
    with used.read() as connection:
        both = connection.exec_driver_sql("SELECT count(DISTINCT writer) FROM rollup_totals").scalar()
    assert both == 2 + 1  # and what one of them folded
