"""Frames: the same however the stream is cut, and never more than the limit in memory."""

from __future__ import annotations

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


@given(st.binary(max_size=200), st.lists(st.integers(min_value=0, max_value=200)))
def test_frames_and_the_rest_are_the_stream(stream: bytes, cuts: list[int]) -> None:
    for decoder in (NdjsonDecoder(), SseDecoder()):
        assert b"".join(_fed(decoder, stream, cuts)) + decoder.rest == stream


def test_the_data_of_an_event() -> None:
    assert [sse_data(frame) for frame in SseDecoder().feed(SSE)] == [b'{"a":1}', None, b"one\ntwo", b"[DONE]"]
    assert sse_data(b"data:tight\n\n") == b"tight"


@pytest.mark.parametrize("kind", [NdjsonDecoder, SseDecoder])
def test_a_frame_past_the_limit_is_refused(kind: type[NdjsonDecoder | SseDecoder]) -> None:
    decoder = kind(limit=10)
    decoder.feed(b"12345")
    with pytest.raises(UpstreamError, match="more than 10 bytes"):
        decoder.feed(b"678901")
