"""The store of answers: bounded by bytes, entries and age, the one used longest ago first."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy.core.records import Usage
from gemmapy.gateway.cache import ENTRY_OVERHEAD_BYTES, AnswerCache, CacheLimits
from gemmapy.gateway.entry import Entry


def entry(body: bytes = b"{}", model: str = "llama3") -> Entry:
    return Entry(model, body, is_stream=False, has_usage_chunk=False, content_type="", usage=Usage(1, 1))


def _key(number: int) -> bytes:
    return number.to_bytes(32)


def test_what_is_put_in_is_found_until_it_is_too_old() -> None:
    clock = FixedClock()
    cache = AnswerCache(CacheLimits(ttl_s=60), clock)
    one = entry()
    assert cache.put(_key(1), one, 1)
    clock.go_on(seconds=59)
    assert cache.get(_key(1)) is one
    clock.go_on(seconds=1)  # being used does not make it younger
    assert cache.get(_key(1)) is None
    assert (len(cache), cache.bytes, cache.counts.expired) == (0, 0, 1)


def test_the_one_used_longest_ago_makes_room() -> None:
    cache = AnswerCache(CacheLimits(max_entries=2), FixedClock())
    cache.put(_key(1), entry(), 1)
    cache.put(_key(2), entry(), 1)
    cache.get(_key(1))
    cache.put(_key(3), entry(), 1)
    assert [cache.get(_key(number)) is not None for number in (1, 2, 3)] == [True, False, True]
    assert cache.counts.evictions == 1


def test_an_answer_that_would_push_out_much_of_the_rest_is_not_kept() -> None:
    cache = AnswerCache(CacheLimits(max_bytes=100_000), FixedClock())
    assert not cache.put(_key(1), entry(b"x" * 12_500), 1)
    assert cache.put(_key(1), entry(b"x" * 11_000), 1)


def test_a_cache_of_nothing_keeps_nothing() -> None:
    for limits in (CacheLimits(max_bytes=0), CacheLimits(max_entries=0)):
        cache = AnswerCache(limits, FixedClock())
        assert not cache.put(_key(1), entry(), 1)
        assert len(cache) == 0


def test_it_is_cleared_by_model_and_of_what_is_too_old() -> None:
    clock = FixedClock()
    cache = AnswerCache(CacheLimits(ttl_s=60), clock)
    cache.put(_key(1), entry(model="llama3"), 1)
    clock.go_on(seconds=30)
    cache.put(_key(2), entry(model="mistral"), 1)
    cache.put(_key(3), entry(model="mistral"), 1)
    assert asyncio.run(cache.clear(lambda model: model == "mistral")) == 2
    cache.put(_key(4), entry(model="mistral"), 1)
    clock.go_on(seconds=30)
    assert asyncio.run(cache.clear_expired()) == 1
    assert cache.held() == {"mistral": (1, cache.bytes)}
    assert asyncio.run(cache.clear()) == 1
    assert cache.bytes == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "clear", "wait"]), st.integers(0, 12), st.integers(0, 3_000)),
        max_size=120,
    )
)
def test_it_never_holds_more_than_it_may_and_knows_how_much(steps: list[tuple[str, int, int]]) -> None:
    clock = FixedClock()
    limits = CacheLimits(max_bytes=40_000, max_entries=8, ttl_s=50)
    cache = AnswerCache(limits, clock)
    for what, number, size in steps:
        if what == "put":
            cache.put(_key(number), entry(b"x" * size, f"m{number % 3}"), 1)
        elif what == "get":
            cache.get(_key(number))
        elif what == "clear":
            asyncio.run(cache.clear(lambda model, n=number: model == f"m{n % 3}"))
        else:
            clock.go_on(seconds=size / 100)
        held = cache.held()
        assert len(cache) == sum(entries for entries, _ in held.values()) <= limits.max_entries
        assert cache.bytes == sum(size for _, size in held.values()) <= limits.max_bytes
        assert cache.bytes >= len(cache) * ENTRY_OVERHEAD_BYTES
