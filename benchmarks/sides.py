"""What can stand in front of the upstream: nothing, GemmaPy, and its peers where they are installed.

A peer is found on the PATH, or where `BENCH_NGINX`, `BENCH_SMG` or `BENCH_LITELLM` says that its program is. Each
serves on 127.0.0.1 with its logs and telemetry off and one process; none is asked for more than to pass requests on.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

READY_S = 180
CHAT = "/v1/chat/completions"
BODY = {"model": "llama3", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}


@dataclass
class Side:
    """One of those that are compared, as it runs."""

    name: str
    port: int
    pid: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    started_s: float = 0
    idle_mib: float = 0

    def cpu_us(self) -> int:
        """Processor time so far of the process, its threads and its children."""
        return sum(_cpu_us(pid) for pid in self._pids())

    def rss_mib(self) -> float:
        return sum(_rss_kib(pid) for pid in self._pids()) / 1024

    def settle(self) -> None:
        """Waits until it does nothing, so that what one test leaves behind is not in the next one's figures."""
        for _ in range(100):
            before = self.cpu_us()
            time.sleep(0.1)
            if self.cpu_us() - before < 15_000:
                return

    def _pids(self) -> list[int]:
        return [] if self.pid is None else _family(self.pid)


@contextmanager
def upstream() -> Generator[int]:
    """The canned upstream's port."""
    with _running([sys.executable, "-m", "benchmarks.upstream"], core=1) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def gateway(port: int, data: Path, kind: str = "ollama", without: str | None = None) -> Generator[Side]:
    """GemmaPy in front of the upstream; `without` names a promise that is switched off (see `without.py`)."""
    command = [str(Path(sys.executable).parent / "gemmapy")]
    if without is not None:
        command = [sys.executable, "-m", "benchmarks.without", without]
    address = f"http://127.0.0.1:{port}" + ("/v1" if kind == "openai" else "")
    environment = {**os.environ, "GEMMAPY_PORT": "0", "GEMMAPY_UPSTREAMS": f"{kind}={address}"}
    began = time.monotonic()
    with _running([*command, "serve", "--data", str(data)], core=0, environment=environment) as process:
        assert process.stdout is not None
        printed = ""
        while not (found := re.search(r"serves http://localhost:(\d+)", printed)):
            printed += process.stdout.readline()
        own = int(found[1])
        _await(own, "/api/health", process)
        started_s = time.monotonic() - began
        while not (key := re.search(r"gp-[\w-]{43}", printed)):
            printed += process.stdout.readline()
        name = "gemmapy" if without is None else f"gemmapy without {without}"
        yield Side(name, own, process.pid, {"Authorization": f"Bearer {key[0]}"}, started_s)


@contextmanager
def nginx(port: int, folder: Path) -> Generator[Side]:
    """A proxy in C that does nothing else: the floor."""
    own = _free_port()
    config = folder / "nginx.conf"
    places = "".join(f"{place}_temp_path {folder}/{place};" for place in ("proxy", "fastcgi", "uwsgi", "scgi"))
    config.write_text(f"""
        worker_processes 1; worker_rlimit_nofile 20000; daemon off; pid {folder}/nginx.pid; error_log /dev/null;
        events {{ worker_connections 8192; }}
        http {{
          access_log off; client_body_temp_path {folder}/body; {places}
          keepalive_requests 1000000000; tcp_nodelay on;
          upstream behind {{ server 127.0.0.1:{port}; keepalive 1024; keepalive_requests 1000000000; }}
          server {{ listen 127.0.0.1:{own} backlog=4096; location / {{
            proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
        }}""")
    with _served("nginx", [_program("nginx"), "-p", str(folder), "-c", str(config)], own, "/api/tags") as side:
        yield side


