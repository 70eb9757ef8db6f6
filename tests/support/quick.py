"""What makes hundreds of tests with a database and a password each affordable. Nothing of it changes what they check.

- An empty folder gets a copy of a database that was migrated once in this run, before the store opens it.
- Passwords are hashed by the same argon2id at its lowest cost; `REAL_HASHER` is the one that users get.
- Temporary files are in memory where the machine has a place for that, so that commits do not wait for a disk. They
  are still synced: what counts the syncs (test_books.py) counts system calls.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine

from gemmapy.core.clock import SystemClock
from gemmapy.gateway import credentials
from gemmapy.storage import engine, migrate, store

REAL_HASHER = credentials._hasher
_MEMORY = Path("/dev/shm")
_PATIENT = pytest.mark.timeout(300)
_RELEASE = (migrate.HEAD, migrate.__file__)


def install() -> None:
    """For every test from here on. Subprocesses are as users have them."""
    credentials._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    if os.access(_MEMORY, os.W_OK | os.X_OK):
        tempfile.tempdir = str(_MEMORY)
    template: list[bytes] = []

    def open_writer(path: Path) -> Engine:
        # Where a test pretends to be another release, its migrations are what it is about.
        if not path.exists() and (migrate.HEAD, migrate.__file__) == _RELEASE:
            if not template:
                template.append(_migrated())
            _put(template[0], path)
        return engine.open_writer(path)

    store.open_writer = open_writer


def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / engine.DATABASE_NAME
        opened = engine.open_writer(path)
        try:
            migrate.migrate(opened, path, SystemClock().now())
        finally:
            opened.dispose()  # the last connection takes the log into the file
        return path.read_bytes()


def _put(content: bytes, path: Path) -> None:
    """Whole or not at all, and only where there is none: another thread or process may be opening the same folder."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def few_or_many(few: int, many: int) -> pytest.MarkDecorator:
    """Gives a property's test the number of its `examples`: a few each time, many where there is time."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=[pytest.mark.slow, _PATIENT])])
