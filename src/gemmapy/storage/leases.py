"""Writer slots: which process writes, and whether it still lives.

Each writing process holds a small number, its slot, by an advisory lock on `writers/<slot>` in the data folder. The
kernel lets go of the lock when the process ends, however it ends, so a slot that can be taken has no living owner.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gemmapy.core.errors import ConfigurationError

SLOTS = 256


class Lease:
    """A slot that this process holds until `release`, or until it ends."""

    def __init__(self, slot: int, descriptor: int) -> None:
        self.slot = slot
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


def take_any(data_dir: Path) -> Lease:
    """The lowest free slot. Raises ConfigurationError where all are taken."""
    for slot in range(SLOTS):
        lease = take(data_dir, slot)
        if lease is not None:
            return lease
    raise ConfigurationError(f"All {SLOTS} writer slots of {data_dir} are taken.", hint="End some of its processes.")


def take(data_dir: Path, slot: int) -> Lease | None:
    """The given slot, or None where a living process holds it."""
    folder = data_dir / "writers"
    folder.mkdir(exist_ok=True)
    # Python opens files close-on-exec, so a child process cannot inherit the lock and outlive us with it.
    descriptor = os.open(folder / str(slot), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Lease(slot, descriptor)
