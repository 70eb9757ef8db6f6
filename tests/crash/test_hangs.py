"""Processes that live and do nothing are found out and replaced; those that only seem so are left alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.crash import books
from tests.crash.gateways import Launcher
from tests.crash.several import ERRORS, STOPPED, Several, kill, several

LONG_S = 2.5
"""More than a process may be silent in these tests, twice over."""


@pytest.fixture
def under_load(launcher: Launcher, tmp_path: Path, seed: int) -> Generator[Several]:
    with several(launcher, tmp_path, seed) as made:
        yield made


def test_a_process_that_is_stopped_is_replaced_and_nothing_is_lost_or_counted_twice(under_load: Several) -> None:
    under_load.start()
    for who in STOPPED:
        under_load.kill(who)
    under_load.crash("supervisor")
    result = under_load.finish()
    print(result)
    assert result.meanwhile > 0
    assert result.interrupted > 0
    assert max(result.found_s) < 10
    said = under_load.gateway.log.read_text()
    assert said.count("did not answer: it is stopped") == 2


@pytest.mark.parametrize("who", ["worker", "keeper"])
def test_a_process_that_is_stopped_does_not_keep_a_gateway_from_ending(under_load: Several, who: str) -> None:
    under_load.start()
    under_load.go()
    time.sleep(0.2)
    kill(under_load.pids(who)[0], signal.SIGSTOP)
    began = time.monotonic()
    under_load.gateway.signal(signal.SIGTERM)
    assert under_load.gateway.wait() == 0
    assert time.monotonic() - began < 8
    under_load.pause()
    rows, running = books.ledger(under_load.gateway.data / "gemmapy.db")
    books.check(rows, running, under_load.load.seen, ERRORS)
    under_load.finish(hung=1)


@pytest.mark.parametrize("step", ["between two pieces", "keeper: row taken"])
def test_an_event_loop_that_does_not_come_back_is_replaced_and_where_it_was_is_told(
    under_load: Several, step: str
) -> None:
    under_load.start(step, hang_s=3600)
    under_load.kill_at(step)
    under_load.crash("supervisor")
    under_load.finish(hung=1)
    said = under_load.gateway.log.read_text()
    assert "did not answer: it computes without a pause" in said
    assert "in compute" in said, "the frame that does not return"


@pytest.mark.parametrize("step", ["start: slot taken", "in-flight row committed, nobody told"])
def test_a_keeper_whose_books_take_long_is_left_alone(under_load: Several, step: str) -> None:
    """They are opened and brought up to date before its event loop begins, and written in a thread beside it."""
    began = time.monotonic()
    under_load.start(step, hang_s=LONG_S)
    under_load.go()
    until = began + LONG_S + 1
    time.sleep(max(0.5, until - time.monotonic()))
    under_load.pause()
    under_load.look()
    assert under_load.deaths() == []
    assert all(one.is_complete or one.kind.leaves for one in under_load.load.seen)
    assert under_load.result.complete > 0


@pytest.mark.parametrize("who", ["all", "supervisor"])
def test_processes_whose_supervisor_did_not_run_either_are_left_alone(under_load: Several, who: str) -> None:
    under_load.start()
    under_load.go()
    supervisor = under_load.gateway.pid
    assert supervisor is not None
    others = under_load.pids("") if who == "all" else []
    time.sleep(0.3)
    for pid in others:
        kill(pid, signal.SIGSTOP)
    time.sleep(0.3)  # so that all they have said is heard
    kill(supervisor, signal.SIGSTOP)
    time.sleep(LONG_S)
    for pid in (supervisor, *others):  # it first: it must not think that the others are late
        kill(pid, signal.SIGCONT)
    time.sleep(0.3)
    under_load.pause()
    under_load.look()
    assert under_load.deaths() == []
    assert all(one.is_complete or one.kind.leaves for one in under_load.load.seen)
    assert under_load.result.complete > 10
