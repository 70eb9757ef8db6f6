"""Many that wait equally long, on one timer."""

from __future__ import annotations

import asyncio

from gemmapy.core.delay import Delay


async def test_each_is_called_in_its_turn_and_who_was_called_off_is_not() -> None:
    delay, heard = Delay(0.01), list[int]()
    waiting = [delay.after(lambda number=number: heard.append(number)) for number in range(5)]
    waiting[0].cancel()
    waiting[3].cancel()
    await asyncio.sleep(0.05)
    assert heard == [1, 2, 4]


async def test_nobody_is_called_too_early_and_who_comes_later_has_a_time_of_its_own() -> None:
    delay = Delay(0.05)
    loop = asyncio.get_running_loop()
    heard: list[float] = []
    began = loop.time()
    delay.after(lambda: heard.append(loop.time() - began))
    await asyncio.sleep(0.03)
    delay.after(lambda: heard.append(loop.time() - began))
    await asyncio.sleep(0.12)
    assert heard[0] >= 0.049
    assert heard[1] >= 0.079


async def test_whoever_is_called_may_wait_again() -> None:
    delay, heard = Delay(0.01), list[str]()

    def again() -> None:
        heard.append("once")
        delay.after(lambda: heard.append("twice"))

    delay.after(again)
    await asyncio.sleep(0.06)
    assert heard == ["once", "twice"]


async def test_those_who_were_called_off_are_not_kept_whoever_waits_before_them() -> None:
    delay = Delay(60)
    delay.after(lambda: None)
    for _ in range(1000):
        delay.after(lambda: None).cancel()
    assert delay.waiting == 1
    assert len(delay._line) < 100


async def test_calling_off_again_or_too_late_changes_nothing() -> None:
    delay, heard = Delay(0.01), list[str]()
    one, other = delay.after(lambda: heard.append("one")), delay.after(lambda: heard.append("other"))
    other.cancel()
    other.cancel()
    await asyncio.sleep(0.05)
    one.cancel()
    assert (heard, delay.waiting) == (["one"], 0)
