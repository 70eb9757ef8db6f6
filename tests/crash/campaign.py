"""A campaign: a gateway under load, killed and started again, and after each kill its books held against its clients.

The tests run short ones, `make torture` long ones.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import books
from tests.crash.gateways import Gateway, Launcher
from tests.crash.load import Load, upstream_for

KILLED = -9
CLIENTS = 8


@dataclass
class Result:
    """What came of a campaign."""

    kills: int = 0
    requests: int = 0
    complete: int = 0
    """Answers that a client saw complete."""
    begun: int = 0
    """Answers that a client saw a byte of, and no more than a part."""
    interrupted: int = 0
    starts_s: list[float] = field(default_factory=list[float])
    """How long each start after a kill took."""
    by_step: dict[str, int] = field(default_factory=dict[str, int])


class Campaign:
    """One data folder, its upstream and its clients."""

    def __init__(self, gateway: Gateway, load: Load, chance: random.Random, scratch: Path) -> None:
        self.gateway = gateway
        self.load = load
        self.result = Result()
        self._chance = chance
        self._remains = books.Remains(scratch)

    def kill(self, step: str | None) -> None:
        """Starts it and lets clients ask until it dies: by its own hand at a step, or without one at any moment."""
        hit = self._chance.randint(1, 8)
        if not self._start(step, hit):
            return  # a step that the recovery of what was left has, too
        self.load.go(self.gateway.port)
        if step is None:
            time.sleep(self._chance.uniform(0.01, 0.25))
            self.gateway.kill()
        else:
            status = self.gateway.wait()
            assert status == KILLED, f"{step}: ended with {status}"
        self._look(step or "any moment")

    def kill_in_start(self, step: str) -> None:
        """Kills it under load, and the next one at a step of its start, before it serves."""
        self.kill(None)
        assert not self._start(step, 1), f"{step}: served"

    def finish(self) -> Result:
        """Starts it once more, and looks at the books for the last time."""
        assert self._start(None, 1)
        assert books.audit_of(self.gateway.data) == []
        self._remains.close()
        return self.result

    def _look(self, step: str) -> None:
        """What the dead one left, before anything else touches it."""
        self.load.pause()
        self.result.kills += 1
        self.result.by_step[step] = self.result.by_step.get(step, 0) + 1
        rows, running = self._remains.take(self.gateway.data)
        books.check(rows, running, self.load.seen)
        assert self._remains.audit() == []

    def _start(self, step: str | None, hit: int) -> bool:
        """Starts it, armed where there is a step, and looks at the books before the clients go on; False where it died
        before it served."""
        status = self.gateway.start(step, hit)
        if status is not None:
            assert (status, step is not None) == (KILLED, True), self.gateway.log.read_text()[-2000:]
            self._look(f"{step}, in a start")
            return False
        self.result.starts_s.append(self.gateway.start_s)
        rows, running = books.ledger(self.gateway.data / "gemmapy.db")
        books.check(rows, running, self.load.seen)
        assert not running, "what was in flight has not been recovered"
        seen = self.load.seen
        assert {one.status for one in seen} <= {0, 200}, "a request was refused"
        self.result.requests = len(seen)
        self.result.complete = sum(one.is_complete for one in seen)
        self.result.begun = sum(one.status > 0 and not one.is_complete for one in seen)
        self.result.interrupted = sum(row["error_code"] == "interrupted" for row in rows)
        return True


@contextmanager
def campaign(launcher: Launcher, folder: Path, seed: int) -> Iterator[Campaign]:
    """A gateway that is set up, and clients that wait to be let loose."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    with upstream_for(random.Random(seed)) as upstream:
        # A machine that is busy with other things is no trouble of the upstream's.
        patient = {f"GEMMAPY_{name}_TIMEOUT_S": "60" for name in ("CONNECT", "FIRST_BYTE", "IDLE")}
        gateway = Gateway(launcher, folder / "data", upstream.url, **patient)
        try:
            assert gateway.start() is None, gateway.log.read_text()
            gateway.kill()
            with Load(CLIENTS, gateway.key, chance) as load:
                yield Campaign(gateway, load, chance, folder / "scratch")
        finally:
            gateway.close()
