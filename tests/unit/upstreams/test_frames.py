"""Frames: the same however the stream is cut, and never more than the limit in memory."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.errors import UpstreamError
from gemmapy.upstreams.frames import NdjsonDecoder, SseDecoder, sse_data

SSE = b'data: {"a":1}\n\n: ping\n\ndata: one\r\ndata: two\r\n\r\nevent: x\ndata: [DONE]\n\n'
NDJSON = b'{"a":1}\n\n{"b":"\\n"}\r\n{"c":2}\n'


def _fed(decoder: NdjsonDecoder | SseDecoder, stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    frames: list[bytes] = []
    start = 0
    for end in ends:
        frames += decoder.feed(stream[start:end])
        start = end
    return frames


@given(st.lists(st.integers(min_value=0, max_value=200)))
def test_frames_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    assert _fed(SseDecoder(), SSE, cuts) == SseDecoder().feed(SSE)
    assert _fed(NdjsonDecoder(), NDJSON, cuts) == NdjsonDecoder().feed(NDJSON)


PIECES = [b"\n", b"\r", b"\r\n", b"data: x", b"data:", b": ", b"{}", b"\x00", b"\xef\xbb\xbf", b"\xff"]
ANYTHING = st.binary(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


@given(ANYTHING, st.lists(st.integers(min_value=0, max_value=200)))
def test_any_bytes_cut_anywhere_are_the_same_frames_and_nothing_is_lost(stream: bytes, cuts: list[int]) -> None:
    for kind in (NdjsonDecoder, SseDecoder):
        decoder, whole = kind(), kind()
        frames = _fed(decoder, stream, cuts)
        assert frames == whole.feed(stream)
        assert decoder.rest == whole.rest
        assert b"".join(frames) + decoder.rest == stream
        for frame in frames:
            sse_data(frame)


@given(ANYTHING, st.integers(1, 30), st.lists(st.integers(min_value=0, max_value=200)))
def test_no_more_is_held_than_the_limit(stream: bytes, limit: int, cuts: list[int]) -> None:
    for kind in (NdjsonDecoder, SseDecoder):
        decoder = kind(limit)
        try:
            _fed(decoder, stream, cuts)
        except UpstreamError:
            continue
        assert len(decoder.rest) <= limit


@pytest.mark.parametrize("kind", [NdjsonDecoder, SseDecoder])
def test_a_frame_that_comes_byte_by_byte_is_looked_at_once(kind: type[NdjsonDecoder | SseDecoder]) -> None:
    """Not once for each byte of it, which would be minutes of a processor for one frame of a megabyte."""
    decoder = kind(limit=2_000_000)
    began = time.process_time()
    for _ in range(200_000):
        assert decoder.feed(b"x") == []
    assert time.process_time() - began < 5
    assert len(decoder.rest) == 200_000


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r:", [b"a", b"b"]),
        (b"data: a\r\r\ndata: b\n\r\n", [b"a", b"b"]),
        (b"data: a\n\rdata: b\r\n\n", [b"a", b"b"]),
        (b"data: a\r\n\rdata: b\r\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\r\ndata: c\rdata: d\n\n", [b"a\nb\nc\nd"]),
    ],
)
def test_lines_end_in_any_of_the_three_ways(stream: bytes, events: list[bytes]) -> None:
    assert [sse_data(frame) for frame in SseDecoder().feed(stream)] == events


def test_the_data_of_an_event() -> None:
    assert [sse_data(frame) for frame in SseDecoder().feed(SSE)] == [b'{"a":1}', None, b"one\ntwo", b"[DONE]"]
    assert sse_data(b"data:tight\n\n") == b"tight"


@pytest.mark.parametrize("kind", [NdjsonDecoder, SseDecoder])
def test_a_frame_past_the_limit_is_refused(kind: type[NdjsonDecoder | SseDecoder]) -> None:
    decoder = kind(limit=10)
    decoder.feed(b"12345")
    with pytest.raises(UpstreamError, match="more than 10 bytes"):
        decoder.feed(b"678901")
