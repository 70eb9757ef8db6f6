"""Loading code without looking for garbage in it.

What modules are made of stays, and there is much of it: Python's collector, which walks through all objects again and
again while they become more, would take a fifth of a start.
"""

from __future__ import annotations

import gc
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
