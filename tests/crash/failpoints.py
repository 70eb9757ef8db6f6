"""Where a gateway can be told to kill itself or to hang: every step of a request, of the start, of work on the books.

A step is a function of the gateway, by its place, and before or after its call. `arm` replaces that function in this
process, which is why production code knows nothing of it; where one is renamed, `arm` fails and so does the test.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gemmapy.storage.works import Admit, Call, Finish


def _always(*_: Any) -> bool:
    return True


def _has(kind: type) -> Callable[..., bool]:
    """Whether a batch of the writer has such work."""
    return lambda _writer, _connection, batch: any(isinstance(work, kind) for work in batch)


@dataclass(frozen=True)
class Step:
    """A moment in the life of a gateway."""

    module: str
    name: str
    side: Literal["before", "after"]
    counts: Callable[..., bool] = _always
    """Which calls count, by their arguments."""


REQUEST: dict[str, Step] = {
    "in-flight row queued": Step("gemmapy.storage.store", "Store.admit", "after"),
    "in-flight row written, not committed": Step("gemmapy.storage.ledger", "write", "after", lambda *a: bool(a[2])),
    "in-flight row committed, nobody told": Step("gemmapy.storage.writer", "Writer._commit", "after", _has(Admit)),
    "upstream not asked yet": Step(
        "gemmapy.upstreams.transport", "Transport.send", "before", lambda *a: a[1] == "POST"
    ),
    "upstream has begun to answer": Step(
        "gemmapy.upstreams.transport", "Transport.send", "after", lambda *a: a[1] == "POST"
    ),
    "head not there yet": Step("gemmapy.api.direct", "Direct.start", "before"),
    "head there, not sent": Step("gemmapy.api.direct", "Direct.start", "after"),
    "piece not sent yet": Step("gemmapy.api.direct", "Direct.send", "before"),
    "between two pieces": Step("gemmapy.api.direct", "Direct.send", "after"),
    "a turn's writes are held": Step("gemmapy.core.outbox", "Outbox.flush", "before"),
    "a turn's writes are out": Step("gemmapy.core.outbox", "Outbox.flush", "after"),
    "answer complete, not recorded": Step("gemmapy.gateway.record", "Record.write", "before"),
    "client left, not recorded": Step("gemmapy.gateway.record", "Record.write_unwatched", "before"),
    "metric row queued": Step("gemmapy.storage.store", "Store.finish", "after"),
    "metric row written, rollups not": Step("gemmapy.storage.rollups", "add", "before"),
    "in the middle of the rollups": Step("gemmapy.storage.rollups", "_count", "after"),
    "rollups written, not committed": Step("gemmapy.storage.rollups", "add", "after"),
    "metric row committed, nobody told": Step("gemmapy.storage.writer", "Writer._commit", "after", _has(Finish)),
    "recorded, last byte not sent": Step("gemmapy.api.direct", "Direct.end", "before"),
    "last byte on its way": Step("gemmapy.api.direct", "Direct.end", "after"),
    "answer not kept yet": Step("gemmapy.gateway.cache", "AnswerCache.put", "before"),
    "answer kept": Step("gemmapy.gateway.cache", "AnswerCache.put", "after"),
    "followers told": Step("gemmapy.gateway.cache", "AnswerCache.land", "after"),
}
"""Of a request, in the order of its life."""

START: dict[str, Step] = {
    "start: slot taken": Step("gemmapy.storage.leases", "take_any", "after"),
    "start: what was left is found": Step("gemmapy.storage.ledger", "interrupted", "after"),
    "start: what was left is written, not committed": Step("gemmapy.storage.rollups", "add", "after"),
    "start: what was left is recorded": Step("gemmapy.storage.store", "Store.recover", "after"),
    "start: everything built": Step("gemmapy.serving", "server_config", "after"),
}
"""Of a start that finds what another left."""

FIRST_START: dict[str, Step] = {
    "first start: schema begun": Step("gemmapy.storage.schema", "create", "before"),
    "first start: schema made, not committed": Step("gemmapy.storage.schema", "create", "after"),
    "first start: schema committed": Step("gemmapy.storage.migrate", "_make", "after"),
    "first start: secret written, not in place": Step("os", "link", "before"),
    "first start: secret in place": Step("gemmapy.app", "load_secret", "after"),
    "first start: admin not made": Step("gemmapy.gateway.auth", "Auth.first_admin", "before"),
    "first start: admin made, nobody told": Step("gemmapy.gateway.auth", "Auth.first_admin", "after"),
}

UPGRADE: dict[str, Step] = {
    "upgrade: copy made, not in place": Step("pathlib", "Path.rename", "before"),
    "upgrade: copy in place": Step("gemmapy.storage.migrate", "copy_database", "after"),
    "upgrade: schema made, rollups not": Step("gemmapy.storage.recount", "rebuild", "before"),
    "upgrade: not committed": Step("gemmapy.storage.recount", "rebuild", "after"),
    "upgrade: committed": Step("gemmapy.storage.migrate", "_upgrade", "after"),
}

WORK: dict[str, Step] = {
    "write done, not committed": Step("gemmapy.storage.writer", "Writer._call", "after"),
    "write committed, nobody told": Step("gemmapy.storage.writer", "Writer._commit", "after", _has(Call)),
}
"""Of any work on the books that is not a request's."""

