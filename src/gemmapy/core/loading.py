"""Loading code without looking for garbage in it.

What modules are made of stays, and there is much of it: Python's collector, which walks through all objects again and
again while they become more, would take a fifth of a start.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def loading() -> Generator[None]:
    """For the time of imports: collects nothing meanwhile, and never walks through what is there at the end.

    In every thread. What was garbage by then stays, a few hundred objects where only modules were loaded.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@contextmanager
def without(package: str) -> Generator[None]:
    """For the time of an import, whatever is imported finds `package` not to be installed.

    For what others load in case one has a use for it. Changes nothing where it has been loaded.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # pyright: ignore[reportArgumentType] - what Python has for this; its type leaves it out
    try:
        yield
    finally:
        del sys.modules[package]
