"""What the gateway costs: one upstream asked directly and through it, in turns, with metering and durable writes on.

Machines are noisy, so read the ratios: both sides run in the same minute, several rounds, medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@contextmanager
def upstream() -> Generator[int]:
    """The canned upstream's port."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.upstream"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.wait()


@contextmanager
def gateway(port: int, data: Path) -> Generator[tuple[int, str, int]]:
    """The port, key and process id of a gateway in front of the upstream."""
    environment = {**os.environ, "GEMMAPY_PORT": "0", "GEMMAPY_UPSTREAMS": f"ollama=http://127.0.0.1:{port}"}
    command = [str(Path(sys.executable).parent / "gemmapy"), "serve", "--data", str(data)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = ""
    while "/api/metrics/dashboard" not in printed:
        printed += process.stdout.readline()
    found = re.search(r"http://localhost:(\d+)", printed)
    key = re.search(r"gp-[\w-]{43}", printed)
    assert found is not None
    assert key is not None
    yield int(found[1]), key[0], process.pid
    process.terminate()
    process.wait()


def load(port: int, key: str, connections: int, seconds: float, kind: str) -> dict[str, float]:
    """One run of benchmarks/load.py."""
    command = [sys.executable, "-m", "benchmarks.load", str(port), key, str(connections), str(seconds), kind]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def median(rounds: list[dict[str, float]], figure: str) -> float:
    return statistics.median(one[figure] for one in rounds)


def memory_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    return int(status.read_text().split("VmRSS:")[1].split()[0]) // 1024 if status.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each side runs (default: 3)")
    parser.add_argument("--seconds", type=float, default=3, help="how long each run takes (default: 3)")
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 32], help="at once (default: 1 32)")
    asked = parser.parse_args()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}")
    print("kind    connections  side     requests/s  first p50  first p99  whole p50  whole p99  (ms)")
    with (
        tempfile.TemporaryDirectory() as folder,
        upstream() as port,
        gateway(port, Path(folder) / "d") as (own, key, pid),
    ):
        for kind in ("whole", "stream", "kept"):
            for connections in asked.connections:
                rounds: dict[str, list[dict[str, float]]] = {"direct": [], "gateway": []}
                for _ in range(asked.rounds):
                    rounds["direct"].append(load(port, key, connections, asked.seconds, kind))
                    rounds["gateway"].append(load(own, key, connections, asked.seconds, kind))
                for side, results in rounds.items():
                    _print(kind, connections, side, results)
                added = median(rounds["gateway"], "first_p50_ms") - median(rounds["direct"], "first_p50_ms")
                print(f"{'':8}{'':13}the gateway adds {added:.2f} ms to the first byte (p50)")
        print(f"gateway's memory afterwards: {memory_mib(pid)} MiB")


def _print(kind: str, connections: int, side: str, results: list[dict[str, Any]]) -> None:
    names = ("first_p50_ms", "first_p99_ms", "whole_p50_ms", "whole_p99_ms")
    figures = "  ".join(f"{median(results, name):9.2f}" for name in names)
    print(f"{kind:8}{connections:<13}{side:8} {median(results, 'requests_per_s'):10.0f}  {figures}")


if __name__ == "__main__":
    main()
