"""The fair queue as a state machine: times are given, nothing waits."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gemmapy.core.errors import LimitReached, Overloaded
from gemmapy.upstreams.places import Place, Places, QueueLimits

MS = 1_000_000
S = 1_000 * MS


class _Engine:
    """A server that works on each request for as long as its caller's take; its clock goes on from end to end."""

    def __init__(self, places: Places, took_ms: dict[str, int], weights: dict[str, float] | None = None) -> None:
        self.places = places
        self.took_ms = took_ms
        self.weights = weights or {}
        self.now_ns = 0
        self.all: list[tuple[str, Place]] = []
        self.order: list[str] = []
        self._started: dict[int, int] = {}

    def ask(self, caller: str, number: int = 1) -> None:
        for _ in range(number):
            self.all.append((caller, self.places.ask(caller, self.weights.get(caller, 1), self.now_ns)))
        self._note()

    def finish_one(self) -> str:
        """Goes on to the next end; whose it was."""
        running = [(self._started[id(p)] + self.took_ms[c] * MS, c, p) for c, p in self.all if id(p) in self._started]
        end_ns, caller, place = min(running, key=lambda one: one[0])
        self.now_ns = end_ns
        del self._started[id(place)]
        self.all.remove((caller, place))
        place.give_back(self.now_ns)
        self._note()
        return caller

    def _note(self) -> None:
        for caller, place in self.all:
            if not place.is_waiting and id(place) not in self._started:
                self._started[id(place)] = self.now_ns
                self.order.append(caller)


def test_places_are_given_at_once_while_there_are_any_and_in_turn_after() -> None:
    places = Places(2)
    first, second, third, fourth = (places.ask("ada", 1, 0) for _ in range(4))
    assert [p.is_waiting for p in (first, second, third, fourth)] == [False, False, True, True]
    second.give_back(S)
    assert (third.is_waiting, fourth.is_waiting) == (False, True)
    second.give_back(S)
    assert fourth.is_waiting, "giving back twice gives nothing"
    assert (places.taken, places.waiting) == (2, 1)


def test_without_a_number_nobody_waits_and_places_are_counted_all_the_same() -> None:
    places = Places(None)
    held = [places.ask("ada", 1, 0) for _ in range(1_000)]
    assert not any(place.is_waiting for place in held)
    assert places.taken == 1_000
    for place in held:
        place.give_back(S)
    assert (places.taken, places.mean_ms) == (0, 1_000)


def test_who_leaves_the_queue_makes_room_in_it_and_takes_nobodys_place() -> None:
    places = Places(1)
    held = places.ask("ada", 1, 0)
    leaving, staying = places.ask("ada", 1, 0), places.ask("ada", 1, 0)
    leaving.give_back(S)
    assert (places.taken, places.waiting) == (1, 1)
    held.give_back(2 * S)
    assert not staying.is_waiting


@pytest.mark.parametrize("count", [1, 4])
def test_a_flood_lets_another_callers_request_through_with_the_next_place_but_one(count: int) -> None:
    engine = _Engine(Places(count), {"flood": 100, "polite": 100})
    engine.ask("flood", 300)
    for _ in range(10):
        engine.finish_one()
    before = len(engine.order)
    engine.ask("polite")
    while "polite" not in engine.order:
        engine.finish_one()
    assert engine.order[before:].count("flood") <= 1


def test_callers_who_all_wait_take_turns_whatever_each_has_waiting() -> None:
    engine = _Engine(Places(1), dict.fromkeys(("a", "b", "c"), 100))
    engine.ask("a", 100)
    engine.ask("b", 30)
    engine.ask("c", 30)
    for _ in range(60):
        engine.finish_one()
    shares = Counter(engine.order[1:61])
    assert max(shares.values()) - min(shares.values()) <= 1


def test_weights_are_shares() -> None:
    engine = _Engine(Places(2), {"one": 100, "three": 100}, {"three": 3.0})
    engine.ask("one", 200)
    engine.ask("three", 200)
    for _ in range(160):
        engine.finish_one()
    shares = Counter(engine.order[2:162])
    assert shares["three"] / shares["one"] == pytest.approx(3, abs=0.15)


def test_time_is_shared_and_not_the_number_of_requests() -> None:
    engine = _Engine(Places(1), {"long": 1_000, "short": 100})
    engine.ask("long", 100)
    engine.ask("short", 400)
    spent = Counter[str]()
    while engine.now_ns < 30 * S:
        before = engine.now_ns
        spent[engine.finish_one()] += (engine.now_ns - before) // MS
    assert spent["short"] / spent["long"] == pytest.approx(1, abs=0.15)


