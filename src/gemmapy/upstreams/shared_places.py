"""The places at an upstream, and the queue in front of them, where several processes send to it.

One process has the `Places` and decides, as it would alone (`PlacesDesk`); the others ask it (`SharedPlaces`), so that
there is one queue, fair to all callers whichever process they came to. What a process holds is given back when it dies;
if the one that decides dies, the others tell the next what they hold, and line up again.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from gemmapy.core.clock import Clock
from gemmapy.core.errors import GemmaPyError, LimitReached, Overloaded
from gemmapy.upstreams.places import Place, Places, QueueLimits

SUBJECT = "places"
_NUMBERS = itertools.count(1)


@dataclass(slots=True, eq=False)
class SharedPlace(Place):
    """One that another process decides on."""

    number: int = 0
    caller: Hashable = None
    weight: float = 1.0
    verdict: asyncio.Future[None] | None = None
    """Resolves once it is granted or waits; raises where it was refused."""

    async def lined_up(self) -> None:
        if self.verdict is None:
            assert isinstance(self.places, SharedPlaces)
            self.verdict = asyncio.get_running_loop().create_future()
            self.places.line_up(self)
            await self.verdict


class SharedPlaces(Places):
    """Asks for places. What is counted here is this process's own. In its event loop only."""

    def __init__(
        self, name: str, count: int | None, limits: QueueLimits, slot: int, tell: Callable[[Any], None]
    ) -> None:
        super().__init__(count, limits)
        self.name = name
        self._slot = slot
        self._tell = tell
        self._asked: dict[int, SharedPlace] = {}

    def ask(self, caller: Hashable, weight: float, now_ns: int) -> Place:
        """A place that is decided on elsewhere: `lined_up` says how."""
        if self.count is None:
            return super().ask(caller, weight, now_ns)
        place = SharedPlace(self, now_ns, is_waiting=True, number=next(_NUMBERS), caller=caller, weight=weight)
        self._asked[place.number] = place
        self.waiting += 1
        return place

    def line_up(self, place: SharedPlace) -> None:
        """Asks for the place."""
        elsewhere = [places.name for places in place.elsewhere if isinstance(places, SharedPlaces)]
        self._tell(["ask", self._slot, place.number, self.name, place.caller, place.weight, elsewhere])

    def resize(self, count: int | None, now_ns: int) -> None:  # noqa: ARG002
        """It has so many places from now on; the process that decides finds that out by itself."""
        self.count = count

    def give_back(self, place: Place, now_ns: int) -> None:  # noqa: ARG002
        if not isinstance(place, SharedPlace):
            self.taken -= 1  # taken when nobody knew how many there are
        elif self._asked.pop(place.number, None) is not None:
            if place.is_waiting:
                self.waiting -= 1
            else:
                self.taken -= 1
            if place.verdict is not None:
                place.verdict.cancel()
            self._tell(["back", self._slot, place.number])

    def hear(self, said: Any) -> None:
        """What was decided."""
        what, name, number, *rest = said
        place = self._asked.get(number) if name == self.name else None
        if place is None:
            return
        verdict = place.verdict
        if what == "refused":
            del self._asked[number]
            self.waiting -= 1
            place.is_over = True
            is_own, message, again_s = rest
            error = (LimitReached if is_own else Overloaded)(message, retry_after_s=again_s)
            for future in (verdict, place.coming):
                if future is not None and not future.done():
                    future.set_exception(error)
                    break
            return
        if what == "granted" and place.is_waiting:
            place.is_waiting = False
            self.waiting -= 1
            self._granted(place, rest[0])
            if place.coming is not None and not place.coming.done():
                place.coming.set_result(None)
        if verdict is not None and not verdict.done():
            verdict.set_result(None)

    def _granted(self, place: SharedPlace, where: str) -> None:
        """It may be at another upstream in the end."""
        for places in place.elsewhere:
            if isinstance(places, SharedPlaces) and places.name == where and places is not self:
                del self._asked[place.number]
                places._asked[place.number] = place
                place.places = places
                places.taken += 1
                return
        self.taken += 1

    def tell_again(self) -> None:
        """Another process decides now, and knows nothing yet."""
        for place in self._asked.values():
            if place.is_waiting:
                self.line_up(place)
            else:
                self._tell(["held", self._slot, place.number, self.name])


class PlacesDesk:
    """Decides for the others, with the places that this process has. In its event loop only."""

    def __init__(self, places: Mapping[str, Places], tell: Callable[[int, Any], None], clock: Clock) -> None:
        """By upstream. `tell` tells the process of a slot."""
        self._places = places
        self._tell = tell
        self._clock = clock
        self._given: dict[tuple[int, int], Place] = {}

    def hear(self, said: Any) -> None:
        what, slot, number, *rest = said
        if what == "ask":
            self._ask(slot, number, *rest)
        elif what == "held":
            places = self._places[rest[0]]
            places.taken += 1  # whatever was given in the meantime: it is taken
            self._given[slot, number] = Place(places, self._clock.monotonic_ns())
        else:
            self._give_back((slot, number))

    def gone(self, slot: int) -> None:
        """A process has ended."""
        for key in [key for key in self._given if key[0] == slot]:
            self._give_back(key)

    def _ask(self, slot: int, number: int, name: str, caller: Any, weight: float, elsewhere: list[str]) -> None:
        try:
            line = tuple(cast("list[Hashable]", caller)) if isinstance(caller, list) else caller
            place = self._places[name].ask(line, weight, self._clock.monotonic_ns())
        except GemmaPyError as error:
            is_own = isinstance(error, LimitReached)
            self._tell(slot, ["refused", name, number, is_own, error.message, error.retry_after_s])
            return
        self._given[slot, number] = place
        if not place.is_waiting:
            self._tell(slot, ["granted", name, number, name])
            return
        place.elsewhere = [self._places[other] for other in elsewhere]

        def granted(coming: asyncio.Future[None]) -> None:
            if not coming.cancelled():
                where = next(other for other, places in self._places.items() if places is place.places)
                self._tell(slot, ["granted", name, number, where])

        place.coming = asyncio.get_running_loop().create_future()
        place.coming.add_done_callback(granted)
        self._tell(slot, ["waiting", name, number])

    def _give_back(self, key: tuple[int, int]) -> None:
        place = self._given.pop(key, None)
        if place is not None:
            if place.coming is not None:
                place.coming.cancel()
            place.give_back(self._clock.monotonic_ns())