WORKER, KEEPER = "gemmapy.workers.link", "gemmapy.workers.keeper"
HANDED: dict[str, Step] = {
    "worker: row handed over": Step(WORKER, "Link._hand_over", "after"),
    "worker: told that it is written, has told nobody": Step(WORKER, "Link._answered", "before"),
    "worker: turn to write asked for": Step(WORKER, "Link._borrow", "after"),
    "worker: turn to write not given back": Step(WORKER, "Link._give_back", "before"),
    "keeper: row not taken": Step(KEEPER, "_Worker._hand_in", "before"),
    "keeper: row taken": Step(KEEPER, "_Worker._hand_in", "after"),
    "keeper: rows written, worker not told": Step(KEEPER, "_Worker._tell", "before"),
    "keeper: worker told": Step(KEEPER, "_Worker._tell", "after"),
    "keeper: turn to write lent": Step(KEEPER, "_Worker._lend", "after"),
    "keeper: turn to write not taken back": Step(KEEPER, "_Worker._take_back", "before"),
}
"""Where there are several processes: between a worker and the keeper of the books."""

STEPS = REQUEST | START | FIRST_START | UPGRADE | WORK | HANDED


def arm(step_name: str, hit: int, hang_s: float | None = None) -> None:
    """From here on this process ends by SIGKILL when it comes to the step for the `hit`th time, or computes for so long
    and goes on; of it and those that it forks, whichever does so first, and no other."""
    step = STEPS[step_name]
    last_word, writing = os.pipe()
    os.write(writing, b"x")
    os.set_blocking(last_word, False)
    owner: Any = importlib.import_module(step.module)
    *path, name = step.name.split(".")
    for part in path:
        owner = getattr(owner, part)
    function = getattr(owner, name)
    left = hit

    def come(*args: Any) -> None:
        nonlocal left
        left -= step.counts(*args)
        if not left:
            with contextlib.suppress(BlockingIOError):
                os.read(last_word, 1)
                if hang_s is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                compute(hang_s or 0)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waited(*args: Any, **named: Any) -> Any:
            if step.side == "before":
                come(*args)
            result = await function(*args, **named)
            if step.side == "after":
                come(*args)
            return result

        setattr(owner, name, waited)
        return

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        if step.side == "before":
            come(*args)
        result = function(*args, **named)
        if step.side == "after":
            come(*args)
        return result

    setattr(owner, name, called)


def compute(seconds: float) -> None:
    """Does nothing, without a pause."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        pass