def test_nobody_saves_up_and_what_was_used_while_nobody_waited_is_forgotten() -> None:
    engine = _Engine(Places(1), {"busy": 100, "idle": 100})
    for _ in range(50):
        engine.ask("busy")
        engine.finish_one()
    engine.ask("busy", 50)
    engine.ask("idle", 50)
    for _ in range(20):
        engine.finish_one()
    shares = Counter(engine.order[51:71])
    assert abs(shares["busy"] - shares["idle"]) <= 1


def test_a_full_line_is_the_callers_own_limit_and_a_full_queue_the_gateways() -> None:
    places = Places(1, QueueLimits(waiting=5, waiting_per_caller=3))
    places.ask("ada", 1, 0)
    for _ in range(3):
        places.ask("ada", 1, 0)
    with pytest.raises(LimitReached, match="You have 3 requests waiting") as own:
        places.ask("ada", 1, 0)
    for caller in ("bob", "cy"):
        places.ask(caller, 1, 0)
    with pytest.raises(Overloaded, match="5 requests wait") as full:
        places.ask("dan", 1, 0)
    assert (own.value.status, full.value.status) == (429, 503)
    assert (own.value.retry_after_s, full.value.retry_after_s) == (5, 5), "nothing was measured yet"
    assert (places.counts.refused_caller, places.counts.refused_full) == (1, 1)


def test_a_wait_that_would_be_too_long_is_refused_at_once_and_retry_after_is_what_was_measured() -> None:
    places = Places(2, QueueLimits(longest_wait_s=60))
    measured = places.ask("ada", 1, 0)
    measured.give_back(20 * S)
    assert places.mean_ms == 20_000
    for _ in range(2):
        places.ask("ada", 1, 0)
    for number in range(4):  # each one further waits ten seconds more, and four fifths of a minute may be expected
        assert places.wait_s("ada", 1) == pytest.approx(10 * (number + 1))
        places.ask("ada", 1, 0)
    with pytest.raises(LimitReached, match=r"free in 50 s; 60 s may be") as refused:
        places.ask("ada", 1, 0)
    assert refused.value.retry_after_s == pytest.approx(2)
    assert places.wait_s("bob", 1) == pytest.approx(20), "a newcomer waits for one round, not for the whole queue"
    places.ask("bob", 1, 0)
    heavy = Places(1, QueueLimits(longest_wait_s=60))
    heavy.ask("ada", 1, 0).give_back(90 * S)
    heavy.ask("ada", 1, 0)
    with pytest.raises(Overloaded) as hopeless:
        heavy.ask("bob", 1, 0)
    assert hopeless.value.retry_after_s == pytest.approx(42)


def test_callers_without_end_who_come_and_leave_take_no_memory() -> None:
    places = Places(1)
    places.ask("ada", 1, 0)
    places.ask("ada", 1, 0)
    for number in range(10_000):
        places.ask(f"caller {number}", 1, 0).give_back(1)
    assert len(places._lines) < 100  # pyright: ignore[reportPrivateUsage]
    assert len(places._next) < 300  # pyright: ignore[reportPrivateUsage]


def test_a_number_of_places_that_changes_holds_from_then_on() -> None:
    places = Places(None)
    held = [places.ask("ada", 1, 0) for _ in range(3)]
    places.resize(2, 0)
    waiting = [places.ask("ada", 1, 0) for _ in range(3)]
    held[0].give_back(S)
    assert [place.is_waiting for place in waiting] == [True, True, True]
    held[1].give_back(S)
    assert [place.is_waiting for place in waiting] == [False, True, True]
    places.resize(3, S)
    assert [place.is_waiting for place in waiting] == [False, False, True]
    places.resize(None, S)
    assert not any(place.is_waiting for place in waiting)
    assert (places.taken, places.waiting) == (4, 0)


def test_a_place_that_nobody_waits_for_goes_to_who_waits_elsewhere_and_may_come() -> None:
    a, b = Places(1), Places(1)
    a.others, b.others = [b], [a]
    held_a, held_b = a.ask("ada", 1, 0), b.ask("ada", 1, 0)
    bound, free, second = a.ask("ada", 1, 0), a.ask("bob", 1, 0), a.ask("bob", 1, 0)
    free.elsewhere = second.elsewhere = [a, b]
    held_b.give_back(S)
    assert (bound.is_waiting, free.is_waiting, second.is_waiting) == (True, False, True)
    assert free.places is b
    assert (a.taken, a.waiting, b.taken, b.waiting) == (1, 2, 1, 0)
    b.works = lambda _now_ns: False
    free.give_back(2 * S)
    assert second.is_waiting, "one that fails at once draws nobody"
    held_a.give_back(3 * S)
    bound.give_back(4 * S)
    second.give_back(5 * S)
    assert (a.taken, a.waiting, b.taken, b.waiting) == (0, 0, 0, 0)


