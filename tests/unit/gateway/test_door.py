"""Who is let in: bounded numbers, and room for others whatever one caller does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy.core.errors import LimitReached, Overloaded
from gemmapy.gateway.door import FREE_BODY_BYTES, REFUSALS_WRITTEN_PER_S, WRITES_WAITING, Door, Room
from gemmapy.storage.store import Store

MIB = 2**20


def test_one_caller_alone_gets_four_fifths_and_another_still_comes_in(store: Store) -> None:
    door = Door(store, store.clock, requests=100, body_bytes=MIB)
    for _ in range(80):
        door.enter("flood")
    with pytest.raises(LimitReached, match=r"80 requests are under way; 100 may be\. Most are your own"):
        door.enter("flood")
    for _ in range(16):
        door.enter("other")
    assert (door.shed.requests, door.shed.callers) == (1, 1)


def test_who_comes_when_it_is_full_is_told_so_and_who_leaves_makes_room(store: Store) -> None:
    door = Door(store, store.clock, requests=3, body_bytes=MIB)
    visits = [door.enter(name) for name in ("a", "b", "c")]
    with pytest.raises(Overloaded) as full:
        door.enter("d")
    assert full.value.retry_after_s == 1
    visits[0].leave()
    visits[0].leave()
    assert door.requests.used == 2
    door.enter("d")


def test_small_bodies_are_not_counted_and_large_ones_until_they_leave(store: Store) -> None:
    door = Door(store, store.clock, requests=100, body_bytes=MIB)
    small = door.enter("a")
    small.carry(FREE_BODY_BYTES)
    assert door.bodies.used == 0
    large = door.enter("a")
    for size in (FREE_BODY_BYTES + 10, MIB // 2, MIB // 2):
        large.carry(size)
    assert door.bodies.used == MIB // 2 - FREE_BODY_BYTES
    with pytest.raises(LimitReached):
        large.carry(MIB)
    with pytest.raises(Overloaded, match="fill the 1 MiB"):
        door.enter("b").carry(2 * MIB)
    large.leave()
    assert door.bodies.used == 0
    assert (door.shed.bodies, door.shed.callers) == (2, 1)


def test_of_a_callers_refusals_so_many_a_second_are_written_down(store: Store, clock: FixedClock) -> None:
    door = Door(store, clock, requests=10, body_bytes=MIB)
    assert sum(door.notes("a") for _ in range(100)) == REFUSALS_WRITTEN_PER_S
    assert door.notes("b")
    assert door.shed.unwritten == 100 - REFUSALS_WRITTEN_PER_S
    clock.go_on(seconds=1)
    assert door.notes("a")


def test_records_that_pile_up_close_the_door(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(store, store.clock, requests=10, body_bytes=MIB)
    monkeypatch.setattr(Store, "waiting", property(lambda _self: WRITES_WAITING))
    with pytest.raises(Overloaded, match="wait to be written"):
        door.enter("a")
    assert (door.shed.writes, door.requests.used) == (1, 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.booleans()), max_size=60))
def test_room_never_gives_more_than_there_is_and_counts_to_nothing_in_the_end(
    moves: list[tuple[str, int, bool]],
) -> None:
    room = Room(100)
    held: list[tuple[str, int]] = []
    for caller, amount, takes in moves:
        if takes and room.take(caller, amount) == "taken":
            held.append((caller, amount))
        elif not takes and held:
            room.give_back(*held.pop())
        assert room.used == sum(amount for _, amount in held) <= 100
    for entry in held:
        room.give_back(*entry)
    assert (room.used, room.take("new", 50)) == (0, "taken")
