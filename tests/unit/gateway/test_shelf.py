"""The cache's second place: what is found there, what is not, and that neither is ever wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy.core.errors import StorageUnavailable
from gemmapy.core.records import Usage
from gemmapy.gateway.cache import AnswerCache, CacheLimits
from gemmapy.gateway.entry import Entry
from gemmapy.gateway.shelf import Shelf, packed, unpacked
from gemmapy.storage.answers import AnswerFile

KEY = bytes(31) + b"\1"


def _entry(body: bytes = b"{}", model: str = "llama3") -> Entry:
    usage = Usage(26, 298, cached_prompt_tokens=3)
    return Entry(model, body, is_stream=True, has_usage_chunk=True, content_type="x", usage=usage, compute_ms=7)


def _cache(folder: Path, clock: FixedClock, ttl_s: float = 60) -> AnswerCache:
    shelf = Shelf(AnswerFile(folder, 4 * 1024 * 1024, ttl_s, clock))
    return AnswerCache(CacheLimits(ttl_s=ttl_s), clock, shelf)


async def _closed(cache: AnswerCache) -> None:
    assert cache.shelf is not None
    await cache.shelf.close()


@given(st.binary(max_size=2_000), st.integers(0, 10_000), st.integers(1, 255))
def test_an_answer_that_was_altered_anywhere_is_none(body: bytes, place: int, change: int) -> None:
    stored = bytearray(packed(KEY, _entry(body)))
    assert unpacked(KEY, bytes(stored)) == _entry(body)
    assert unpacked(bytes(32), bytes(stored)) is None  # under another question
    stored[place % len(stored)] ^= change
    assert unpacked(KEY, bytes(stored)) is None


def test_what_was_kept_before_a_restart_is_found_and_no_older_than_it_may_be(tmp_path: Path) -> None:
    clock = FixedClock()

    async def first() -> None:
        cache = _cache(tmp_path, clock)
        cache.put(KEY, _entry(b"kept"), 1)
        await _closed(cache)

    async def second() -> None:
        clock.go_on(seconds=50)
        cache = _cache(tmp_path, clock)
        assert await cache.find(KEY) == _entry(b"kept")
        assert cache.get(KEY) == _entry(b"kept")
        clock.go_on(seconds=10)  # the minute began when the answer was made
        assert cache.get(KEY) is None
        assert await cache.find(KEY) is None
        assert cache.counts.from_disk == 1
        await _closed(cache)

    asyncio.run(first())
    asyncio.run(second())


def test_an_answer_that_is_read_while_it_is_cleared_is_not_given(tmp_path: Path) -> None:
    clock = FixedClock()

    async def story() -> None:
        before = _cache(tmp_path, clock)
        before.put(KEY, _entry(), 1)
        await _closed(before)
        cache = _cache(tmp_path, clock)
        finding = asyncio.create_task(cache.find(KEY))
        await asyncio.sleep(0)  # the read is under way
        assert await cache.clear() == 1
        assert await finding is None
        assert await cache.find(KEY) is None
        await _closed(cache)

    asyncio.run(story())


def test_what_is_cleared_is_counted_once_and_what_cannot_be_deleted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FixedClock()

    async def story() -> None:
        cache = _cache(tmp_path, clock)
        cache.put(KEY, _entry(), 1)
        cache.put(bytes(32), _entry(model="mistral"), 1)
        assert await cache.clear(lambda model: model == "mistral") == 1
        clock.go_on(seconds=60)
        assert await cache.clear_expired() == 1
        assert cache.shelf is not None
        assert await cache.shelf.held() == {}
        monkeypatch.setattr(AnswerFile, "clear", lambda _file, _which: None)
        with pytest.raises(StorageUnavailable, match="could not be deleted"):
            await cache.clear(lambda _model: True)
        await _closed(cache)

    asyncio.run(story())
