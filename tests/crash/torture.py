"""`make torture`: what the crash tests do, a thousand times, and what they have no time for; a table at the end.

`python -m tests.crash.torture [--only PART ...] [--kills 1000] [--kills-of-several 300] [--workers 2] [--minutes 30]
[--seed N]`. Ends with 1 where a promise was broken, and says how to see it again.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.crash.campaign import campaign
from tests.crash.failpoints import REQUEST, START
from tests.crash.gateways import Launcher
from tests.crash.load import Load, upstream_for
from tests.crash.powerloss import Event, Traced, events, try_moments
from tests.crash.several import ALL, IN_START, STOPPED, several
from tests.crash.test_trouble import STORAGE, closed_door, locked, served

BATCH = 100
"""Kills of one data folder; so many requests make an audit of all of them slow."""
PARTS = ("kills", "several", "power", "locked")
Row = tuple[str, str, str, str]


def kills(wanted: int, deadline: float, seed: int) -> Row:
    """Half of them at the steps of a request or a start, half at any moment."""
    done, requests, complete, cut = 0, 0, 0, 0
    starts_s: list[float] = []
    began = time.monotonic()
    steps = [*REQUEST]
    with Launcher() as launcher:
        while done < wanted and time.monotonic() < deadline:
            seed += 1
            chance = random.Random(seed)
            with tempfile.TemporaryDirectory() as folder, campaign(launcher, Path(folder), seed) as under_load:
                while under_load.result.kills < min(BATCH, wanted - done) and time.monotonic() < deadline:
                    if chance.random() < 0.05:
                        under_load.kill_in_start(chance.choice([*START]))
                    else:
                        under_load.kill(chance.choice(steps) if chance.random() < 0.5 else None)
                result = under_load.finish()
            done, requests, complete = done + result.kills, requests + result.requests, complete + result.complete
            cut += result.begun
            starts_s += result.starts_s
            print(f"{done} kills, {requests} requests, {time.monotonic() - began:.0f} s", flush=True)
    took = f"{time.monotonic() - began:.0f} s"
    what = f"{requests:,} requests, {complete:,} seen complete, {cut:,} cut; serving again: {_ready(starts_s)}"
    return "killed under load", f"{done:,} kills", what, took


def kills_of_several(workers: int, wanted: int, deadline: float, seed: int) -> Row:
    """A worker, the keeper or all of them: at any moment, or one of them at a step."""
    sums: Counter[str] = Counter()
    starts_s: list[float] = []
    replaced_s: list[float] = []
    found_s: list[float] = []
    began = time.monotonic()
    with Launcher() as launcher:
        while sums["kills"] < wanted and time.monotonic() < deadline:
            seed += 1
            with tempfile.TemporaryDirectory() as folder, several(launcher, Path(folder), seed, workers) as under_load:
                while under_load.result.kills < min(BATCH, wanted - sums["kills"]) and time.monotonic() < deadline:
                    under_load.live()
                result = under_load.finish()
            for name in ("kills", "requests", "complete", "begun", "refused", "meanwhile", "written"):
                sums[name] += getattr(result, name)
            sums["stopped"] += sum(result.by_kind[kind] for kind in STOPPED)
            sums["of all"] += sum(result.by_kind[kind] for kind in (*ALL, IN_START))
            starts_s += result.starts_s
            replaced_s += result.replaced_s
            found_s += result.found_s
            print(f"{sums['kills']} kills, {sums['requests']} requests, {time.monotonic() - began:.0f} s", flush=True)
    what = (
        f"{sums['requests']:,} requests, {sums['complete']:,} seen complete, {sums['begun']:,} cut, {sums['refused']:,}"
        f" refused, {sums['meanwhile']:,} answered by another worker before a dead one was back; {sums['written']:,}"
        f" other writes; some killed, all serve again: {_ready(replaced_s)}; all killed: {_ready(starts_s)};"
        f" one stopped: {_ready(found_s)}"
    )
    often = f"{sums['kills']:,} kills, {sums['of all']:,} of all at once, {sums['stopped']:,} by SIGSTOP"
    return f"killed under load, {workers} workers", often, what, f"{time.monotonic() - began:.0f} s"


def _ready(times_s: list[float]) -> str:
    if not times_s:
        return "never"
    times_s.sort()
    return f"median {statistics.median(times_s):.2f} s, 99 % in {times_s[int(len(times_s) * 0.99)]:.2f} s"


def power(moments: int, seed: int) -> Row:
    """Power loss at moments of a traced run."""
    if shutil.which("strace") is None:
        return "power loss", "left out", "strace is missing", ""
    began = time.monotonic()
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place, upstream_for(chance) as upstream:
        folder = Path(place) / "power"
        folder.mkdir()
        happened: list[Event] = []
        traced = Traced(folder / "data", upstream.url, folder / "trace")
        with Load(4, re.findall(r"gp-[\w-]{43}", traced.printed)[0], chance) as load:
            for start in range(3):
                if start:
                    traced = Traced(folder / "data", upstream.url, folder / "trace")
                load.go(traced.port)
                time.sleep(1.5)
                traced.kill()
                load.pause()
                happened += events(folder / "trace", folder)
            tried = try_moments(happened, folder, load.seen, moments, Path(place), chance)
    assert not tried.broken, tried.broken[:3]
    what = f"{tried.events:,} traced calls, {tried.moments} moments, {tried.complete} complete answers by then"
    return "power loss", f"{tried.states:,} states", what, f"{time.monotonic() - began:.0f} s"


def long_lock(seconds: float, seed: int) -> Row:
    """Another process holds the database's lock."""
    began = time.monotonic()
    chance = random.Random(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream_for(chance) as upstream,
        Launcher() as launcher,
        served(launcher, Path(folder), upstream.url, chance) as gateway,
    ):
        gateway.serve(1)
        during = closed_door(gateway, locked(gateway), seconds)
        recovered_s = gateway.recover_s()
        assert any(one.is_complete for one in gateway.serve(1))
        gateway.check(STORAGE)
    refused = sum(one.status == 503 for one in during)
    what = f"{refused:,} of {len(during):,} requests refused with 503, well again after {recovered_s:.1f} s"
    return "database locked", f"{seconds:.0f} s", what, f"{time.monotonic() - began:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="leave out the other parts")
    parser.add_argument("--kills", type=int, default=1000, help="of a gateway of one process")
    parser.add_argument("--kills-of-several", type=int, default=300, help="of the processes of one with workers")
    parser.add_argument("--workers", type=int, default=2, help="how many of these it has")
    parser.add_argument("--minutes", type=float, default=30, help="kill no more after so long")
    parser.add_argument("--moments", type=int, default=200, help="at which the power fails, three states each")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    asked = parser.parse_args()
    deadline = time.monotonic() + asked.minutes * 60
    parts: dict[str, Callable[[], Row]] = {
        "kills": lambda: kills(asked.kills, deadline, asked.seed),
        "several": lambda: kills_of_several(asked.workers, asked.kills_of_several, deadline, asked.seed),
        "power": lambda: power(asked.moments, asked.seed),
        "locked": lambda: long_lock(30, asked.seed),
    }
    rows: list[Row] = []
    broken = False
    for name in asked.only:
        try:
            rows.append(parts[name]())
        except Exception:  # noqa: BLE001 - the others are still worth trying
            traceback.print_exc()
            broken = True
            rows.append((name, "BROKEN", f"see above; again with --seed {asked.seed}", ""))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {machine}, seed {asked.seed}, load {os.getloadavg()[0]:.0f} at the end\n")
    print("| what | how often | what came of it | took |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.exit(broken)


if __name__ == "__main__":
    main()
