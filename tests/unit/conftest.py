"""A store of its own for each test that wants one, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from tests.support.clock import FixedClock

from gemmapy.storage import people
from gemmapy.storage.store import Store


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Generator[Store]:
    """With two users: 1, ada, an admin; 2, bob."""
    with Store.open(tmp_path / "data", clock) as opened:
        for name, is_admin in (("ada", True), ("bob", False)):
            opened.write(lambda c, n=name, a=is_admin: people.create_user(c, n, None, is_admin=a, now=clock.now()))
        yield opened
