"""Upgrades: in place, after a backup, all or nothing; and data of every release so far opens in this one."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.storage import migrate
from gemmapy.storage.engine import open_writer
from gemmapy.storage.store import Store

RELEASES = Path(__file__).parents[2] / "data" / "releases"
NEXT = '''
"""For the test."""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9998", "{head}", None, None


def upgrade() -> None:
    op.add_column("users", sa.Column("nickname", sa.String(), server_default="none"))
    op.execute("UPDATE users SET nickname = username")
    {extra}
'''


def _next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str = "") -> None:
    """Makes this release one with a second migration."""
    package = tmp_path / "package"
    shutil.copytree(Path(migrate.__file__).parent / "migrations", package / "migrations")
    (package / "migrations" / "versions" / "9998_next.py").write_text(NEXT.format(head=migrate.HEAD, extra=extra))
    monkeypatch.setattr(migrate, "__file__", str(package / "migrate.py"))
    monkeypatch.setattr(migrate, "HEAD", "9998")


def test_an_upgrade_is_made_in_place_after_a_backup(
    store: Store, clock: FixedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MetricsCollector(store).record(1, "llama3", "/x", prompt_tokens=1000)
    store.close()
    head = migrate.HEAD
    _next_release(tmp_path, monkeypatch)
    with Store.open(store.data_dir, clock) as upgraded:
        assert upgraded.backup is not None
        with upgraded.read() as connection:
            assert connection.exec_driver_sql("SELECT nickname FROM users ORDER BY id").scalars().all() == [
                "ada",
                "bob",
            ]
        assert CostCalculator(upgraded).get_user_costs(1)["total_cost"] == 0.00015
    before = sqlite3.connect(upgraded.backup)
    assert before.execute("SELECT version_num FROM alembic_version").fetchone() == (head,)
    assert before.execute("SELECT count(*) FROM llm_metrics").fetchone() == (1,)
    before.close()
    with Store.open(store.data_dir, clock) as again:
        assert again.backup is None


def test_an_upgrade_that_fails_changes_nothing(
    store: Store, clock: FixedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    with monkeypatch.context() as patched:
        _next_release(tmp_path, patched, extra='op.execute("SELECT no_such_column FROM users")')
        with pytest.raises(Exception, match="no_such_column"):
            Store.open(store.data_dir, clock)
    with Store.open(store.data_dir, clock) as again, again.read() as connection:
        columns = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(users)")]
        assert "nickname" not in columns


def test_an_upgrade_that_broke_off_is_made_in_the_same_second(
    store: Store, clock: FixedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    with monkeypatch.context() as patched:
        _next_release(tmp_path / "1", patched, extra='op.execute("SELECT no_such_column FROM users")')
        with pytest.raises(Exception, match="no_such_column"):
            Store.open(store.data_dir, clock)
    _next_release(tmp_path / "2", monkeypatch)
    with Store.open(store.data_dir, clock) as upgraded:
        assert upgraded.backup is not None
        assert upgraded.backup.stem.endswith("-2")
        assert len([*upgraded.backup.parent.iterdir()]) == 2


@pytest.mark.parametrize("dump", sorted(RELEASES.glob("*.sql")), ids=lambda path: path.stem)
def test_data_of_every_release_open_in_this_one(dump: Path, tmp_path: Path, clock: FixedClock) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    old = sqlite3.connect(folder / "gemmapy.db")
    old.executescript(dump.read_text())
    old.close()
    clock.go_on(hours=1)
    with Store.open(folder, clock) as store:
        costs = CostCalculator(store).get_all_users_costs("year")
        stats = MetricsCollector(store).get_dashboard_stats(days=365)
    assert [(user["username"], user["total_cost"]) for user in costs["users"]] == [
        ("ada", 25 * 0.00015 + 50 * 0.0003),
        ("bob", 0),
    ]
    assert (stats["total_requests"], stats["errors"], stats["ratings"]["positive"]) == (3, 1, 1)


def _schema(path: Path) -> dict[str, list[str]]:
    """Every table and index in the words that SQLite keeps of it, whatever their order and the space between them."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        rows = [("rows", " ".join(line for line in connection.iterdump() if line.startswith("INSERT")))]
    words = {name: re.sub(r"\s+", " ", text).replace("('')", "''") for name, text in found + rows}
    return {name: sorted(part.rstrip(" )") for part in re.split(", |; ", text)) for name, text in words.items()}


def test_an_empty_database_becomes_what_the_migrations_lead_to(tmp_path: Path, clock: FixedClock) -> None:
    made, migrated = tmp_path / "made.db", tmp_path / "migrated.db"
    for path in (made, migrated):
        engine = open_writer(path)
        if path == migrated:
            from alembic import command
            from alembic.config import Config

            config = Config()
            config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        assert migrate.migrate(engine, path, clock.now()) is None
        engine.dispose()
    assert _schema(made) == _schema(migrated)


def test_there_is_a_dump_of_every_schema() -> None:
    assert {path.stem.split("-schema-")[1] for path in RELEASES.glob("*.sql")} >= {migrate.HEAD}
