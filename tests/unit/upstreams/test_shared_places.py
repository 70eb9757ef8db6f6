"""Several processes at one upstream: never more than its places, one queue, and nothing lost with a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.clock import FixedClock

from gemmapy.core.errors import LimitReached
from gemmapy.upstreams.places import Place, Places, QueueLimits
from gemmapy.upstreams.shared_places import PlacesDesk, SharedPlaces

LIMITS = QueueLimits(waiting=10, waiting_per_caller=3)


class Together:
    """A desk and two that ask it; what is said arrives when the loop turns."""

    def __init__(self, count: int = 2) -> None:
        self.clock = FixedClock()
        self.decide()
        self.both = [SharedPlaces("ollama", count, LIMITS, slot, self._up) for slot in (0, 1)]
        self.count = count

    def decide(self, count: int = 2) -> None:
        """Another desk, which knows nothing."""
        self.places = Places(count, LIMITS)
        self.desk = PlacesDesk({"ollama": self.places}, self._down, self.clock)

    async def ask(self, slot: int, caller: str = "ada") -> Place:
        place = self.both[slot].ask((caller, None), 1.0, self.clock.monotonic_ns())
        await place.lined_up()
        return place

    def back(self, place: Place) -> None:
        place.give_back(self.clock.monotonic_ns())

    def _up(self, said: Any) -> None:
        self._later(lambda: self.desk.hear(said))

    def _down(self, slot: int, said: Any) -> None:
        self._later(lambda: self.both[slot].hear(said))

    def _later(self, what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(what)


async def test_an_upstream_may_turn_out_to_have_so_many_places() -> None:
    both = Together()
    for places in both.both:
        places.resize(None, 0)
    unasked = await both.ask(0)
    for places in both.both:
        places.resize(2, 0)
    held = [await both.ask(0), await both.ask(1)]
    waiting = await both.ask(0)
    assert [place.is_waiting for place in (unasked, *held, waiting)] == [False, False, False, True]
    both.back(unasked)
    coming = asyncio.create_task(waiting.turn())
    both.back(held[1])
    await coming
    assert [places.taken for places in both.both] == [2, 0]


async def test_who_waits_for_one_upstream_may_get_a_place_at_another() -> None:
    clock = FixedClock()
    own = {name: Places(1, LIMITS) for name in ("a", "b")}
    for places in own.values():
        places.others = [other for other in own.values() if other is not places]
    loop = asyncio.get_running_loop()
    shared: list[SharedPlaces] = []
    desk = PlacesDesk(own, lambda _slot, said: [loop.call_soon(places.hear, said) for places in shared], clock)
    shared += [SharedPlaces(name, 1, LIMITS, 0, lambda said: loop.call_soon(desk.hear, said)) for name in own]
    held = [places.ask("ada", 1.0, clock.monotonic_ns()) for places in shared]
    waiting = shared[0].ask("bob", 1.0, clock.monotonic_ns())
    waiting.elsewhere = shared
    for place in (*held, waiting):
        await place.lined_up()
    coming = asyncio.create_task(waiting.turn())
    held[1].give_back(clock.monotonic_ns())
    await coming
    assert waiting.places is shared[1]
    assert [(places.taken, places.waiting) for places in shared] == [(1, 0), (1, 0)]
    waiting.give_back(clock.monotonic_ns())
    await settle()
    assert [places.taken for places in own.values()] == [1, 0]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_together_have_as_many_places_as_there_are() -> None:
    both = Together()
    first, second = await both.ask(0), await both.ask(1)
    third = await both.ask(0)
    assert [place.is_waiting for place in (first, second, third)] == [False, False, True]
    waiting = asyncio.create_task(third.turn())
    both.back(second)
    await waiting
    assert (both.places.taken, both.places.waiting) == (2, 0)
    assert [places.taken for places in both.both] == [2, 0]


async def test_who_has_too_many_waiting_is_refused_whichever_process_they_ask() -> None:
    both = Together(count=2)
    for number in range(5):
        await both.ask(number % 2)
    with pytest.raises(LimitReached):
        await both.ask(1)
    assert (await both.ask(1, "bob")).is_waiting
    assert [places.load for places in both.both] == [3, 3]


async def test_what_a_process_holds_is_free_once_it_has_ended() -> None:
    both = Together()
    await both.ask(0), await both.ask(0)
    waiting = await both.ask(1)
    coming = asyncio.create_task(waiting.turn())
    both.desk.gone(0)
    await coming
    assert both.places.taken == 1


async def test_who_leaves_the_queue_is_not_waited_for() -> None:
    both = Together()
    held = [await both.ask(0), await both.ask(1)]
    gone = asyncio.create_task((await both.ask(0)).turn())
    leaving = await both.ask(0)
    both.back(leaving)
    both.back(held[0])
    await gone
    await settle()
    assert (both.places.taken, both.places.waiting) == (2, 0)


async def test_the_next_desk_is_told_what_is_held_and_who_waits() -> None:
    both = Together()
    held = [await both.ask(0), await both.ask(1)]
    waiting = await both.ask(1)
    coming = asyncio.create_task(waiting.turn())
    both.decide()
    for places in both.both:
        places.tell_again()
    await settle()
    assert (both.places.taken, both.places.waiting) == (2, 1)
    both.back(held[0])
    await coming
    assert (both.places.taken, both.places.waiting) == (2, 0)
    for place in (held[1], waiting):
        both.back(place)
    await settle()
    assert both.places.taken == 0
