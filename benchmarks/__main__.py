"""What the gateway costs, beside its peers: `make bench`, or `python -m benchmarks`.

One canned upstream, asked directly and through each side, in turns: a round asks every test of every side, and what is
shown is the median of the rounds. Everything is on 127.0.0.1; the sides share one core, the upstream and the load the
other. Machines are noisy, so read the ratios within one run, and processor time before wall time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from benchmarks import sides
from benchmarks.load import Load
from benchmarks.sides import BODY, CHAT, Side

Figures = dict[str, float]
_WRK_SAYS = """
done = function(s, l, r)
  local failed = s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout + s.errors.status
  io.write(string.format('{"requests": %d, "us": %d, "p50": %f, "p99": %f, "failed": %d}',
    s.requests, s.duration, l:percentile(50), l:percentile(99), failed))
end
"""


@dataclass(frozen=True)
class Test:
    """Whole answers at so many connections, or streams of fifty pieces at so many at once."""

    name: str
    connections: int
    gap_ms: float | None = None
    """None: whole answers; 0: streams as fast as they go."""
    first_ms: float = 0

    @property
    def is_stream(self) -> bool:
        return self.gap_ms is not None


PIECES = 50
"""Of each stream."""
TESTS = {
    test.name: test
    for test in (
        Test("whole 1", 1),
        Test("whole 16", 16),
        Test("whole 64", 64),
        Test("streams 64, 10 ms", 64, 10),
        Test("streams 64, 10 ms, first after 20", 64, 10, 20),
        Test("streams 64, full speed", 64, 0),
        Test("streams 500, 50 ms", 500, 50),
        Test("streams 2000, 100 ms", 2000, 100),
    )
}
USUAL = [name for name in TESTS if "2000" not in name]


def run(test: Test, side: Side, behind: int, seconds: float) -> Figures:
    """One test of one side."""
    body = {**BODY, "stream": test.is_stream}
    load = Load(side.port, CHAT, body, side.headers, test.connections, seconds)
    if test.is_stream:
        _shape(behind, pieces=PIECES, gap_ms=test.gap_ms or 0, first_ms=test.first_ms)
        load.seconds += PIECES * (test.gap_ms or 0) / 1000
        load.ramp_s = min(1.0, test.connections / 500)
    before = side.cpu_us()
    # At full speed there is no time at which a piece was sent, and Python's own speed would be measured.
    by_wrk = shutil.which("wrk") is not None and not test.gap_ms
    figures = _wrk(load) if by_wrk else _own(load)
    if by_wrk and test.is_stream:
        figures |= {f"{name}_{share}_ms": math.nan for name in ("first", "piece") for share in ("p50", "p99")}
        figures["pieces"] = PIECES * figures["requests"]
        figures["pieces_per_s"] = PIECES * figures["requests_per_s"]
    done = figures["pieces"] if test.is_stream else figures["requests"]
    figures["cpu_us"] = (side.cpu_us() - before) / max(1, done)
    figures["rss_mib"] = side.rss_mib()
    side.settle()
    return figures


def _own(load: Load) -> Figures:
    command = [sys.executable, "-m", "benchmarks.load", json.dumps(asdict(load))]
    ran = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    sides.pin(ran.pid, 1)
    figures = json.loads(ran.communicate(timeout=load.seconds + 60)[0])
    if figures.pop("refusal"):
        print(f"  refused: {figures}", file=sys.stderr)
    return figures


def _wrk(load: Load) -> Figures:
    """The same with wrk, which costs less than Python and so hides less."""
    script = f"wrk.method = 'POST'\nwrk.body = [[{json.dumps(load.body)}]]\n"
    headers = {"Content-Type": "application/json", **load.headers}
    script += "".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}\n" for name, value in headers.items())
    script += _WRK_SAYS
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        url = f"http://127.0.0.1:{load.port}{load.path}"
        command = ["wrk", "-t1", f"-c{load.connections}", f"-d{load.seconds:.0f}s", "--timeout", "10s", "-s", file.name]
        ran = subprocess.Popen([*command, url], stdout=subprocess.PIPE, text=True)
        sides.pin(ran.pid, 1)
        printed = ran.communicate(timeout=load.seconds + 60)[0].strip().splitlines()
    if not printed:  # nobody listens any more
        return {"requests": 0, "requests_per_s": 0, "whole_p50_ms": 0, "whole_p99_ms": 0, "failed": load.connections}
    said = json.loads(printed[-1])
    return {
        "requests": said["requests"],
        "requests_per_s": said["requests"] * 1e6 / said["us"],
        "whole_p50_ms": said["p50"] / 1000,
        "whole_p99_ms": said["p99"] / 1000,
        "failed": said["failed"],
    }


def _shape(behind: int, **shape: float) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", behind)
    connection.request("GET", "/_shape?" + "&".join(f"{name}={value}" for name, value in shape.items()))
    connection.getresponse().read()
    connection.close()


def compare(names: list[str], tests: list[Test], rounds: int, seconds: float) -> tuple[list[Side], dict[str, Any]]:
    """Every side's figures of every test, medians over the rounds; `failed` is the sum."""
    results: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        behind = stack.enter_context(sides.upstream())
        running: list[Side] = []
        for name in names:
            place = folder / name.replace(" ", "-")
            place.mkdir()
            if name == "direct":
                side = Side("direct", behind)
            elif name in sides.PEERS:
                side = stack.enter_context(sides.PEERS[name](behind, place))
            else:
                without = name.removeprefix("gemmapy").removeprefix(" without ") or None
                side = stack.enter_context(sides.gateway(behind, place / "data", "openai", without))
            side.settle()
            side.idle_mib = side.rss_mib()
            running.append(side)
            run(Test("warm", 8), side, behind, 1)
        for number in range(rounds):
            for test in tests:
                for side in running:
                    results[test.name, side.name].append(run(test, side, behind, seconds))
                print(f"round {number + 1} of {rounds}: {test.name}", file=sys.stderr)
    medians: dict[str, Any] = {}
    for (test_name, side_name), seen in results.items():
        figures = {name: statistics.median(one[name] for one in seen) for name in seen[0]}
        figures["failed"] = sum(one["failed"] for one in seen)
        medians.setdefault(test_name, {})[side_name] = figures
    return running, medians


