"""Limits of a caller whose requests come to several processes: counted once, by one of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.clock import FixedClock

from gemmapy.core.errors import StorageUnavailable
from gemmapy.gateway.limits import Claim, Counters, Refusal
from gemmapy.gateway.shared_limits import CountersDesk, SharedCounters

CLAIM = Claim("user 1", "concurrent", 2)
TOKENS = Claim("user 1", "tokens", 100, 40)


class Together:
    """A desk and two that ask it."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.is_away = False
        self.decide()
        self.both = [SharedCounters(slot, self._ask, self._tell) for slot in (0, 1)]

    def decide(self) -> None:
        self.counters = Counters(self.clock)
        self.desk = CountersDesk(self.counters)

    async def _ask(self, said: Any) -> Any:
        await asyncio.sleep(0)
        if self.is_away:
            return None
        answer = await self.desk.answer(said)
        await asyncio.sleep(0)
        return answer

    def _tell(self, said: Any) -> None:
        if not self.is_away:
            asyncio.get_running_loop().call_soon(self.desk.hear, said)

    async def used(self, claim: Claim = CLAIM) -> int:
        await asyncio.sleep(0)
        return (await self.counters.standing([claim]))[0].used


async def test_all_processes_share_one_limit() -> None:
    both = Together()
    first, second, third = [CLAIM], [CLAIM], [CLAIM]
    assert not isinstance(await both.both[0].take(first), Refusal)
    assert not isinstance(await both.both[1].take(second), Refusal)
    assert isinstance(await both.both[0].take(third), Refusal)
    both.both[1].give_back(second, 0, 0)
    assert await both.used() == 1
    assert not isinstance(await both.both[0].take(third), Refusal)
    assert [standing.used for standing in await both.both[1].standing([CLAIM])] == [2]


async def test_tokens_are_corrected_when_a_request_is_over() -> None:
    both = Together()
    claims = [TOKENS]
    await both.both[0].take(claims)
    both.both[0].give_back(claims, 70, 0)
    assert await both.used(TOKENS) == 70


async def test_who_is_cancelled_while_asking_has_taken_nothing() -> None:
    both = Together()
    taking = asyncio.create_task(both.both[0].take([CLAIM]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert await both.used() == 0


async def test_what_a_process_has_taken_is_given_back_when_it_ends() -> None:
    both = Together()
    await both.both[0].take([CLAIM, TOKENS])
    both.desk.gone(0)
    assert (await both.used(), await both.used(TOKENS)) == (0, 40)


async def test_the_next_one_that_counts_is_told_what_runs() -> None:
    both = Together()
    claims = [CLAIM, TOKENS]
    await both.both[0].take(claims)
    both.decide()
    for shared in both.both:
        shared.tell_again()
    assert await both.used() == 1
    both.both[0].give_back(claims, 70, 0)
    assert await both.used() == 0


async def test_while_nobody_counts_nothing_is_let_in() -> None:
    both = Together()
    both.is_away = True
    with pytest.raises(StorageUnavailable):
        await both.both[0].take([CLAIM])
