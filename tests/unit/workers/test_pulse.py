"""Who hangs is told from who could not have spoken."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator

import pytest

from gemmapy.workers.pulse import Condition, Pulse, beat_s, beating, condition


def seen(state: str, used_s: float = 0, others: str = "S") -> Condition:
    return Condition(state, frozenset({state, *others}), used_s)


def silent(*conditions: Condition | None, passed_s: float = 1) -> float | None:
    """How long a process counts as silent that has spoken once and then was seen so, once a second."""
    told = [*conditions]
    pulse = Pulse(1, lambda _pid: told.pop(0))
    pulse.beat()
    for _ in conditions:
        pulse.silence(passed_s)
    return pulse.silent_s


@pytest.mark.parametrize(
    ("conditions", "expected_s"),
    [
        pytest.param([seen("S")] * 3, 3, id="waits for what does not come"),
        pytest.param([seen("T", others="T")] * 3, 3, id="stopped by a signal"),
        pytest.param([seen("R", at_s) for at_s in (5, 6, 7)], 2, id="computes: from the second look on"),
        pytest.param([seen("S", at_s, "R") for at_s in (5, 6, 7)], 2, id="another thread of it computes"),
        pytest.param([seen("R", 5), seen("R", 5.25), seen("R", 5.25)], 0.25, id="gets hardly any processor"),
        pytest.param([seen("R", 5), seen("R", 9)], 1, id="several threads at once count once"),
        pytest.param([seen("D")] * 3, 0, id="waits for a disk"),
        pytest.param([seen("S", others="D")] * 3, 0, id="a thread that may have the interpreter waits for a disk"),
        pytest.param([seen("t", others="t")] * 3, 0, id="held by a debugger"),
        pytest.param([None] * 3, 3, id="nobody tells how it is"),
    ],
)
def test_what_counts_of_a_silence_is_when_it_could_have_spoken(
    conditions: list[Condition | None], expected_s: float
) -> None:
    assert silent(*conditions) == expected_s


def test_who_has_never_spoken_may_still_open_its_books() -> None:
    pulse = Pulse(1, lambda _pid: seen("S"))
    pulse.silence(100)
    assert pulse.silent_s is None


def test_who_has_said_that_it_ends_may_close_its_books() -> None:
    pulse = Pulse(1, lambda _pid: seen("S"))
    pulse.beat()
    pulse.end()
    pulse.silence(100)
    assert pulse.silent_s is None


def test_who_speaks_again_begins_anew() -> None:
    conditions = [seen("R", at_s) for at_s in (1, 2, 9, 10)]
    pulse = Pulse(1, lambda _pid: conditions.pop(0))
    pulse.beat()
    pulse.silence(1)
    pulse.silence(1)
    pulse.beat()
    assert pulse.silent_s == 0
    pulse.silence(1)
    assert pulse.silent_s == 0, "what it used while it spoke is not held against it"
    pulse.silence(1)
    assert pulse.silent_s == 1


@pytest.fixture
def process() -> Generator[subprocess.Popen[str]]:
    """Waits for a line, and computes from then on."""
    code = "print(flush=True); input()\nwhile True: pass"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_kernel_tells_how_a_process_is(process: subprocess.Popen[str]) -> None:
    def becomes(state: str) -> Condition:
        deadline = time.monotonic() + 10
        while True:
            now = condition(process.pid)
            assert now is not None
            if now.state == state:
                return now
            assert time.monotonic() < deadline, now
            time.sleep(0.005)

    becomes("S")
    os.kill(process.pid, signal.SIGSTOP)
    assert becomes("T").states == {"T"}
    os.kill(process.pid, signal.SIGCONT)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    before = becomes("R")
    deadline = time.monotonic() + 10
    while becomes("R").used_s <= before.used_s:
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    assert condition(process.pid) is None


async def test_a_pulse_beats_while_the_event_loop_turns() -> None:
    beats: asyncio.Queue[str] = asyncio.Queue()
    async with beating(lambda: beats.put_nowait("alive"), 0.01):
        for _ in range(3):
            await beats.get()
    while not beats.empty():
        beats.get_nowait()
    async with beating(lambda: beats.put_nowait("nobody listens"), beat_s(0)):
        await asyncio.sleep(0.03)
    assert beats.empty()


@pytest.mark.parametrize(("timeout_s", "expected_s"), [(0, 0), (1, 0.2), (5, 1), (60, 1)])
def test_several_beats_are_missing_before_anybody_is_killed(timeout_s: float, expected_s: float) -> None:
    assert beat_s(timeout_s) == expected_s
