"""Any series of any window in any time zone is what somebody finds who looks at every request."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy import MetricsCollector
from gemmapy.core.periods import Window, bucket_text
from gemmapy.storage import people
from gemmapy.storage.store import Store

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
"""With whole hours, daylight saving, quarters, half an hour of daylight saving, and a day that never was."""
FIRST = datetime(2026, 10, 20, tzinfo=UTC)
"""Clocks go back in Berlin on the 25th, in New York on November 1st."""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[MetricsCollector, list[datetime]]]:
    """Three hundred requests over sixteen days, at odd moments."""
    clock = FixedClock(FIRST)
    folder: Path = tmp_path_factory.mktemp("zones") / "data"
    moments: list[datetime] = []
    with Store.open(folder, clock) as store:
        store.write(lambda c: people.create_user(c, "ada", None, is_admin=True, now=clock.now()))
        collector = MetricsCollector(store)
        for number in range(300):
            collector.record(1, "llama3", "/x", prompt_tokens=number, response_tokens=1, duration_ms=10)
            moments.append(clock.now())
            clock.go_on(minutes=17 + number * 7 % 120, milliseconds=number * 37 % 1000)
        yield collector, moments


@settings(max_examples=60, deadline=None)
@given(
    start=st.timedeltas(timedelta(0), timedelta(days=15)),
    length=st.timedeltas(timedelta(seconds=1), timedelta(days=10)),
    zone=st.sampled_from(ZONES),
    interval=st.sampled_from(["hour", "day", "week"]),
    fill=st.booleans(),
)
def test_a_series_is_a_scan(
    used: tuple[MetricsCollector, list[datetime]],
    start: timedelta,
    length: timedelta,
    zone: str,
    interval: str,
    fill: bool,
) -> None:
    collector, moments = used
    begin = (FIRST + start).replace(microsecond=0)
    window = Window(begin, begin + length)
    told = collector.get_time_series(interval=interval, window=window, tz=zone, fill=fill)["data"]
    # By the bucket's name and whether it is the second one of that name, when clocks go back.
    scanned = Counter(
        (bucket_text(local, interval), local.fold if interval == "hour" else 0)
        for moment in moments
        if window.start <= moment < window.end
        for local in [moment.astimezone(ZoneInfo(zone))]
    )
    shown: Counter[tuple[str, int]] = Counter()
    for bucket in told:
        local = datetime.fromisoformat(bucket["start"]).astimezone(ZoneInfo(zone))
        shown[bucket["time_bucket"], local.fold if interval == "hour" else 0] += bucket["requests"]
    assert +shown == scanned
    starts = [datetime.fromisoformat(bucket["start"]) for bucket in told]
    assert starts == sorted(set(starts))
    if fill:
        assert starts[0] <= window.start < window.end
        assert all(later > earlier for earlier, later in itertools.pairwise(starts))