def test_who_comes_back_after_leaving_is_in_line_again() -> None:
    a, b = Places(1), Places(1)
    a.others, b.others = [b], [a]
    held_a, held_b = a.ask("ada", 1, 0), b.ask("ada", 1, 0)
    a.ask("bob", 1, 0).give_back(S)
    other = a.ask("cy", 1, S)
    a.ask("bob", 1, S).give_back(S)
    held_b.give_back(2 * S)  # looks at who waits elsewhere: nobody who may come
    back = a.ask("bob", 1, 2 * S)
    held_a.give_back(3 * S)
    other.give_back(4 * S)
    assert not back.is_waiting


class TwoServers(RuleBasedStateMachine):
    """The same with two servers, and requests that may be at one or at both."""

    def __init__(self) -> None:
        super().__init__()
        self.servers = [Places(2), Places(3)]
        for one, other in (self.servers, reversed(self.servers)):
            one.others = [other]
        self.now_ns = 0
        self.open: list[Place] = []

    @rule(caller=st.sampled_from("abc"), where=st.integers(0, 1), may_move=st.booleans())
    def ask(self, caller: str, where: int, may_move: bool) -> None:
        if may_move and not self.servers[where].has_room and self.servers[1 - where].has_room:
            where = 1 - where  # as the choice among upstreams does
        place = self.servers[where].ask(caller, 1, self.now_ns)
        if place.is_waiting and may_move:
            place.elsewhere = self.servers
        self.open.append(place)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.now_ns += MS
        self.open.pop(data.draw(st.integers(0, len(self.open) - 1))).give_back(self.now_ns)

    @invariant()
    def the_books_of_places_balance(self) -> None:
        for server in self.servers:
            mine = [place for place in self.open if place.places is server]
            assert server.taken == sum(not place.is_waiting for place in mine) <= (server.count or 0)
            assert server.waiting == sum(place.is_waiting for place in mine)
            assert not server.waiting or not server.has_room


TestTwoServers = TwoServers.TestCase
TestTwoServers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes, leaves and ends in whatever order: no place is lost, none is given twice."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 3
        self.places = Places(self.count, QueueLimits(waiting=12, waiting_per_caller=5))
        self.now_ns = 0
        self.open: list[tuple[str, Place]] = []

    @rule(caller=st.sampled_from("abcd"), weight=st.sampled_from([0.5, 1.0, 4.0]))
    def ask(self, caller: str, weight: float) -> None:
        with suppress(LimitReached, Overloaded):
            self.open.append((caller, self.places.ask(caller, weight, self.now_ns)))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), again=st.booleans())
    def end(self, data: st.DataObject, again: bool) -> None:
        _, place = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        place.give_back(self.now_ns)
        if again:
            place.give_back(self.now_ns)

    @rule(ms=st.integers(0, 100_000))
    def go_on(self, ms: int) -> None:
        self.now_ns += ms * MS

    @invariant()
    def the_books_of_places_balance(self) -> None:
        held = [place for _, place in self.open if not place.is_waiting]
        waiting = [place for _, place in self.open if place.is_waiting]
        assert self.places.taken == len(held) <= self.count
        assert self.places.waiting == len(waiting)
        assert not waiting or len(held) == self.count, "nobody waits beside a free place"

    def teardown(self) -> None:
        while self.open:
            turn = next(place for _, place in self.open if not place.is_waiting)
            self.open = [entry for entry in self.open if entry[1] is not turn]
            turn.give_back(self.now_ns)
        assert (self.places.taken, self.places.waiting) == (0, 0)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(deadline=None, max_examples=50)
@given(
    count=st.integers(1, 6),
    flood=st.integers(1, 120),
    ended=st.integers(0, 60),
    polite=st.integers(1, 3),
)
def test_a_newcomer_never_waits_for_more_than_one_request_of_a_flood(
    count: int, flood: int, ended: int, polite: int
) -> None:
    engine = _Engine(Places(count), {"flood": 100, **{f"polite {n}": 100 for n in range(polite)}})
    engine.ask("flood", flood)
    for _ in range(min(ended, flood - 1)):
        engine.finish_one()
    before = len(engine.order)
    for number in range(polite):
        engine.ask(f"polite {number}")
    while engine.all:
        engine.finish_one()
    after = engine.order[before:]
    for number in range(polite):
        assert after[: after.index(f"polite {number}")].count("flood") <= 1
