"""Work on the books that a process of its own does and may die of: what `launcher.py` can be told to run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

JOBS: dict[str, Callable[[Path], None]] = {}
