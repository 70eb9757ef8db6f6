"""Killed at every step of a request's life, and of the start after it: no promise is broken, wherever it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.campaign import campaign
from tests.crash.failpoints import REQUEST, START
from tests.crash.gateways import Launcher


@pytest.mark.timeout(300)
def test_a_gateway_that_is_killed_at_any_step_loses_nothing_and_counts_nothing_twice(
    launcher: Launcher, tmp_path: Path, seed: int
) -> None:
    plan = [*REQUEST] * 4
    random.Random(seed).shuffle(plan)
    with campaign(launcher, tmp_path, seed) as under_load:
        for step in plan:
            under_load.kill(step)
        for step in [*START] * 2:
            under_load.kill_in_start(step)
        result = under_load.finish()
    print(result)
    assert result.kills >= len(plan) + 4 * len(START)
    assert {step for step in result.by_step if ", in a start" not in step} >= {*REQUEST}
    assert result.complete > 200
    assert result.begun > 50
    assert result.interrupted > 50
