"""Folders that are on disk: a file that was synced is only there after a power loss if its name was, too.

Called wherever a file or folder is made or renamed whose loss would matter; SQLite does the same for its own.
"""

from __future__ import annotations

import os
from pathlib import Path


def make(folder: Path) -> None:
    """Makes a folder and its parents, where they are missing, so that a power loss takes none of them away again."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync(one.parent)


def sync(folder: Path) -> None:
    """Returns once the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
