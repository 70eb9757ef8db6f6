"""The command line, as somebody types it."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole

from gemmapy import MetricsCollector
from gemmapy.storage import recount

GEMMAPY = str(Path(sys.executable).parent / "gemmapy")
COMMANDS = (
    *("serve", "user", "key", "price", "machine", "reprice", "close", "statement", "retire"),
    *("backup", "restore", "doctor", "version"),
)


def run(*arguments: str, cwd: Path, code: int = 0, **environment: str) -> str:
    """Everything that a command printed; checks how it ended."""
    ran = subprocess.run(
        [GEMMAPY, *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == code, said
    assert "Traceback" not in said
    return said


@pytest.fixture
def data(running: RunningGateway) -> str:
    """The folder of a gateway that runs."""
    return str(running.store.data_dir)


def test_help_names_every_command_and_each_has_help_of_its_own(tmp_path: Path) -> None:
    said = run("--help", cwd=tmp_path)
    for command in COMMANDS:
        assert command in said
        assert len(run(command, "--help", cwd=tmp_path)) > 300 or command == "version"
    assert "gemmapy 0." in run("version", cwd=tmp_path)


def test_a_user_made_on_the_command_line_can_sign_in_at_once(
    running: RunningGateway, data: str, tmp_path: Path
) -> None:
    said = run("user", "create", "carol", "--admin", "--data", data, cwd=tmp_path)
    password = said.split("once: ")[1].strip()
    _until(lambda: running.post("/api/login", {"username": "carol", "password": password}, key=None).status == 200)
    assert "carol" in run("user", "list", "--data", data, cwd=tmp_path)
    run("user", "password", "carol", "--password", PASSWORD, "--data", data, cwd=tmp_path)
    _until(lambda: running.post("/api/login", {"username": "carol", "password": PASSWORD}, key=None).status == 200)
    run("user", "demote", "carol", "--data", data, cwd=tmp_path)
    run("user", "disable", "carol", "--data", data, cwd=tmp_path)
    assert running.post("/api/login", {"username": "carol", "password": PASSWORD}, key=None).status == 401
    run("user", "enable", "carol", "--data", data, cwd=tmp_path)
    run("user", "promote", "carol", "--data", data, cwd=tmp_path)
    run("user", "delete", "carol", "--yes", "--data", data, cwd=tmp_path)
    assert "carol" not in run("user", "list", "--data", data, cwd=tmp_path)
    assert "last admin" in run("user", "delete", "admin", "--yes", "--data", data, cwd=tmp_path, code=1)


def test_a_key_revoked_on_the_command_line_ends_within_250_ms(
    running: RunningGateway, data: str, tmp_path: Path
) -> None:
    said = run(
        "key", "create", "admin", "--name", "ci", "--days", "1", "--model", "llama3", "--data", data, cwd=tmp_path
    )
    number, key = said.split()[1], said.split()[-1]
    _until(lambda: running.get("/api/profile", key=key).status == 200)
    listed = run("key", "list", "--data", data, cwd=tmp_path)
    assert key[:10] in listed
    assert key not in listed
    run("key", "revoke", number, "--data", data, cwd=tmp_path)
    took_s = _until(lambda: running.get("/api/profile", key=key).status == 401)
    assert took_s < 2  # the promise is 0.25 s after the commit, measured in benchmarks; here it must just not be never
    assert "no key" in run("key", "revoke", number, "--data", data, cwd=tmp_path, code=1)


def test_a_price_set_on_the_command_line_holds(
    running: RunningGateway, ollama: ScriptedUpstream, data: str, tmp_path: Path
) -> None:
    ollama.on("/api/generate", whole({"response": "x", "done": True, "prompt_eval_count": 1000, "eval_count": 0}))
    run("price", "set", "llama3", "0.25", "0.5", "--data", data, cwd=tmp_path)
    assert re.search(r"llama3 +0\.25 +0\.5", run("price", "list", "--data", data, cwd=tmp_path))
    ask = {"model": "llama3", "prompt": "x"}
    _until(lambda: running.post("/api/ollama/generate", ask).json["cost"] == 0.25)
    assert "input_cost" in run("price", "set", "llama3", "free", "0", "--data", data, cwd=tmp_path, code=1)


def test_prices_have_a_history_and_a_future_on_the_command_line(
    running: RunningGateway, data: str, tmp_path: Path
) -> None:
    def price(*words: str, code: int = 0) -> str:
        return run("price", *words, "--data", data, cwd=tmp_path, code=code)

    parts = ("--cached", "0.1", "--request", "0.5", "--compute", "0.25", "--source", "decision 7")
    made = price("set", "phi", "1", "2", "--at", "2100-01-01", *parts)
    number = made.split()[1]
    assert "from 2100-01-01T00:00:00+00:00 on" in made
    assert "phi" not in price("list")
    assert re.search(r"phi +1 +2 +0\.1 +0\.5 +0\.25 +2100-01-01", price("list", "--at", "2100-01-02T00:00Z"))
    assert "decision 7" in price("history", "PHI")
    price("withdraw", number)
    assert "phi" not in price("list", "--at", "2100-01-02")
    assert re.search(r"phi .* withdrawn", price("history"))
    assert "has been in force" in price("withdraw", "1", code=1)
    assert "needs a time zone" in price("list", "--at", "2100-01-02T00:00", code=2)

    assert "openai/gpt-4o-mini " in run("price", "catalogue", "openai gpt-4o-mini", "--limit", "3", cwd=tmp_path)
    assert "genai-prices" in price("copy", "openai/gpt-4o-mini", "mini")
    assert re.search(r"mini .*genai-prices .*openai/gpt-4o-mini", price("history", "mini"))
    assert "Do you mean openai/gpt-4o-mini" in price("copy", "openai/gpt-4o-mimi", code=1)


def test_a_machine_is_described_priced_and_costed_on_the_command_line(
    running: RunningGateway, ollama: ScriptedUpstream, data: str, tmp_path: Path
) -> None:
    def machine(*words: str, code: int = 0) -> str:
        return run("machine", *words, "--data", data, cwd=tmp_path, code=code)

    figures = ("--watts-busy", "360", "--watts-idle", "36", "--kwh", "0.25", "--purchase", "3155.76", "--years", "4")
    machine("add", "box", *figures, "--upstream", "ollama", "--at", "2026-01-01", "--note", "under the desk")
    assert re.search(r"box +ollama +360 +36 +0\.25 +3155\.76 +4 +1 .* in force +under the desk", machine("list"))
    assert "is the upstream 'ollama'" in machine("add", "other", *figures, "--upstream", "ollama", code=1)
    assert "costs 0.000050000 USD" in machine("price", "BOX", "llama3")  # 25,000 of power and 25,000 of purchase
    times = {"prompt_eval_duration": 1_000_000_000, "eval_duration": 3_000_000_000}
    counts = {"prompt_eval_count": 10, "eval_count": 10}
    ollama.on("/api/generate", whole({"response": "x", "done": True, **counts, **times}))
    ask = {"model": "llama3", "prompt": "x"}
    _until(lambda: running.post("/api/ollama/generate", ask).json["cost"] == 4 * 0.00005)
    said = machine("cost", "box", "--days", "1")
    assert "USD all in" in said
    assert re.search(r"llama3 +\d+ +\d+\.0 +\d+ +\d+ +5\.0000 +15\.0000", said)
    assert "no machine" in machine("cost", "other", code=1)
    assert "--to needs --from" in machine("cost", "box", "--to", "2026-01-02", code=2)


def _until(holds: object, limit_s: float = 5) -> float:
    """Waits until it holds; how long that took."""
    assert callable(holds)
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit_s, "it never held"
        time.sleep(0.01)
    return time.monotonic() - began


def test_a_backup_of_a_running_gateway_is_restored_elsewhere(
    running: RunningGateway, ollama: ScriptedUpstream, data: str, tmp_path: Path
) -> None:
    ollama.on("/api/generate", whole({"response": "x", "done": True, "prompt_eval_count": 1, "eval_count": 1}))
    for _ in range(3):
        running.post("/api/generate", {"model": "llama3", "prompt": "x", "stream": False})
    copy = tmp_path / "copy.db"
    assert "3 requests" in run("backup", str(copy), "--data", data, cwd=tmp_path)
    assert "there already" in run("backup", str(copy), "--data", data, cwd=tmp_path, code=1)
    elsewhere = tmp_path / "elsewhere"
    assert "3 requests restored" in run("restore", str(copy), "--data", str(elsewhere), cwd=tmp_path)
    assert "never overwrites" in run("restore", str(copy), "--data", str(elsewhere), cwd=tmp_path, code=1)
    with gateway(elsewhere, f"ollama={ollama.url}") as again:
        assert len(again.rows()) == 3
        assert again.get("/api/profile", key=running.key).status == 200


def test_the_audit_runs_beside_a_gateway_and_ends_with_a_verdict(
    running: RunningGateway, ollama: ScriptedUpstream, data: str, tmp_path: Path
) -> None:
    ollama.on("/api/generate", whole({"response": "x", "done": True, "prompt_eval_count": 1000, "eval_count": 0}))
    for _ in range(3):
        running.post("/api/generate", {"model": "llama3", "prompt": "x", "stream": False})
    assert "The books balance: 1 days, 3 requests, 0.000450000 USD" in run("audit", "--data", data, cwd=tmp_path)
    running.store.write(lambda c: c.exec_driver_sql("UPDATE rollup_totals SET requests = 4"))
    said = run("audit", "--repair", "--data", data, cwd=tmp_path, code=1)
    assert "rollup_totals" in said
    assert "requests is 4, the ledger says 3" in said
    assert "The books balance" in run("audit", "--data", data, cwd=tmp_path)


def test_the_books_are_priced_anew_closed_and_retired_beside_a_gateway(
    running: RunningGateway, data: str, tmp_path: Path
) -> None:
    collector = MetricsCollector(running.store)
    for _ in range(2):
        collector.record(1, "phi", "/x", prompt_tokens=1000, response_tokens=500)
    running.store.write(lambda c: c.exec_driver_sql("UPDATE llm_metrics SET created_at = '2026-03-05 10:00:00.000'"))
    running.store.write(recount.rebuild)
    run("price", "set", "phi", "0.5", "2", "--data", data, cwd=tmp_path)
    reprice = ("reprice", "--from", "2026-03-01", "--to", "2026-04-01", "--unpriced-only", "--data", data)
    said = run(*reprice, cwd=tmp_path)
    assert "2 of 2 requests: +3.000000000 USD" in said
    assert "Nothing is changed" in said
    assert "reason is required" in run(*reprice, "--apply", cwd=tmp_path, code=1)
    assert "Applied as repricing 1" in run(*reprice, "--apply", "--reason", "forgotten", cwd=tmp_path)
    assert "2026-03 would be closed: 2 requests" in run("close", "2026-03", "--dry-run", "--data", data, cwd=tmp_path)
    assert "2026-03 is closed: 2 requests, 3.000000000 USD" in run("close", "2026-03", "--data", data, cwd=tmp_path)
    assert "closed already" in run("close", "2026-03", "--data", data, cwd=tmp_path, code=1)
    assert re.search(r"1 +2026-03 +user +admin +3\.0", run("statement", "list", "--data", data, cwd=tmp_path))
    assert "Statement 1" in run("statement", "show", "1", "--format", "html", "--data", data, cwd=tmp_path)
    assert "would retire" in run("retire", "--keep-days", "7", "--dry-run", "--data", data, cwd=tmp_path)
    assert "2026-03-05  2 requests, 3.000000000 USD" in run("retire", "--keep-days", "7", "--data", data, cwd=tmp_path)
    assert running.rows() == []
    assert "The books balance" in run("audit", "--data", data, cwd=tmp_path)
    assert running.get("/api/costs/summary?period=year").json["total_cost"] == 3


def test_a_gateway_retires_old_days_by_itself(ollama: ScriptedUpstream, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with gateway(folder, f"ollama={ollama.url}") as first:
        MetricsCollector(first.store).record(1, "phi", "/x", prompt_tokens=1)
        first.store.write(lambda c: c.exec_driver_sql("UPDATE llm_metrics SET created_at = '2026-03-05 10:00:00.000'"))
        first.store.write(recount.rebuild)
    with gateway(folder, f"ollama={ollama.url}", retention_days=30) as again:
        _until(lambda: again.rows() == [])


def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    bad = tmp_path / "bad.db"
    bad.write_bytes(b"no database at all")
    said = run("restore", str(bad), "--data", str(tmp_path / "new"), cwd=tmp_path, code=1)
    assert "is no backup of GemmaPy" in said
    assert not (tmp_path / "new" / "gemmapy.db").exists()


def test_a_mistyped_folder_is_not_made(tmp_path: Path) -> None:
    said = run("user", "list", "--data", str(tmp_path / "typo"), cwd=tmp_path, code=2)
    assert "There are no data in" in said
    assert not (tmp_path / "typo").exists()


def test_doctor_finds_nothing_where_all_is_well(running: RunningGateway, ollama: ScriptedUpstream, data: str) -> None:
    said = run("doctor", "--data", data, cwd=Path(data), GEMMAPY_UPSTREAMS=f"ollama={ollama.url}", GEMMAPY_PORT="0")
    assert "All is well" in said
    assert "1 models, among them llama3" in said
    assert "it has no places" in said


def test_doctor_says_what_is_wrong_and_how_to_mend_it(
    running: RunningGateway, ollama: ScriptedUpstream, tmp_path: Path
) -> None:
    ollama.on("/api/tags", whole({"models": []}))
    port = running.url.rsplit(":", 1)[1]
    upstreams = f"ollama={ollama.url} dead:ollama=http://127.0.0.1:9"
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "gemmapy.db").write_bytes(b"x" * 5000)
    ollama_port = str(ollama.port)
    said = run(
        "doctor", "--data", str(folder), cwd=tmp_path, code=1, GEMMAPY_UPSTREAMS=upstreams, GEMMAPY_PORT=ollama_port
    )
    for words in (
        f"port {ollama_port}: Address already in use",
        "--port",
        "cannot be read",
        "gemmapy restore",
        "answers, but has no model",
        "ollama pull",
        "upstream dead",
        "ollama serve",
    ):
        assert words in said, said
    said = run(
        "doctor", "--data", str(tmp_path / "new"), cwd=tmp_path, code=1, GEMMAPY_UPSTREAMS=upstreams, GEMMAPY_PORT=port
    )
    assert "a gateway serves there" in said


def test_a_mistake_is_told_in_one_line_and_with_a_code(tmp_path: Path) -> None:
    said = run("serve", "--upstream", "olama=http://x", cwd=tmp_path, code=2)
    assert "KIND is one of ollama, openai, llamacpp" in said
    said = run("serve", cwd=tmp_path, code=2, GEMMAPY_PROT="1")
    assert "Do you mean GEMMAPY_PORT" in said
    said = run("serve", "--data", "/proc/x", "--port", "0", cwd=tmp_path, code=2)
    assert "cannot be used" in said


def test_a_backup_is_one_file_that_any_sqlite_opens(running: RunningGateway, data: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    run("backup", str(copy), "--data", data, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == ["copy.db"]
    connection = sqlite3.connect(copy)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


FAILING = """
import structlog
from gemmapy.cli import main

