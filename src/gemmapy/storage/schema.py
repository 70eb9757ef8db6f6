"""An empty database becomes one of this release at once: without its history, and without Alembic, which takes a third
of a second and 11 MiB. A test holds it to what the migrations lead to.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert

from gemmapy.storage import fulltext
from gemmapy.storage.tables import metadata, revisions

COUNTED = ("people", "prices")
"""What has a revision before anything has changed."""
_alembic_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def create(connection: Connection, version: str) -> None:
    """Makes every table, in the caller's transaction. `version` is the migration that this is as if after."""
    metadata.create_all(connection, checkfirst=False)
    fulltext.create(connection)
    connection.execute(insert(revisions), [{"subject": subject, "revision": 0} for subject in COUNTED])
    _alembic_version.create(connection, checkfirst=False)
    connection.execute(insert(_alembic_version), {"version_num": version})
