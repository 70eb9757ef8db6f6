"""One process against several: requests a second, delays and processor time, in turns within one run.

`python -m benchmarks.workers` starts a gateway with 1, 2 and 3 workers before one canned upstream, all promises on, and
has wrk (Debian: wrk) ask each in turn. Processor time is of all of a gateway's processes, by process. On a machine that
is busy with other things more processes get a larger share of it, so read the processor time too: a process cannot do
more than one core's worth.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.sides import upstream

KINDS = {"whole": "false", "stream": "true"}
_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = '{{"model": "llama3", "prompt": "Why is the sky blue?", "stream": {stream}}}'
"""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs."""

    workers: int
    port: int
    key: str
    pid: int
    data: Path

    def cpu_s(self) -> dict[str, float]:
        """Processor time so far, by what its processes are."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        spent: dict[str, float] = {}
        for pid in (str(self.pid), *children):
            name = Path(f"/proc/{pid}/comm").read_text().strip() if pid != str(self.pid) else "gateway"
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            role = name.split()[0]
            spent[role] = spent.get(role, 0) + (int(fields[11]) + int(fields[12])) / _TICKS
        return spent

    def memory_mib(self) -> int:
        """What it takes from the machine: shared pages are counted once (PSS)."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (str(self.pid), *children)]
        return sum(int(text.split("Pss:")[1].split()[0]) for text in texts) // 1024


@dataclass(frozen=True)
class Run:
    """What one run of wrk saw, and what it cost."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    """For each request."""


@contextmanager
def gateway(workers: int, upstream_port: int, data: Path) -> Generator[Gateway]:
    """A gateway with so many workers before the upstream."""
    environment = {
        **os.environ,
        "GEMMAPY_PORT": "0",
        "GEMMAPY_WORKERS": str(workers),
        "GEMMAPY_UPSTREAMS": f"ollama=http://127.0.0.1:{upstream_port}",
        "GEMMAPY_LOG_LEVEL": "warning",
    }
    command = [str(Path(sys.executable).parent / "gemmapy"), "serve", "--data", str(data)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = ""
    while "/api/metrics/dashboard" not in printed:
        line = process.stdout.readline()
        assert line, "the gateway did not start"
        printed += line
    port = int(re.findall(r"http://localhost:(\d+)", printed)[0])
    yield Gateway(workers, port, re.findall(r"gp-[\w-]{43}", printed)[0], process.pid, data)
    process.terminate()
    process.wait()


def ask(one: Gateway, connections: int, seconds: float, kind: str) -> Run:
    """One run of wrk."""
    script = one.data.parent / "ask.lua"
    script.write_text(_SCRIPT.format(key=one.key, stream=KINDS[kind]))
    before = one.cpu_s()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    url = f"http://127.0.0.1:{one.port}/api/generate"
    said = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    after = one.cpu_s()
    count = int(re.findall(r"(\d+) requests in", said)[0])
    cpu_us = {role: (spent - before.get(role, 0)) / count * 1e6 for role, spent in after.items()}
    per_s = float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])
    return Run(per_s, _ms(said, "50%"), _ms(said, "99%"), cpu_us)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 16, 64], help="at once (default: 1 16 64)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each runs (default: 5)")
    parser.add_argument("--seconds", type=int, default=2, help="how long each run takes (default: 2)")
    parser.add_argument("--kinds", nargs="*", choices=[*KINDS], default=[*KINDS])
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("This needs wrk: apt-get install wrk")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, medians of {asked.rounds} runs of {asked.seconds} s")
    print("answer  connections  workers  requests/s  of one  p50 ms  p99 ms  CPU us a request")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(upstream())
        gateways = [stack.enter_context(gateway(count, port, folder / f"data{count}")) for count in asked.workers]
        for kind in asked.kinds:
            for connections in asked.connections:
                runs: dict[int, list[Run]] = {one.workers: [] for one in gateways}
                for _ in range(asked.rounds):
                    for one in gateways:
                        runs[one.workers].append(ask(one, connections, asked.seconds, kind))
                for one in gateways:
                    _print(kind, connections, one.workers, runs[one.workers], runs[gateways[0].workers])
        for one in gateways:
            print(f"{one.workers} workers: {one.memory_mib()} MiB")


def _print(kind: str, connections: int, workers: int, runs: list[Run], first: list[Run]) -> None:
    per_s, p50_ms, p99_ms = (
        statistics.median(values) for values in zip(*((run.per_s, run.p50_ms, run.p99_ms) for run in runs), strict=True)
    )
    ratio = statistics.median(run.per_s / other.per_s for run, other in zip(runs, first, strict=True))
    roles = {role: statistics.median(run.cpu_us[role] for run in runs) for role in runs[0].cpu_us}
    cpu = ", ".join(f"{role} {us:.0f}" for role, us in roles.items() if us >= 1)
    print(f"{kind:8}{connections:<13}{workers:<9}{per_s:10.0f}  {ratio:6.2f}  {p50_ms:6.2f}  {p99_ms:6.1f}  {cpu}")


def _ms(said: str, share: str) -> float:
    number, unit = re.findall(rf"{re.escape(share)}\s+([\d.]+)(us|ms|s)", said)[0]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


if __name__ == "__main__":
    main()