def growth(requests: int) -> tuple[float, float, float]:
    """MiB of the gateway after its start, after a tenth of so many requests, and after all of them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        behind = stack.enter_context(sides.upstream())
        side = stack.enter_context(sides.gateway(behind, folder / "data", "openai"))
        start = side.rss_mib()
        seen: list[float] = []
        done = 0.0
        while done < requests:
            done += _own(Load(side.port, CHAT, {**BODY, "stream": False}, side.headers, 64, 3))["requests"]
            if done >= requests / 10:
                seen.append(side.rss_mib())
        return start, seen[0], seen[-1]


def report(running: list[Side], medians: dict[str, Any]) -> None:
    """The tables, in Markdown."""
    print("| side | ready after s | RSS idle MiB |\n|---|---|---|")
    for side in running:
        if side.pid is not None:
            print(f"| {side.name} | {side.started_s:.2f} | {side.idle_mib:.0f} |")
    for test_name, by_side in medians.items():
        print(f"\n{test_name}:\n")
        if TESTS[test_name].is_stream:
            names = ["first p50 ms", "first p99", "piece p50", "piece p99", "pieces/s", "CPU us/piece"]
            keys = ["first_p50_ms", "first_p99_ms", "piece_p50_ms", "piece_p99_ms", "pieces_per_s", "cpu_us"]
        else:
            names = ["requests/s", "p50 ms", "p99", "CPU us/request"]
            keys = ["requests_per_s", "whole_p50_ms", "whole_p99_ms", "cpu_us"]
        names += ["RSS MiB", "failed"]
        print(f"| side | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
        for side_name, figures in by_side.items():
            cells = [
                "" if math.isnan(figures[key]) else f"{figures[key]:.{0 if 'per_s' in key or key == 'cpu_us' else 2}f}"
                for key in keys
            ]
            print(f"| {side_name} | {' | '.join(cells)} | {figures['rss_mib']:.0f} | {figures['failed']:.0f} |")


def machine() -> str:
    """When, where and with what."""
    versions = [f"gemmapy {installed_version('gemmapy')}"]
    versions += [f"{name} {sides.version(name)}" for name in sides.installed()]
    load = "wrk and benchmarks/load.py" if shutil.which("wrk") else "benchmarks/load.py"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}; {', '.join(versions)}; load by {load}; load average before: "
        f"{os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each test runs (default: 3)")
    parser.add_argument("--seconds", type=float, default=2, help="how long each takes, at least (default: 2)")
    parser.add_argument("--tests", nargs="*", default=USUAL, choices=list(TESTS), metavar="TEST", help=", ".join(TESTS))
    parser.add_argument("--sides", nargs="*", help="default: direct, gemmapy and the peers that are installed")
    parser.add_argument("--promises", action="store_true", help="GemmaPy with and without each of its promises instead")
    parser.add_argument("--growth", type=int, metavar="REQUESTS", help="only: does it grow over so many requests")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started ends too
    print(machine())
    print(f"`python -m benchmarks {' '.join(sys.argv[1:])}`\n")
    if asked.growth:
        start, first, last = growth(asked.growth)
        tenth = asked.growth // 10
        print(f"RSS {start:.0f} MiB at the start, {first:.0f} after {tenth} requests, {last:.0f} after {asked.growth}")
        return
    names = asked.sides or ["direct", *sides.installed(), "gemmapy"]
    if asked.promises:
        names = ["gemmapy", *(f"gemmapy without {promise}" for promise in ("sync", "inflight", "records"))]
    began = time.monotonic()
    report(*compare(names, [TESTS[name] for name in asked.tests], asked.rounds, asked.seconds))
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
