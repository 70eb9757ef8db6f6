"""The breaker as a state machine: times are given, nothing waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemmapy.upstreams.breaker import Breaker, BreakerSettings

S = 1_000_000_000
SETTINGS = BreakerSettings(failures=3, window_s=10, open_s=5, longest_open_s=20)


def _opened(at_ns: int = 0) -> Breaker:
    breaker = Breaker(SETTINGS)
    for _ in range(3):
        breaker.failed(at_ns, is_try=breaker.begin(at_ns))
    return breaker


def test_it_opens_after_so_many_failures_and_says_for_how_long() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(2):
        breaker.failed(0, is_try=False)
    assert breaker.allows(0)
    breaker.failed(0, is_try=False)
    assert breaker.state(0) == "open"
    assert not breaker.allows(4 * S)
    assert breaker.retry_after_s(2 * S) == 3


def test_failures_that_are_few_among_successes_do_not_open_it() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(10):
        breaker.succeeded(0, is_try=False)
    for _ in range(9):
        breaker.failed(0, is_try=False)
    assert breaker.state(0) == "closed"
    breaker.failed(0, is_try=False)
    assert breaker.state(0) == "open"


def test_failures_of_different_spells_are_not_added_up() -> None:
    breaker = Breaker(SETTINGS)
    for number in range(20):
        breaker.failed(number * 6 * S, is_try=False)
        assert breaker.state(number * 6 * S) == "closed"


def test_after_the_pause_one_request_tries_and_closes_it() -> None:
    breaker = _opened()
    assert breaker.state(5 * S) == "half-open"
    is_try = breaker.begin(5 * S)
    assert is_try
    assert not breaker.allows(5 * S), "one at a time"
    breaker.succeeded(6 * S, is_try=is_try)
    assert breaker.state(6 * S) == "closed"


def test_a_try_in_vain_doubles_the_pause_up_to_the_longest() -> None:
    breaker, now, pauses = _opened(), 0, list[float]()
    for _ in range(4):
        pauses.append(breaker.retry_after_s(now))
        now += int(breaker.retry_after_s(now) * S)
        breaker.failed(now, is_try=breaker.begin(now))
    assert pauses == [5, 10, 20, 20]
    assert breaker.opened == 5


def test_a_try_that_takes_long_does_not_keep_others_out_for_as_long() -> None:
    breaker = _opened()
    breaker.begin(5 * S)
    assert not breaker.allows(9 * S)
    assert breaker.allows(10 * S)


def test_a_try_whose_client_left_makes_room_for_another() -> None:
    breaker = _opened()
    is_try = breaker.begin(5 * S)
    breaker.abandoned(6 * S, is_try=is_try)
    assert breaker.allows(6 * S)


def test_what_began_before_it_opened_says_nothing_of_now() -> None:
    breaker = _opened()
    breaker.succeeded(6 * S, is_try=False)
    assert breaker.state(6 * S) == "half-open"
    breaker.failed(6 * S, is_try=False)
    assert breaker.retry_after_s(6 * S) == 0


def test_an_answer_seen_elsewhere_lets_a_request_try_at_once() -> None:
    breaker = _opened()
    breaker.hopeful(1 * S)
    assert breaker.state(1 * S) == "half-open"


def test_with_zero_failures_it_never_opens() -> None:
    breaker = Breaker(BreakerSettings(failures=0))
    for _ in range(100):
        breaker.failed(0, is_try=False)
    assert breaker.allows(0)


@given(st.lists(st.tuples(st.integers(0, 20 * S), st.sampled_from(["good", "bad", "left"])), max_size=60))
def test_whatever_happens_it_lets_somebody_try_within_the_longest_pause(events: list[tuple[int, str]]) -> None:
    breaker, now = Breaker(SETTINGS), 0
    for passed, what in events:
        now += passed
        if not breaker.allows(now):
            assert 0 < breaker.retry_after_s(now) <= SETTINGS.longest_open_s
            continue
        is_try = breaker.begin(now)
        if what == "good":
            breaker.succeeded(now, is_try=is_try)
            assert breaker.state(now) == "closed"
        elif what == "bad":
            breaker.failed(now, is_try=is_try)
        else:
            breaker.abandoned(now, is_try=is_try)
    assert breaker.allows(now + int(SETTINGS.longest_open_s) * S)
