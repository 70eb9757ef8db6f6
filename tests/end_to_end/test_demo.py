"""`gemmapy demo`: what it makes up is believable and balances, it goes on, and it touches nothing of anybody's."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector, Store
from gemmapy.core.errors import ConfigurationError
from gemmapy.demo import history, run
from gemmapy.demo.team import DEARER, INTERN, MODELS, TEAM
from gemmapy.metering.audit import Audit, audit
from gemmapy.storage.figures import Filter

GEMMAPY = str(Path(sys.executable).parent / "gemmapy")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Generator[Store]:
    with Store.open(tmp_path_factory.mktemp("demo") / "data", FixedClock()) as store:
        assert 4_500 < history.fill(store, 5_000, 1).requests < 5_500
        yield store


def test_what_is_made_up_balances(filled: Store) -> None:
    seen = Audit()
    assert list(audit(filled, seen)) == []
    assert seen.requests > 4_500


def test_a_quarter_has_errors_cache_hits_ratings_and_something_unpriced(filled: Store) -> None:
    stats = MetricsCollector(filled).get_dashboard_stats(days=90)
    assert {model["model"] for model in stats["by_model"]} >= {model.name for model in MODELS}
    assert 0.005 < stats["error_rate"] < 0.05
    assert 0.05 < stats["cache_hit_rate"] < 0.2
    assert stats["ratings"]["total_rated"] > 100
    assert stats["unpriced_requests"] > 0
    costs = CostCalculator(filled).get_all_users_costs("quarter")
    assert {user["username"] for user in costs["users"]} >= {person.name for person in TEAM}
    assert costs["total_cost"] > 1


def test_the_weekend_is_quiet_and_the_interns_evening_is_not(filled: Store) -> None:
    collector = MetricsCollector(filled)
    hours = collector.get_usage_patterns(days=90)["hours"]
    by_weekday = [sum(hour["requests"] for hour in hours if hour["weekday"] == weekday) for weekday in range(7)]
    assert max(by_weekday[5:]) < min(by_weekday[:5]) * 0.7
    user_id = next(place for place, person in enumerate(TEAM, 2) if person.name == INTERN)
    days = collector.get_time_series(days=90, interval="day", which=Filter(user_id=user_id))["data"]
    ordered = sorted(day["requests"] for day in days)
    assert ordered[-1] > 10 * ordered[len(ordered) // 2]


def test_the_price_that_came_down_left_what_was_recorded_alone(filled: Store) -> None:
    with filled.read() as connection:
        prices = connection.exec_driver_sql(
            "SELECT count(DISTINCT price_id) FROM llm_metrics WHERE model = ?", (DEARER[0],)
        ).scalar()
    assert prices == 2


def test_the_same_seed_and_moment_make_the_same_requests(tmp_path: Path) -> None:
    ledgers: list[list[Any]] = []
    for name in ("one", "two"):
        with Store.open(tmp_path / name, FixedClock()) as store:
            history.fill(store, 500, 7)
            with store.read() as connection:
                ledgers.append([tuple(row) for row in connection.exec_driver_sql("SELECT * FROM llm_metrics")])
    assert ledgers[0] == ledgers[1]


def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(ConfigurationError, match="is not an empty folder"):
        run.fill(tmp_path, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    ran = subprocess.run([GEMMAPY, "demo", "--data", str(tmp_path)], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, "is not an empty folder" in ran.stderr) == (2, True)
    ran = subprocess.run([GEMMAPY, "demo", "--no-serve"], capture_output=True, text=True, timeout=30)
    assert (ran.returncode, "needs --data" in ran.stderr) == (2, True)


def test_filling_alone_leaves_a_folder_that_can_be_served(tmp_path: Path) -> None:
    command = [GEMMAPY, "demo", "--no-serve", "--requests", "300", "--data", str(tmp_path / "made")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "Sign in as admin with" in ran.stdout
    assert (tmp_path / "made" / "gemmapy.db").is_file()


def ask(url: str, body: Any = None, token: str | None = None) -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
        return json.loads(answer.read())


def _patiently(url: str, body: Any, token: str) -> Any:
    """The demo's machines fail now and then, as machines do."""
    for _ in range(4):
        try:
            return ask(url, body, token)
        except urllib.error.HTTPError as error:
            error.close()
    return ask(url, body, token)


def test_the_team_goes_on_and_nothing_is_left_behind(tmp_path: Path) -> None:
    # In a folder with a configuration of somebody's, which a demo does not read.
    (tmp_path / "gemmapy.toml").write_text(f'data = "{tmp_path}/real"\nupstreams = ["ollama=http://127.0.0.1:1"]\n')
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [GEMMAPY, "demo", "--port", "0", "--requests", "300"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while "serves http" not in printed:
                line = process.stdout.readline()
                assert line, printed
                printed += line
            url = re.findall(r"serves (http://\S+)", printed)[0]
            password = re.findall(r"not one\) with (\S+)", printed)[0]
            token = ask(f"{url}/api/login", {"username": "admin", "password": password})["token"]
            newest = ask(f"{url}/api/metrics/requests?limit=1", token=token)["requests"][0]["id"]
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                fresh = ask(f"{url}/api/metrics/requests?after={newest}", token=token)["requests"]
                if len({entry["username"] for entry in fresh if entry["status"] == 200}) >= 2:
                    break
                time.sleep(0.2)
            else:
                pytest.fail("nobody asked anything")
            asked = {"model": MODELS[0].name, "prompt": "Hello?", "stream": False, "options": {"num_predict": 20}}
            assert "demo" in _patiently(f"{url}/api/generate", asked, token)["response"]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(45) == 0
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "real").exists()
