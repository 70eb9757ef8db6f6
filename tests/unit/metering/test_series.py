"""Series in anybody's time zone: days of 23 and 25 hours, quarter-hour zones, and buckets without requests."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.clock import FixedClock

from gemmapy import MetricsCollector
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.periods import Window, between, bucket_starts, time_zone
from gemmapy.storage import people
from gemmapy.storage.figures import Filter
from gemmapy.storage.store import Store

SPRING = datetime(2026, 3, 28, 23, tzinfo=UTC)  # midnight of the 29th in Berlin, whose night has no 2 o'clock
AUTUMN = datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight of the 25th, whose night has it twice


@pytest.mark.parametrize(("start", "hours"), [(SPRING, 23), (AUTUMN, 25)])
def test_a_day_has_as_many_hours_as_it_has(start: datetime, hours: int) -> None:
    berlin = time_zone("Europe/Berlin")
    day = Window(start, start + timedelta(hours=hours))
    assert len(list(bucket_starts(day, "hour", berlin))) == hours
    assert len(list(bucket_starts(day, "day", berlin))) == 1
    assert len(list(bucket_starts(Window(start, start + timedelta(hours=hours + 24)), "day", berlin))) == 2


@pytest.fixture
def collector(tmp_path: Path) -> Generator[MetricsCollector]:
    """One request every half hour through the night in which clocks go back."""
    clock = FixedClock(AUTUMN)
    with Store.open(tmp_path / "night", clock) as store:
        store.write(lambda c: people.create_user(c, "ada", None, is_admin=True, now=clock.now()))
        made = MetricsCollector(store)
        for _ in range(12):
            made.record(1, "llama3", "/x", prompt_tokens=1000, duration_ms=10)
            clock.go_on(minutes=30)
        yield made


def test_the_hour_that_comes_twice_is_two_buckets(collector: MetricsCollector) -> None:
    window = Window(AUTUMN, AUTUMN + timedelta(hours=6))
    data = collector.get_time_series(window=window, interval="hour", tz="Europe/Berlin")["data"]
    assert [bucket["time_bucket"][11:13] for bucket in data] == ["00", "01", "02", "02", "03", "04"]
    assert {bucket["requests"] for bucket in data} == {2}
    assert [data[2]["start"], data[3]["start"]] == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]


def test_kathmandus_hours_begin_a_quarter_past(collector: MetricsCollector) -> None:
    window = Window(AUTUMN, AUTUMN + timedelta(hours=6))
    data = collector.get_time_series(window=window, interval="hour", tz="Asia/Kathmandu")["data"]
    # 22:00 UTC is 3:45: only what came by 3:59 is in its hour.
    assert [bucket["requests"] for bucket in data] == [1, 2, 2, 2, 2, 2, 1]
    assert data[0]["time_bucket"] == "2026-10-25 03:00:00"


def test_gaps_are_filled_where_asked(collector: MetricsCollector) -> None:
    window = Window(AUTUMN - timedelta(days=2), AUTUMN + timedelta(days=2))
    sparse = collector.get_time_series(window=window, interval="day")["data"]
    filled = collector.get_time_series(window=window, interval="day", fill=True)["data"]
    assert [bucket["requests"] for bucket in sparse] == [4, 8]
    assert [bucket["requests"] for bucket in filled] == [0, 0, 4, 8, 0]
    assert sum(bucket["cost"] for bucket in filled) == pytest.approx(12 * 0.00015)


def test_patterns_are_by_the_hour_of_the_week(collector: MetricsCollector) -> None:
    window = Window(AUTUMN - timedelta(days=7), AUTUMN + timedelta(days=1))
    hours = collector.get_usage_patterns(window=window, tz="Europe/Berlin")["hours"]
    assert len(hours) == 7 * 24
    used = {(hour["weekday"], hour["hour"]): hour["requests"] for hour in hours if hour["requests"]}
    assert used == {(6, 0): 2, (6, 1): 2, (6, 2): 4, (6, 3): 2, (6, 4): 2}  # Sunday, its 2 o'clock twice


def test_filters_narrow_every_figure(collector: MetricsCollector) -> None:
    window = Window(AUTUMN, AUTUMN + timedelta(hours=6))
    for which, requests in (
        (Filter(model="llama3"), 12),
        (Filter(model="phi"), 0),
        (Filter(endpoint="/x"), 12),
        (Filter(user_id=1, model="llama3"), 12),
        (Filter(status=200), 12),
        (Filter(status=500), 0),
        (Filter(api_key_id=3), 0),
        (Filter(project_id=3), 0),
    ):
        assert collector.get_dashboard_stats(window=window, which=which)["total_requests"] == requests, which
        series = collector.get_time_series(window=window, which=which)["data"]
        assert sum(bucket["requests"] for bucket in series) == requests, which
        assert len(collector.get_requests(window=window, which=which)["requests"]) == requests, which


def test_the_log_is_read_page_by_page_and_every_request_once(collector: MetricsCollector) -> None:
    seen: list[int] = []
    before: int | None = None
    while True:
        page = collector.get_requests(limit=5, before=before)
        seen += [entry["id"] for entry in page["requests"]]
        before = page["next"]
        if before is None:
            break
    assert seen == list(range(12, 0, -1))
    entry = page["requests"][-1]
    assert (entry["username"], entry["model"], entry["cost"]) == ("ada", "llama3", 0.00015)


@pytest.mark.parametrize("tz", ["Mars/Olympus", "", "../etc/passwd", "x" * 100])
def test_an_unknown_zone_is_refused(collector: MetricsCollector, tz: str) -> None:
    with pytest.raises(InvalidRequest, match="such as Europe/Berlin"):
        collector.get_time_series(tz=tz)


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (AUTUMN, AUTUMN, "from must be before to"),
        (AUTUMN, AUTUMN + timedelta(days=9999), "at most 3660 days"),
        (AUTUMN.replace(tzinfo=None), AUTUMN.replace(tzinfo=None), "must have a time zone"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused(start: datetime, end: datetime, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        between(start, end)
