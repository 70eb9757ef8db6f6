"""What the crash tests share: the process that forks gateways."""

from __future__ import annotations

import os
import random
from collections.abc import Generator

import pytest

from tests.crash.gateways import Launcher


@pytest.fixture(scope="module")
def launcher() -> Generator[Launcher]:
    with Launcher() as started:
        yield started


@pytest.fixture
def seed() -> int:
    """Another one each time; a test that fails prints it, and `GEMMAPY_CRASH_SEED` brings it back."""
    return int(os.environ.get("GEMMAPY_CRASH_SEED") or random.SystemRandom().randrange(1_000_000))
