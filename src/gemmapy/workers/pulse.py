"""Signs of life: a process says every so often that its event loop turns, and its supervisor counts for how long it
says nothing.

What counts is time in which it could have spoken. A machine that was suspended, a supervisor that did not run either, a
process that gets no processor, waits for a disk or for memory, or is held by a debugger: killing it would help nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST_BEAT_S = 1.0
BEATS = 5
"""At least so many are missing before a process is taken for one that hangs."""
_STATE, _USER, _SYSTEM = 0, 11, 12
"""Places in `/proc/<pid>/stat`, behind the name."""


def beat_s(hang_timeout_s: float) -> float:
    """How often a process speaks where it may be silent for so long."""
    return min(LONGEST_BEAT_S, hang_timeout_s / BEATS)


@contextlib.asynccontextmanager
async def beating(beat: Callable[[], None], every_s: float) -> AsyncGenerator[None]:
    """Calls `beat` again and again while this event loop turns; never where `every_s` is 0."""

    async def go_on() -> None:
        while every_s:
            beat()
            await asyncio.sleep(every_s)

    task = asyncio.create_task(go_on(), name="pulse")
    try:
        yield
    finally:
        task.cancel()


@dataclass(frozen=True, slots=True)
class Condition:
    """What the kernel says of a process at one moment."""

    state: str
    """Its first thread's, which runs the event loop; a letter of `/proc/<pid>/stat`."""
    states: frozenset[str]
    """Of all its threads, any of which may keep the interpreter from the first."""
    used_s: float
    """The processor's time that all of them have had."""


def condition(pid: int) -> Condition | None:
    """None where the kernel tells nothing: it is gone, or this is not Linux."""
    try:
        own = _fields(Path(f"/proc/{pid}/stat"))
        threads = [_fields(task / "stat")[_STATE] for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return None
    used_s = (int(own[_USER]) + int(own[_SYSTEM])) / os.sysconf("SC_CLK_TCK")
    return Condition(own[_STATE], frozenset(threads), used_s)


def _fields(stat: Path) -> list[str]:
    return stat.read_text().rpartition(")")[2].split()


class Pulse:
    """One life of a process, as its supervisor hears it."""

    def __init__(self, pid: int, look: Callable[[int], Condition | None] = condition) -> None:
        self._pid = pid
        self._look = look
        self._used_s: float | None = None
        self.silent_s: float | None = None
        """For how long it could have spoken and has not; None: it need not, before and after its event loop runs."""
        self.symptom = ""
        """What it did instead, the last time that it was silent, in words."""

    def beat(self) -> None:
        """It has spoken."""
        self.silent_s = 0.0
        self._used_s = None

    def end(self) -> None:
        """It will not speak any more, and is not expected to."""
        self.silent_s = None

    def silence(self, passed_s: float) -> None:
        """It has not, and `passed_s` have passed, during which its supervisor was there to hear."""
        if self.silent_s is not None:
            self.silent_s += self._counted_s(passed_s)

    def _counted_s(self, passed_s: float) -> float:
        now = self._look(self._pid)
        if now is None:
            self.symptom = "it says nothing"
            return passed_s
        before_s, self._used_s = self._used_s, now.used_s
        if now.state == "t" or "D" in now.states:
            return 0  # a debugger holds it, or it waits for a disk, or for memory that was swapped out
        if "R" not in now.states:
            self.symptom = "it is stopped" if now.state == "T" else "it waits for something"
            return passed_s
        # It runs, or would if it were let: on a machine that has too much to do, what counts is what it got.
        self.symptom = "it computes without a pause"
        return 0 if before_s is None else min(passed_s, now.used_s - before_s)
