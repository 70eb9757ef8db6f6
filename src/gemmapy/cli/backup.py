"""`gemmapy backup` and `gemmapy restore`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from gemmapy.cli.options import Config, Data
from gemmapy.config import Settings
from gemmapy.core.errors import ConfigurationError, Conflict, InvalidRequest
from gemmapy.storage.engine import database_path
from gemmapy.storage.migrate import copy_database
from gemmapy.storage.store import Store


def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; must not be there yet.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Copy the database while the gateway runs, and verify the copy.

    The copy is one consistent moment: whatever was acknowledged before is in it. It holds users, key hashes, prices and
    the whole ledger, and not the secret that signs login tokens: after a restore elsewhere, people sign in again.
    """
    source = database_path(Settings.load(config, data=data).data)
    if not source.is_file():
        raise ConfigurationError(f"There is no database {source}.", hint="Give the gateway's folder with --data.")
    try:
        copy_database(source, target)
    except FileExistsError:
        raise Conflict(f"{target} is there already.", hint="Give another name; nothing is overwritten.") from None
    except (OSError, sqlite3.Error) as error:
        raise InvalidRequest(
            f"The backup could not be written: {error}.", hint="Is there space, and may you?"
        ) from None
    print(f"{target}: {_requests(target)} requests, {target.stat().st_size:,} bytes, verified.")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file that 'gemmapy backup' wrote.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Put a backup into an empty data folder. Never overwrites a database."""
    folder = Settings.load(config, data=data).data
    target = database_path(folder)
    if target.exists():
        raise Conflict(
            f"{target} is there already, and a restore never overwrites.",
            hint="Give an empty folder with --data, or move the old database away first.",
        )
    if not source.is_file():
        raise InvalidRequest(f"There is no file {source}.", hint="Give a file that 'gemmapy backup' wrote.")
    try:
        requests = _requests(source)
        copy_database(source, target)
    except sqlite3.Error as error:
        raise InvalidRequest(f"{source} is no backup of GemmaPy: {error}.", hint="Give an undamaged one.") from None
    with Store.open(folder):
        pass  # brings a backup of an older release to this one's schema
    print(f"{target}: {requests} requests restored.")


def _requests(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT count(*) FROM llm_metrics").fetchone()[0]
