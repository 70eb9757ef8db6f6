"""A campaign against a gateway of several processes: a worker, the keeper or all of them killed under load, or some of
them stopped, and each time the books held against what clients saw.

Beside what a gateway of one process promises (`campaign.py`): who was killed or stopped is replaced by itself, and
meanwhile the other workers end what they have begun and refuse nothing but for want of a keeper; what the dead one had
in flight is recorded, and what it held of queues and limits is free again; what is written besides requests is there
once it was said to be, and is not where it was refused.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

from tests.crash import books
from tests.crash.campaign import CLIENTS, KILLED
from tests.crash.failpoints import HANDED, REQUEST
from tests.crash.gateways import Gateway, Launcher
from tests.crash.load import Load, upstream_for
from tests.support.processes import children, connections, lives

SOME = (
    "worker",
    "keeper",
    "worker and keeper",
    "worker, and the next as it begins",
    "keeper, and the next as it begins",
)
STOPPED = ("worker, stopped", "keeper, stopped")
ALL = ("supervisor", "each by itself", "supervisor, and started again at once")
IN_START = "supervisor, as it begins"
ERRORS = ("interrupted", "storage_unavailable")
PATIENCE_S = 20.0
SETTINGS = {"GEMMAPY_PLACES": "6", "GEMMAPY_LIMIT_CONCURRENT": "100", "GEMMAPY_HANG_TIMEOUT_S": "1"}
"""Fewer places than clients, so that some wait; a limit that nobody reaches, so that somebody counts."""


@dataclass
class Result:
    """What came of a campaign."""

    by_kind: Counter[str] = field(default_factory=Counter[str])
    requests: int = 0
    complete: int = 0
    """Answers that a client saw complete."""
    begun: int = 0
    """Answers that a client saw a byte of, and no more than a part."""
    refused: int = 0
    """Requests that were answered with 503, for want of a keeper."""
    interrupted: int = 0
    meanwhile: int = 0
    """Answers of the other workers that were complete between a worker's death and its successor's first answer."""
    written: int = 0
    """Writes besides requests that were said to be there."""
    starts_s: list[float] = field(default_factory=list[float])
    """How long each start of all took."""
    replaced_s: list[float] = field(default_factory=list[float])
    """How long after each death all served again, without the pauses that one has to make which dies again soon."""
    found_s: list[float] = field(default_factory=list[float])
    """The same of those that were stopped, which have to be found out first."""

    @property
    def kills(self) -> int:
        return self.by_kind.total()


class Several:
    """One data folder, its upstream and its clients."""

    def __init__(self, gateway: Gateway, load: Load, chance: random.Random, scratch: Path, workers: int) -> None:
        self.gateway = gateway
        self.load = load
        self.result = Result()
        self._chance = chance
        self._remains = books.Remains(scratch)
        self._writes = Writes(gateway.key)
        self._workers = workers
        self._told_before = 0
        """Deaths that were told of before this life of the group."""
        self._first = 0
        """The first request since the clients were let loose the last time."""

    def live(self) -> None:
        """One life of the group: some of it killed, at a step or at any moment, and in the end all of it."""
        chance = self._chance
        if chance.random() < 0.08:
            self.kill_in_start()
        step = chance.choice([*HANDED, *REQUEST]) if chance.random() < 0.5 else None
        if not self.start(step):
            return  # a step that the recovery of what was left has, too
        if step is not None:
            self.kill_at(step)
        for _ in range(chance.randrange(4)):
            self.kill(chance.choice(SOME if chance.random() < 0.85 else STOPPED))
        self.kill_all(chance.choice(ALL))

    def kill_at(self, step: str) -> None:
        """Lets clients ask until the one process that comes to the step has killed itself, or was because it hung."""
        self.go()
        self._until(lambda: len(self.deaths()) > self._told_before, f"nobody came to {step!r}")
        self._wait_for_all(set(), time.monotonic(), self._told_before, self.result.replaced_s)
        self.pause()
        self._note(step)
        self.look()

    def kill(self, who: str) -> None:
        """Kills or stops some at any moment; the others go on, and whoever was killed or stopped is replaced."""
        workers, keepers = self.pids("worker"), self.pids("keeper")
        victims = [self._chance.choice(workers)] if who.startswith("worker") else []
        victims += keepers if "keeper" in who else []
        self.go()
        time.sleep(self._chance.uniform(0.01, 0.25))
        spared = {port for pid in {*workers} - {*victims} for port in connections(pid, self.gateway.port)}
        told_before, began = len(self.deaths()), time.monotonic()
        for pid in victims:
            kill(pid, signal.SIGSTOP if who in STOPPED else signal.SIGKILL)
        if "as it begins" in who:
            victims.append(self._successor(who.split(",")[0], {*workers, *keepers}))
            time.sleep(self._chance.uniform(0, 0.2))
            kill(victims[-1])
        times_s = self.result.found_s if who in STOPPED else self.result.replaced_s
        over = self._wait_for_all({*victims}, began, told_before, times_s)
        time.sleep(self._chance.uniform(0, 0.1))
        self.pause()
        self._note(who, len(victims))
        theirs = [one for one in self.load.seen[self._first :] if one.port in spared]
        for one in theirs:
            is_answered = one.is_complete or (one.status == 503 and ("keeper" in who or who in STOPPED))
            assert is_answered or one.kind.leaves, f"its worker lives and did not answer: {one}"
        if "keeper" not in who:
            self.result.meanwhile += sum(began < one.over_s < over for one in theirs if one.is_complete)
        self.look()

    def kill_all(self, how: str) -> None:
        """Kills them all at any moment, and looks at what they left, unless that is to be started again at once."""
        self.go()
        time.sleep(self._chance.uniform(0.01, 0.25))
        self.crash(how)

    def kill_in_start(self) -> None:
        """Kills the supervisor while it starts the others."""
        timer = threading.Timer(self._chance.uniform(0.01, 0.2), self._kill_supervisor)
        self.gateway.on_pid = timer.start
        status = self.gateway.start()
        self.gateway.on_pid = lambda: None
        timer.join()
        if status is None:
            self.crash("supervisor")  # it served by then
        else:
            assert status == KILLED, self._said()
            self._note(IN_START)

    def finish(self, hung: int = 0) -> Result:
        """Starts it once more, and looks at the books for the last time. `hung` hung beside those that were stopped."""
        assert self.start()
        self._remains.close()
        self.gateway.signal(signal.SIGTERM)
        assert self.gateway.wait() == 0, self._said()
        said = self.gateway.log.read_text()
        stopped = sum(self.result.by_kind[who] for who in STOPPED)
        found = said.count("a process has not answered for too long and is killed")
        assert found == stopped + hung, "who was well was taken for one that hangs"
        assert "a record was refused" not in said, said
        assert len(re.findall("Traceback", said)) == len(re.findall("Error: The .* could not start", said)), said
        return self.result

    def start(self, step: str | None = None, hang_s: float | None = None) -> bool:
        """Starts it, armed where there is a step to die or to hang at, and looks at the books before the clients go on;
        False where it did not come to serve."""
        self._told_before = len(self.deaths())
        status = self.gateway.start(step, self._chance.randint(1, 8), hang_s)
        if status is not None:
            assert step is not None, self._said()
            assert "The keeper could not start" in self._said(), self._said()
            self._note(f"{step}, in a start")
            return False
        self.result.starts_s.append(self.gateway.start_s)
        self.pause()
        self.look()
        return True

    def _kill_supervisor(self) -> None:
        assert self.gateway.pid is not None
        kill(self.gateway.pid)

    def crash(self, how: str) -> None:
        pids = self.pids("")
        if how == "each by itself":
            self._chance.shuffle(pids)
            for pid in pids[: self._chance.randint(1, len(pids))]:
                kill(pid)
        self.gateway.kill()
        self._note(how)
        if "at once" in how:
            return
        self._until(lambda: not any(map(lives, pids)), "a process outlives its supervisor")
        self.pause()
        rows, running = self._remains.take(self.gateway.data)
        books.check(rows, running, self.load.seen, ERRORS)
        assert self._remains.audit() == []

    def look(self) -> None:
        """Holds the books of the running gateway, whose clients pause, against what these saw."""
        path = self.gateway.data / "gemmapy.db"
        self._until(lambda: not books.ledger(path)[1], "what was in flight is not recorded")
        self._until(lambda: self._held() == [0, 0, 0], "nobody asks, and something is held", self._held)
        rows, running = books.ledger(path)
        seen = self.load.seen
        books.check(rows, running, seen, ERRORS)
        assert {one.status for one in seen} <= {0, 200, 503}, "a request was refused"
        self._writes.check(path)
        assert books.audit_of(self.gateway.data) == []
        self.result.requests = len(seen)
        self.result.complete = sum(one.is_complete for one in seen)
        self.result.begun = sum(one.status == 200 and not one.is_complete for one in seen)
        self.result.refused = sum(one.status == 503 for one in seen)
        self.result.interrupted = sum(row["error_code"] == "interrupted" for row in rows)
        self.result.written = len(self._writes.acknowledged)

    def _note(self, kind: str, kills: int = 1) -> None:
        self.result.by_kind[kind] += kills

    def go(self) -> None:
        self._first = len(self.load.seen)
        self.load.go(self.gateway.port)
        self._writes.go(self.gateway.port)

    def pause(self) -> None:
        self._writes.pause()
        self.load.pause()

    def pids(self, name: str) -> list[int]:
        assert self.gateway.pid is not None
        return children(self.gateway.pid, name)

    def _successor(self, name: str, former: set[int]) -> int:
        self._until(lambda: bool({*self.pids(name)} - former), f"no {name} takes the place of the dead one")
        return ({*self.pids(name)} - former).pop()

    def _wait_for_all(self, dead: set[int], began_s: float, told_before: int, times_s: list[float]) -> float:
        """Returns once a keeper and every worker that there should be serve, none of the dead among them; says when,
        and notes how long that took."""
        served: set[int] = set()

        def do() -> bool:
            workers, keepers = self.pids("worker"), self.pids("keeper")
            if len(workers) != self._workers or len(keepers) != 1 or dead & {*workers, *keepers}:
                return False
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.gateway.port), PATIENCE_S) as asking:
                asking.sendall(b"GET /readyz HTTP/1.1\r\nHost: gateway\r\n\r\n")
                if asking.recv(65_536).startswith(b"HTTP/1.1 200"):
                    own = asking.getsockname()[1]
                    served.update(pid for pid in workers if own in connections(pid, self.gateway.port))
            return served >= {*workers}

        self._until(do, "not all are back")
        over_s = time.monotonic()
        pauses: Counter[str] = Counter()
        for death in self.deaths()[told_before:]:
            pauses[death["ended"]] += death["pause_s"]
        times_s.append(over_s - began_s - max(pauses.values(), default=0))
        return over_s

    def _held(self) -> list[int]:
        """What clients hold of the gateway and of its upstream: places, places that they wait for, and claims."""
        queue = self._get("/api/queue/stats")["upstreams"][0]
        limit = next(one for one in self._get("/api/limits")["limits"] if one["kind"] == "concurrent")
        return [queue["taken"], queue["waiting"], limit["used"]]

    def _get(self, path: str) -> Any:
        with urllib3.PoolManager(retries=False, timeout=PATIENCE_S) as pool:
            headers = {"Authorization": f"Bearer {self.gateway.key}"}
            answer = pool.request("GET", f"http://127.0.0.1:{self.gateway.port}{path}", headers=headers)
            return json.loads(answer.data)

    def deaths(self) -> list[dict[str, Any]]:
        """What supervisors have told of deaths."""
        lines = self.gateway.log.read_text().splitlines()
        return [json.loads(line) for line in lines if "a process ended; starting it again" in line and line[-1] == "}"]

    def _until(self, is_so: Callable[[], bool], otherwise: str, why: Callable[[], Any] = lambda: "") -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, f"{otherwise} {why()}\n{self._said()}"
            time.sleep(0.002)

    def _said(self) -> str:
        return self.gateway.log.read_text()[-4000:]


class Writes:
    """A client that makes one API key after the other: what workers write by themselves, when it is their turn."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._count = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.strange: list[str] = []
        """Answers that are neither."""

    def go(self, port: int) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._ask, args=(port,))
        self._thread.start()

    def pause(self) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._thread = None

    def check(self, path: Path) -> None:
        """What was said to be there is, once; what was refused is not."""
        with closing(sqlite3.connect(path)) as connection:
            there = Counter(row[0] for row in connection.execute("SELECT name FROM api_keys"))
        assert not self.strange, self.strange
        assert {there[name] for name in self.acknowledged} <= {1}, "a write that was acknowledged is not there, once"
        assert {there[name] for name in self.refused} <= {0}, "a write that was refused is there"

    def _ask(self, port: int) -> None:
        while not self._over.wait(0.02):
            self._count += 1
            name = f"key {self._count}"
            with suppress(urllib3.exceptions.HTTPError), urllib3.PoolManager(retries=False, timeout=PATIENCE_S) as pool:
                headers = {"Authorization": f"Bearer {self._key}"}
                answer = pool.request("POST", f"http://127.0.0.1:{port}/api/keys", json={"name": name}, headers=headers)
                known = {201: self.acknowledged, 503: self.refused}
                known.get(answer.status, self.strange).append(name if answer.status in known else str(answer.data))


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):  # it was faster
        os.kill(pid, number)


@contextmanager
def several(launcher: Launcher, folder: Path, seed: int, workers: int = 2) -> Iterator[Several]:
    """A gateway of several processes that is set up, and clients that wait to be let loose."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    with upstream_for(random.Random(seed)) as upstream:
        # A machine that is busy with other things is no trouble of the upstream's.
        settings = {f"GEMMAPY_{name}_TIMEOUT_S": "60" for name in ("CONNECT", "FIRST_BYTE", "IDLE")}
        settings |= {**SETTINGS, "GEMMAPY_WORKERS": str(workers)}
        gateway = Gateway(launcher, folder / "data", upstream.url, **settings)
        try:
            assert gateway.start() is None, gateway.log.read_text()
            gateway.kill()
            with Load(CLIENTS, gateway.key, chance) as load:
                yield Several(gateway, load, chance, folder / "scratch", workers)
        finally:
            gateway.close()