def failing() -> None:
    password = "correct-horse"
    try:
        raise RuntimeError("it failed" if password else "")
    except RuntimeError:
        structlog.get_logger().exception("command_failed")

main.application = lambda asked: failing
main.main()
"""


def test_a_failure_in_the_log_says_where_and_never_what_the_variables_held(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", FAILING], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" in ran.stderr
    assert "it failed" in ran.stderr
    assert "horse" not in ran.stdout + ran.stderr


def test_limits_set_on_the_command_line_hold_in_a_gateway_that_runs(
    running: RunningGateway, ollama: ScriptedUpstream, data: str, tmp_path: Path
) -> None:
    ollama.on("/api/generate", whole({"response": "Hi", "done": True}))
    ask = {"model": "llama3", "prompt": "x", "stream": False}
    said = run("user", "limit", "admin", "--requests", "1", "--weight", "2", "--data", data, cwd=tmp_path)
    assert re.search(r"requests_per_minute +1\n", said)
    assert re.search(r"weight +2\n", said)
    assert re.search(r"concurrent +default\n", said)
    deadline = time.monotonic() + 5
    while not running.get("/api/limits").json["limits"]:
        assert time.monotonic() < deadline
    assert [running.post("/api/generate", ask).status for _ in range(2)] == [200, 429]
    run("user", "limit", "admin", "--requests", "default", "--data", data, cwd=tmp_path)
    run("key", "limit", "1", "--concurrent", "3", "--data", data, cwd=tmp_path)
    while [entry["of"] for entry in running.get("/api/limits").json["limits"]] != ["key 1"]:
        assert time.monotonic() < deadline
    assert running.post("/api/generate", ask).status == 200
    assert "neither" in run("user", "limit", "admin", "--requests", "many", "--data", data, cwd=tmp_path, code=2)
    assert "neither" in run("user", "limit", "admin", "--weight", "0", "--data", data, cwd=tmp_path, code=2)
