"""Killed while it is set up, upgraded, repriced, retired or closed: done again, it ends as if nothing had been."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.crash import books, jobs
from tests.crash.failpoints import FIRST_START, UPGRADE, WORK
from tests.crash.gateways import Gateway, Launcher
from tests.support.scripted import ScriptedUpstream

KILLED = -signal.SIGKILL
RELEASES = Path(__file__).parents[1] / "data" / "releases"


def _query(data: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(data / "gemmapy.db")) as connection:
        return connection.execute(statement).fetchall()


def test_a_first_start_that_is_killed_anywhere_is_made_up_for_by_the_next(
    launcher: Launcher, tmp_path: Path, ollama: ScriptedUpstream
) -> None:
    for number, step in enumerate(FIRST_START):
        gateway = Gateway(launcher, tmp_path / f"data{number}", ollama.url)
        assert gateway.start(at=step) == KILLED, step
        assert gateway.start() is None, gateway.log.read_text()
        gateway.close()
        assert _query(gateway.data, "SELECT count(*) FROM users") == [(1,)]
        assert _query(gateway.data, "SELECT count(*) FROM api_keys") == [(1,)]


@pytest.mark.parametrize("step", UPGRADE)
def test_an_upgrade_that_is_killed_anywhere_is_made_up_for_by_the_next_start(
    launcher: Launcher, tmp_path: Path, step: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with closing(sqlite3.connect(data / "gemmapy.db")) as connection:
        connection.executescript((RELEASES / "0.1.0-schema-0001.sql").read_text())
    requests = _query(data, "SELECT count(*) FROM llm_metrics")
    gateway = Gateway(launcher, data, "http://127.0.0.1:1")
    assert gateway.run("upgrade", at=step) == KILLED
    assert gateway.run("upgrade") == 0, gateway.log.read_text()
    assert _query(data, "SELECT count(*) FROM llm_metrics") == requests
    assert books.audit_of(data) == []
    for backup in (data / "backups").iterdir():
        if backup.suffix == ".db":
            with closing(sqlite3.connect(backup)) as connection:
                assert connection.execute("SELECT count(*) FROM llm_metrics").fetchall() == requests


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Books with three months in them, and prices that have changed since."""
    data = tmp_path_factory.mktemp("past") / "data"
    jobs.fill(data)
    return data


RESULTS = {
    "reprice": "SELECT metric_id, sum(total_nusd), sum(unpriced_requests) FROM adjustments GROUP BY 1 ORDER BY 1",
    "retire": "SELECT day, requests, total_nusd, checksum, deleted_at IS NOT NULL,"
    " (SELECT count(*) FROM llm_metrics) FROM retired_days WHERE requests ORDER BY 1",
    "close": "SELECT number, month, kind, subject, total_nusd FROM statements ORDER BY 1",
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("job", RESULTS)
def test_work_on_the_books_that_is_killed_at_any_transaction_ends_as_if_it_had_not_been(
    launcher: Launcher, past: Path, tmp_path: Path, job: str
) -> None:
    whole = Gateway(launcher, tmp_path / "whole", "http://127.0.0.1:1")
    shutil.copytree(past, whole.data)
    assert whole.run(job) == 0, whole.log.read_text()
    expected = _query(whole.data, RESULTS[job])
    assert expected
    kills = 0
    for step in WORK:
        for hit in count(1):
            killed = Gateway(launcher, tmp_path / "killed", "http://127.0.0.1:1")
            shutil.rmtree(killed.data, ignore_errors=True)
            shutil.copytree(past, killed.data)
            if killed.run(job, at=step, hit=hit) == 0:
                break
            kills += 1
            assert books.audit_of(killed.data) == []
            again = killed.run(job)
            if job == "close" and step == "write committed, nobody told":
                assert again == 1  # it is closed already, and says so
                assert "is closed already" in killed.log.read_text()
            else:
                assert again == 0, killed.log.read_text()
            assert _query(killed.data, RESULTS[job]) == expected, f"{step}, {hit}"
            assert books.audit_of(killed.data) == []
    assert kills >= 2
