"""Processes from outside, as the kernel tells of them in `/proc`: which there are, and who holds which connection."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ESTABLISHED = "01"


def children(pid: int, name: str = "") -> list[int]:
    """The living processes of a parent whose name begins so, the eldest first."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # the parent has ended
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if lives(int(child)) and Path(f"/proc/{child}/comm").read_text().startswith(name):
                    found.append(int(child))
    return found


def lives(pid: int) -> bool:
    """Whether it runs, or could; one that has ended and that nobody has asked after does not."""
    return state(pid) not in ("", "Z", "X")


def state(pid: int) -> str:
    """The kernel's letter for it, `T` for one that is stopped; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def connections(pid: int, port: int) -> set[int]:
    """The clients' ports of the connections to `port` that a process holds."""
    held: set[str] = set()
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(os.readlink(file))
    found: set[int] = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        (
            _,
            local,
            remote,
            status,
            *_,
        ) = line.split()
        inode = line.split()[9]
        if status == ESTABLISHED and int(local.split(":")[1], 16) == port and f"socket:[{inode}]" in held:
            found.add(int(remote.split(":")[1], 16))
    return found
