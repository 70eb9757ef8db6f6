"""Calls back after a fixed time, unless called off: of many that wait equally long, with one timer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_SPARE = 64


class Waiting:
    """One who waits."""

    __slots__ = ("_delay", "call", "due_s")

    def __init__(self, delay: Delay, due_s: float, call: Callable[[], object]) -> None:
        self._delay = delay
        self.due_s = due_s
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """It is not called any more; again, or after the call, changes nothing."""
        if self.call is not None:
            self.call = None
            self._delay.waiting -= 1


class Delay:
    """Of one event loop, the one that runs when it is first used. A timer of the loop's own costs each request several
    times what this does, and nearly all of them are called off."""

    def __init__(self, seconds: float) -> None:
        self.waiting = 0
        """How many have neither been called nor called off."""
        self._seconds = seconds
        self._line: deque[Waiting] = deque()
        """Those who wait in their order, and between them some who were called off."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_timed = False

    def after(self, call: Callable[[], object]) -> Waiting:
        """Has `call` called once the time is over."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        waiting = Waiting(self, loop.time() + self._seconds, call)
        self.waiting += 1
        self._line.append(waiting)
        if len(self._line) > 2 * self.waiting + _SPARE:
            self._line = deque(one for one in self._line if one.call is not None)
        if not self._is_timed:
            self._is_timed = True
            loop.call_at(waiting.due_s, self._look)
        return waiting

    def _look(self) -> None:
        assert self._loop is not None
        now_s = self._loop.time()
        while self._line and (self._line[0].call is None or self._line[0].due_s <= now_s):
            waiting = self._line.popleft()
            if waiting.call is not None:
                call = waiting.call
                waiting.cancel()
                call()
        self._is_timed = bool(self._line)
        if self._line:
            self._loop.call_at(self._line[0].due_s, self._look)
