"""Brings a database to the schema of this release, in place, after a backup.

`HEAD` names the newest migration, so that only an upgrade need load Alembic; a test holds the two equal.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection, Engine, inspect, text

from gemmapy.core.errors import ConfigurationError
from gemmapy.storage import folders, recount, schema

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0009"
ROLLUPS_SINCE = "0007"
"""The newest migration that changes what rollups hold: a database that was before it has them made again."""
_log = structlog.stdlib.get_logger()


def schema_version(connection: Connection) -> str | None:
    """The migration that the database is at; None where it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()


def migrate(engine: Engine, path: Path, now: datetime) -> Path | None:
    """Upgrades the database to HEAD, or makes it; does nothing where it is there.

    Returns the backup that was made before an existing database was changed. Either is one transaction.
    Raises ConfigurationError where the database comes from a newer release.
    """
    with engine.connect() as connection:
        current = schema_version(connection)
    if current is None:
        current = _make(engine)
    if current == HEAD:
        return None
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    if current not in known:
        raise ConfigurationError(
            f"The data was written by a newer release (schema {current}, this release knows {HEAD}).",
            hint="Install that release again, or restore the backup that was made before the upgrade.",
        )
    backup = _unused(path.parent / "backups" / f"{path.stem}-schema-{current}-{now:%Y%m%dT%H%M%S}{path.suffix}")
    copy_database(path, backup)
    _log.info("upgrading the database", schema=current, to=HEAD, backup=str(backup))
    _upgrade(engine, config, remake_rollups=current < ROLLUPS_SINCE)
    return backup


def _make(engine: Engine) -> str:
    """Makes the schema in an empty database. Returns its version: another than HEAD where a process of another release
    has made it meanwhile."""
    with engine.begin() as connection:
        made = schema_version(connection)
        if made is None:
            schema.create(connection, HEAD)
        return made or HEAD


def _unused(path: Path) -> Path:
    """The path, or one beside it: an upgrade that was killed and started again in the same second has left one."""
    number = 2
    free = path
    while free.exists():
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database that may be in use, by SQLite's online backup; whole or not there at all.

    Raises FileExistsError where the target is there.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    folders.make(target.parent)
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    origin = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
    copy = sqlite3.connect(partial)
    try:
        origin.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, no -wal beside it
        verdict = copy.execute("PRAGMA integrity_check").fetchone()[0]
    finally:
        copy.close()
        origin.close()
    if verdict != "ok":
        partial.unlink()
        raise sqlite3.DatabaseError(f"the copy of {source} is damaged: {verdict}")
    partial.chmod(0o600)
    partial.rename(target)
    folders.sync(target.parent)  # before anything is done to the original that needs a backup


def _upgrade(engine: Engine, config: Config, *, remake_rollups: bool) -> None:
    from alembic import command

    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if remake_rollups:
            recount.rebuild(connection)  # what a release adds to them, the ledger knows
