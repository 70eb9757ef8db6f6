"""What goes onto the wire cannot be read as something else; what comes off it is the same wherever it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.upstreams.http1 import HEAD_LIMIT, Garbage, Reader, head

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
    b"HTTP/1.1 200\r\nEmpty:\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\nok",
    CHUNKED + b"5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\n\r\n",
    CHUNKED + b"2\r\nhi\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 900\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
]
BROKEN = [
    b"garbage\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 99 X\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    CHUNKED + b"xyz\r\n",
    CHUNKED + b"2\r\nhiX\r\n",
]
_TEXTS = st.text(st.sampled_from("aZ-: \r\n\t\0é€;"), max_size=6)
Result = tuple[int, list[tuple[bytes, bytes]], bytes, bool, bool, str]


def _read(pieces: list[bytes]) -> Result:
    """Status, headers, body, whether it is complete and reusable, and what was wrong."""
    reader, problem = Reader(), ""
    for piece in pieces:
        try:
            reader.feed(piece)
        except Garbage:
            problem = "garbage"
            break
    if not problem:
        reader.end()
    body = b"".join(reader.pieces)
    return reader.status, reader.headers, body, reader.is_complete, reader.is_reusable, problem


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def _feed(reader: Reader, piece: bytes, size: int) -> None:
    for _ in range(size // len(piece)):
        reader.feed(piece)


@given(st.sampled_from(ANSWERS + BROKEN), st.lists(st.integers(0, 10_000), max_size=12))
def test_an_answer_is_the_same_wherever_it_is_cut(answer: bytes, places: list[int]) -> None:
    assert _read(_cut(answer, places)) == _read([answer])


@given(st.sampled_from(ANSWERS), st.data())
def test_damage_anywhere_is_the_same_wherever_it_is_cut(answer: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(answer) - 1))
    damaged = answer[:place] + data.draw(st.binary(min_size=0, max_size=3)) + answer[place + 1 :]
    whole = _read([damaged])
    cut = _read(_cut(damaged, data.draw(st.lists(st.integers(0, 10_000), max_size=8))))
    if whole[3] or cut[3]:
        assert (whole[0], whole[2], whole[3]) == (cut[0], cut[2], cut[3])
    assert whole[5] == cut[5]


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_an_answer_or_garbage_and_no_more_is_held_than_came(pieces: list[bytes]) -> None:
    status, headers, body, _complete, _reusable, _problem = _read(pieces)
    assert sum(len(n) + len(v) for n, v in headers) + len(body) <= sum(map(len, pieces))
    assert status == 0 or 200 <= status <= 999


@pytest.mark.parametrize("answer", BROKEN)
def test_what_is_not_plain_http_is_refused(answer: bytes) -> None:
    assert _read([answer])[5] == "garbage"


def test_bodies_are_as_their_framing_says() -> None:
    bodies = [_read([answer])[2] for answer in ANSWERS]
    assert bodies == [
        b"hello world", b"", b"ok", b"hello world", b"hi", b"", b"", b"hi", b"until the end", b"until the end"
    ]  # fmt: skip
    assert all(_read([answer])[3] for answer in ANSWERS)


def test_a_connection_is_used_again_only_where_the_answer_has_an_end_of_its_own() -> None:
    assert [_read([answer])[4] for answer in ANSWERS] == [True] * 7 + [False] * 3


def test_a_stream_that_stops_before_its_end_is_not_complete() -> None:
    for answer in ANSWERS[:-2]:
        for length in range(len(answer) - 1):
            reader = Reader()
            reader.feed(answer[:length])
            reader.end()
            assert not (reader.is_complete and b"204" not in answer and reader.status not in (200, 201, 304)), length
    for cut in (CHUNKED, CHUNKED + b"2\r\nhi\r\n", ANSWERS[0][:-1]):
        assert not _read([cut])[3]


def test_what_follows_a_complete_answer_ends_only_its_connection() -> None:
    for answer in ANSWERS[:6]:
        assert _read([answer + b"HTTP/1.1 200 OK\r\n"])[2:5] == (_read([answer])[2], True, False)


def test_an_answer_to_head_has_no_body() -> None:
    reader = Reader(is_head=True)
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    assert (reader.is_complete, reader.is_reusable, reader.pieces) == (True, False, [])


@pytest.mark.parametrize(
    "endless",
    [
        b"A: " + b"x" * 1000,
        b"A: b\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 X\r\nA: b\r\n",
    ],
)
def test_a_head_without_end_is_refused_before_it_fills_the_memory(endless: bytes) -> None:
    reader = Reader()
    reader.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(Garbage):
        _feed(reader, endless, 2 * HEAD_LIMIT)
    assert sum(len(n) + len(v) for n, v in reader.headers) <= HEAD_LIMIT


@pytest.mark.parametrize("endless", [b"0;" + b"x" * 1000, b"0\r\nTrailer: " + b"y" * 1000])
def test_framing_without_end_is_refused_as_well(endless: bytes) -> None:
    reader = Reader()
    reader.feed(CHUNKED + endless)
    with pytest.raises(Garbage, match="between two pieces"):
        _feed(reader, b"z" * 1000, 2 * HEAD_LIMIT)


@pytest.mark.parametrize(
    "header",
    [
        ("X", "a\r\nContent-Length: 5"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "a\0b"),
        ("X", "Ω"),
        ("X\r\nY", "b"),
        ("X: a\r\nY", "b"),
        ("X Y", "b"),
        ("", "b"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Host", "elsewhere"),
        ("Connection", "close"),
        ("Expect", "100-continue"),
    ],
)
def test_no_header_can_be_two_or_say_how_long_the_body_is(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError):
        head("POST", "here", "/", [("A", "b"), header], 3)


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "a", "", "/ä", "/a\tb", "http://x/"])
def test_no_target_can_end_its_line(target: str) -> None:
    with pytest.raises(ValueError):
        head("GET", "here", target, [], None)
    with pytest.raises(ValueError):
        head("GET / HTTP/1.1\r\n", "here", "/", [], None)


@given(
    st.lists(st.tuples(_TEXTS, _TEXTS), max_size=4),
    st.sampled_from([None, 0, 7, "chunked"]),
)
def test_a_head_that_is_written_has_the_headers_that_were_given_and_no_others(headers, length) -> None:
    try:
        written = head("POST", "here:1", "/p?q=1", headers, length)
    except ValueError:
        return
    lines = written.decode("latin-1").split("\r\n")
    assert lines[:2] == ["POST /p?q=1 HTTP/1.1", "host: here:1"]
    assert lines[2 : 2 + len(headers)] == [f"{name}: {value}" for name, value in headers]
    framing = {None: [], "chunked": ["transfer-encoding: chunked"]}.get(length, [f"content-length: {length}"])
    assert lines[2 + len(headers) :] == [*framing, "", ""]


def test_a_header_may_hold_what_latin_1_can() -> None:
    assert b"\r\nX-Name: M\xfcller\r\n" in head("GET", "here", "/", [("X-Name", "Müller")], None)
