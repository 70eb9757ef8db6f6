"""The gateway with one of its promises switched off, to see what that promise costs. For the benchmark alone.

`python -m benchmarks.without sync|inflight|records serve ...` runs `gemmapy serve ...`. `sync`: a commit that returned
may still be lost with the power. `inflight`: no row before the first byte. `records`: nothing is written at all.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import Any

from sqlalchemy import Engine, event

from gemmapy.cli.main import main
from gemmapy.storage import store
from gemmapy.storage.store import Store


def _done(value: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def switch_off(promise: str) -> None:
    """Takes a promise out of this process."""
    if promise == "sync":
        open_writer = store.open_writer

        def open_unsynced(*given: Any, **named: Any) -> Engine:
            engine = open_writer(*given, **named)
            event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
            return engine

        store.open_writer = open_unsynced
    elif promise == "inflight":
        finish = Store.finish
        Store.admit = lambda self, intent: _done(None)  # noqa: ARG005
        Store.finish = lambda self, outcome, *, admitted: finish(self, outcome, admitted=False)  # noqa: ARG005
    elif promise == "records":
        numbers = itertools.count(1)
        Store.admit = lambda self, intent: _done(None)  # noqa: ARG005
        Store.finish = lambda self, outcome, *, admitted: _done(next(numbers))  # noqa: ARG005
    else:
        raise SystemExit(f"{promise!r} is no promise: sync, inflight or records")


if __name__ == "__main__":
    switch_off(sys.argv.pop(1))
    sys.argv[0] = "gemmapy"
    main()
