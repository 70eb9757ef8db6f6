"""Killed where several processes answer: a worker, the keeper of the books, or all of them."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.crash.gateways import Launcher
from tests.crash.several import several


@pytest.mark.timeout(300)
def test_several_processes_of_which_any_are_killed_lose_nothing_and_count_nothing_twice(
    launcher: Launcher, tmp_path: Path, seed: int
) -> None:
    with several(launcher, tmp_path, seed) as under_load:
        while under_load.result.kills < 20:
            under_load.live()
        result = under_load.finish()
    print(result)
    assert result.complete > 200
    assert result.begun > 10
    assert result.interrupted > 10
    assert result.written > 50
    assert statistics.median(result.starts_s) < 2
    assert statistics.median(result.replaced_s) < 2
