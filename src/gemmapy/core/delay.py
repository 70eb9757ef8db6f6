"""Calls back after a fixed time, unless called off: of many that wait equally long, with one timer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Waiting:
    """One who waits."""

    __slots__ = ("call", "due_s")

    def __init__(self, due_s: float, call: Callable[[], object]) -> None:
        self.due_s = due_s
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """It is not called any more."""
        self.call = None


class Delay:
    """Of one event loop, the one that runs when it is first used. A timer of the loop's own costs each request several
    times what this does, and nearly all of them are called off."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._line: deque[Waiting] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_timed = False

    def after(self, call: Callable[[], object]) -> Waiting:
        """Has `call` called once the time is over."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        line = self._line
        while line and line[0].call is None:
            line.popleft()
        waiting = Waiting(loop.time() + self._seconds, call)
        line.append(waiting)
        if not self._is_timed:
            self._is_timed = True
            loop.call_at(waiting.due_s, self._look)
        return waiting

    def _look(self) -> None:
        assert self._loop is not None
        self._is_timed = False
        line, now_s = self._line, self._loop.time()
        while line and (line[0].call is None or line[0].due_s <= now_s):
            call = line.popleft().call
            if call is not None:
                call()
        if line and not self._is_timed:
            self._is_timed = True
            self._loop.call_at(line[0].due_s, self._look)
