"""A window in pieces: every moment once, none outside, and as few pieces as there can be."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gemmapy.core.periods import Window
from gemmapy.metrics.windows import DAY_S, GRAINS, HOUR_S, QUARTER_S, SPELL_S, Cut, Extent, cut

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LENGTH_MS = 60 * 86_400_000
MOMENTS = st.integers(0, LENGTH_MS).map(lambda since_ms: BEGIN + timedelta(milliseconds=since_ms))
SETS = st.sampled_from([GRAINS, (QUARTER_S,), (HOUR_S, DAY_S, SPELL_S), (QUARTER_S, HOUR_S), (QUARTER_S, DAY_S)])


def _counted(pieces: Cut, moment: datetime, grains: tuple[int, ...], extent: Extent) -> int:
    """How often a request of that moment is counted: it is in the finest bucket, and once folded in all others."""
    second = int(moment.timestamp())
    times = sum(edge.sign for edge in pieces.edges if edge.window.start <= moment < edge.window.end)
    for span in pieces.spans:
        assert span.start % span.grain == span.end % span.grain == 0
        assert span.grain in grains
        is_there = span.grain == grains[0] or second < extent.folded_until
        times += span.sign if is_there and span.start <= second < span.end else 0
    return times


@given(MOMENTS, MOMENTS, st.lists(MOMENTS, min_size=1, max_size=30), SETS, st.booleans())
def test_every_request_in_the_window_counts_once_and_no_other(
    start: datetime, end: datetime, requests: list[datetime], grains: tuple[int, ...], retired: bool
) -> None:
    assume(start < end)
    seconds = [int(moment.timestamp()) for moment in requests]
    extent = Extent(
        folded_until=max(seconds) // HOUR_S * HOUR_S,
        first=min(seconds) // QUARTER_S * QUARTER_S,
        last=max(seconds) // QUARTER_S * QUARTER_S,
        last_at=None if retired else max(requests),
    )
    pieces = cut(Window(start, end), grains, extent)
    for moment in requests:
        assert _counted(pieces, moment, grains, extent) == (start <= moment < end)
    broken = Counter[int]()
    for edge in pieces.edges:
        broken[edge.sign] += (edge.window.end - edge.window.start) // timedelta(milliseconds=1)
    assert sum(broken.values()) <= max(grains[0], QUARTER_S) * 1000 or not pieces.spans


@pytest.mark.parametrize("hour", range(24))
def test_the_last_ninety_days_are_few_buckets_and_one_broken_edge(hour: int) -> None:
    now = datetime(2026, 11, 24, hour, 7, 30, tzinfo=UTC)
    seconds = int(now.timestamp())
    extent = Extent(seconds // HOUR_S * HOUR_S, seconds - 400 * DAY_S, seconds // QUARTER_S * QUARTER_S, now)
    pieces = cut(Window(now - timedelta(days=90), now + timedelta(seconds=1)), GRAINS, extent)
    buckets = Counter[int]()
    for span in pieces.spans:
        buckets[span.grain] += (span.end - span.start) // span.grain
    assert buckets[QUARTER_S] <= 2 + 1
    assert buckets[HOUR_S] <= 12
    assert buckets[DAY_S] <= 8
    assert buckets[SPELL_S] <= 7
    assert len(pieces.edges) == 1
    assert pieces.edges[0].window.end - pieces.edges[0].window.start <= timedelta(seconds=QUARTER_S / 2)


def test_where_nothing_was_ever_recorded_nothing_is_read() -> None:
    assert cut(Window(BEGIN, BEGIN + timedelta(days=9)), GRAINS, Extent()) == Cut((), ())


def test_a_window_around_everything_has_no_edges() -> None:
    first = int(BEGIN.timestamp())
    extent = Extent(first + 5 * HOUR_S, first, first + 5 * HOUR_S + QUARTER_S, BEGIN + timedelta(hours=5, minutes=20))
    pieces = cut(Window(BEGIN - timedelta(seconds=7), BEGIN + timedelta(days=3, seconds=7)), GRAINS, extent)
    assert pieces.edges == ()
    assert sum((span.end - span.start) // span.grain for span in pieces.spans) <= 3