@contextmanager
def smg(port: int, folder: Path) -> Generator[Side]:  # noqa: ARG001
    """A model gateway in Rust that meters nothing."""
    own = _free_port()
    command = [_program("smg"), "launch", "--worker-urls", f"http://127.0.0.1:{port}", "--host", "127.0.0.1"]
    command += ["--port", str(own), "--policy", "round_robin", "--log-level", "error"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(_free_port())]
    with _served("smg", command, own, "/health") as side:
        _patiently(lambda: _status(own, CHAT, BODY) == 200)
        yield side


@contextmanager
def litellm(port: int, folder: Path) -> Generator[Side]:
    """The LiteLLM proxy with one worker and no database, so metering nothing that lasts."""
    own = _free_port()
    parameters = {"model": "openai/llama3", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "sk-upstream"}
    config = {
        "model_list": [{"model_name": "llama3", "litellm_params": parameters}],
        "general_settings": {"master_key": "sk-bench"},
        "litellm_settings": {"telemetry": False, "set_verbose": False},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))
    command = [_program("litellm"), "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1"]
    command += ["--port", str(own), "--num_workers", "1", "--telemetry", "False"]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    with _served("litellm", command, own, "/health/liveliness", quiet) as side:
        side.headers = {"Authorization": "Bearer sk-bench"}
        yield side


PEERS = {"nginx": nginx, "smg": smg, "litellm": litellm}


def installed() -> list[str]:
    """The peers that are there."""
    return [name for name in PEERS if _find(name) is not None]


def version(name: str) -> str:
    """What a peer says of its version, as far as it does."""
    if name == "nginx":
        said = subprocess.run([_program(name), "-v"], capture_output=True, text=True, check=False)
        return (said.stdout + said.stderr).strip().rpartition("/")[2]
    python = Path(_program(name)).parent / "python"
    look = f"import importlib.metadata as m; print(m.version({name!r}))"
    return subprocess.run([python, "-c", look], capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def _served(
    name: str, command: Sequence[str], port: int, path: str, environment: dict[str, str] | None = None
) -> Generator[Side]:
    began = time.monotonic()
    with _running(command, core=0, environment={**os.environ, **(environment or {})}, is_quiet=True) as process:
        _await(port, path, process)
        yield Side(name, port, process.pid, started_s=time.monotonic() - began)


@contextmanager
def _running(
    command: Sequence[str], *, core: int, environment: dict[str, str] | None = None, is_quiet: bool = False
) -> Generator[subprocess.Popen[str]]:
    """A process in a group of its own, on one core where there are several; ended with all its children."""
    process = subprocess.Popen(
        list(command),
        env=environment,
        stdout=subprocess.DEVNULL if is_quiet else subprocess.PIPE,
        stderr=subprocess.DEVNULL if is_quiet else None,
        text=True,
        start_new_session=True,
    )
    pin(process.pid, core)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def pin(pid: int, core: int) -> None:
    """Keeps what is measured on one core and what measures on another, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(pid, {cores[core]})


def _await(port: int, path: str, process: subprocess.Popen[str]) -> None:
    def is_up() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}")
        return _status(port, path) not in (0, 503)

    _patiently(is_up)


def _patiently(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + READY_S
    while not holds():
        if time.monotonic() > until:
            raise SystemExit("it does not get ready")
        time.sleep(0.02)


def _status(port: int, path: str, body: object = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, sent, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def _find(name: str) -> str | None:
    return os.environ.get(f"BENCH_{name.upper()}") or shutil.which(name)


def _program(name: str) -> str:
    found = _find(name)
    assert found is not None, name
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _family(pid: int) -> list[int]:
    """A process and everything that it started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended just now
            parents.setdefault(parent, []).append(int(entry.name))
    family = [pid]
    for one in family:
        family += parents.get(one, [])
    return family


def _cpu_us(pid: int) -> int:
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0]) // 1000
    except OSError:
        pass  # it ended just now
    return total


def _rss_kib(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])
    except (OSError, IndexError):
        return 0
