"""Who gets a request: one that works, knows the conversation, or is idle."""

from __future__ import annotations

from collections import Counter

from gemmapy.upstreams.choice import CLEARLY_BUSIER, choose
from gemmapy.upstreams.upstream import Upstream

S = 1_000_000_000


def _upstreams(*names: str) -> list[Upstream]:
    return [Upstream(name, "ollama", f"http://{name}") for name in names]


def _open(upstream: Upstream) -> None:
    for _ in range(5):
        upstream.health.failed(0)


def test_without_a_conversation_the_least_busy_one_is_chosen_and_idle_ones_take_turns() -> None:
    a, b = both = _upstreams("a", "b")
    a.health.in_flight = 1
    assert choose(both, 0) is b
    a.health.in_flight = 0
    turns = Counter[str]()
    for _ in range(10):
        chosen = choose(both, 0)
        assert chosen is not None
        chosen.health.begin(0)
        chosen.health.end()
        turns[chosen.name] += 1
    assert turns == {"a": 5, "b": 5}


def test_a_conversation_stays_where_it_began_unless_that_one_is_clearly_busier() -> None:
    several = _upstreams("a", "b", "c")
    home = choose(several, 0, b"conversation")
    assert home is not None
    assert all(choose(list(reversed(several)), 0, b"conversation") is home for _ in range(3))
    home.health.in_flight = CLEARLY_BUSIER - 1
    assert choose(several, 0, b"conversation") is home
    home.health.in_flight = CLEARLY_BUSIER
    assert choose(several, 0, b"conversation") is not home


def test_conversations_are_spread_and_an_upstream_that_goes_moves_only_its_own() -> None:
    several = _upstreams("a", "b", "c")
    conversations = [str(number).encode() for number in range(300)]
    before = {c: choose(several, 0, c) for c in conversations}
    shares = Counter(upstream.name for upstream in before.values() if upstream)
    assert min(shares.values()) > 60
    after = {c: choose(several[:2], 0, c) for c in conversations}
    for conversation, home in before.items():
        if home is not several[2]:
            assert after[conversation] is home


def test_an_open_breaker_an_unreachable_list_and_a_rest_each_turn_to_another() -> None:
    a, b = both = _upstreams("a", "b")
    _open(a)
    assert choose(both, 0, b"x") is b
    _open(b)
    assert choose(both, 0, b"x") is None
    a, b = both = _upstreams("a", "b")
    a.health.answers = False
    assert choose(both, 0, b"x") is b
    b.health.answers = False
    assert choose(both, 0, b"x") is not None, "who does not list its models may answer all the same"
    a, b = both = _upstreams("a", "b")
    a.health.rest(0, 10)
    assert _names(both, 0) == {"b"}
    assert _names(both, 11 * S) == {"a", "b"}


def _names(candidates: list[Upstream], now_ns: int) -> set[str]:
    """Where twenty conversations go."""
    chosen = (choose(candidates, now_ns, str(number).encode()) for number in range(20))
    return {upstream.name for upstream in chosen if upstream}


def test_those_that_were_tried_come_last() -> None:
    a, b = both = _upstreams("a", "b")
    assert choose(both, 0, None, {"a"}) is b
    assert choose(both, 0, None, {"a", "b"}) is a
