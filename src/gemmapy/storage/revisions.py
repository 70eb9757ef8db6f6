"""Revisions: a number a subject that every change of it counts up, in the same transaction.

Other processes poll it; that is how a key that was revoked on the command line stops working in the gateway.
"""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from gemmapy.storage.tables import revisions


def count_up(connection: Connection, subject: str) -> int:
    """Marks a change of `subject`; returns its new revision."""
    statement = insert(revisions).values(subject=subject, revision=1)
    counted = {"revision": revisions.c.revision + 1}
    upsert = statement.on_conflict_do_update(index_elements=[revisions.c.subject], set_=counted)
    return connection.execute(upsert.returning(revisions.c.revision)).scalar_one()


def current(connection: Connection) -> dict[str, int]:
    """Every subject's revision."""
    rows = connection.execute(select(revisions.c.subject, revisions.c.revision)).mappings()
    return {row["subject"]: row["revision"] for row in rows}
