"""Killed at any moment under load, a hundred times."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from tests.crash.campaign import campaign
from tests.crash.gateways import Launcher


@pytest.mark.timeout(300)
def test_a_gateway_that_is_killed_at_any_moment_loses_nothing_and_counts_nothing_twice(
    launcher: Launcher, tmp_path: Path, seed: int
) -> None:
    with campaign(launcher, tmp_path, seed) as under_load:
        for _ in range(100):
            under_load.kill(None)
        result = under_load.finish()
    print(result)
    assert result.kills == 100
    assert result.complete > 500
    assert statistics.median(result.starts_s) < 2
