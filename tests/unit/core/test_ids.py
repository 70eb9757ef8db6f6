"""Request ids: version 7, unique, growing, whatever the clock does."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.ids import RequestIds, id_text, parse_id


@given(st.lists(st.integers(0, 2**47), min_size=1, max_size=50))
def test_ids_grow_even_where_the_clock_steps_back(times: list[int]) -> None:
    clock = iter(times)
    ids = RequestIds(now_ms=lambda: next(clock))
    made = [ids.new() for _ in times]
    assert made == sorted(set(made))


def test_five_thousand_in_one_millisecond_are_different_and_grow() -> None:
    ids = RequestIds(now_ms=lambda: 1)
    made = [ids.new() for _ in range(5000)]
    assert made == sorted(set(made))


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    made = uuid.UUID(bytes=RequestIds(now_ms=lambda: 0x0189_0A5D_AC96).new())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.bytes[:6].hex() == "01890a5dac96"


def test_text_and_bytes_are_the_same_id() -> None:
    made = RequestIds().new()
    assert parse_id(id_text(made)) == made
    assert parse_id("not an id") is None
