"""A window in pieces: nothing twice, nothing left out, and no long scans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.periods import Window
from gemmapy.metrics.windows import GRAINS, QUARTER_S, QUARTERS_ONLY, SPELL_S, cut

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 60 * 86_400_000).map(lambda since_ms: BEGIN + timedelta(milliseconds=since_ms))


@given(MOMENTS, st.integers(0, 10 * 86_400_000), st.booleans())
def test_the_pieces_put_together_are_the_window(start: datetime, length_ms: int, days: bool) -> None:
    length = timedelta(milliseconds=length_ms)
    window = Window(start, start + length)
    pieces = cut(window, GRAINS if days else QUARTERS_ONLY)
    spans = [(datetime.fromtimestamp(s.start, UTC), datetime.fromtimestamp(s.end, UTC)) for s in pieces.spans]
    ordered = sorted([*spans, *((edge.start, edge.end) for edge in pieces.edges)])
    if length:
        assert ordered[0][0] == window.start
        assert ordered[-1][1] == window.end
    for (_, end), (begin, _) in pairwise(ordered):
        assert end == begin
    for span in pieces.spans:
        assert span.start % span.grain == span.end % span.grain == 0
        assert days or span.grain == QUARTER_S
    for edge in pieces.edges:
        assert edge.end - edge.start < timedelta(seconds=2 * QUARTER_S)


@given(MOMENTS)
def test_long_windows_are_days_in_the_middle(start: datetime) -> None:
    pieces = cut(Window(start, start + timedelta(days=90)))
    assert sum(span.end - span.start for span in pieces.spans if span.grain == SPELL_S) >= 4 * SPELL_S
    assert sum((span.end - span.start) // span.grain for span in pieces.spans) <= 5 + 2 * 15 + 2 * 95
