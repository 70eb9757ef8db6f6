"""Names by number: rollups hold models and endpoints as small integers. A number, once given, never means another name.

Numbers are given inside the writer's transaction and read from the table each time: a number that was remembered from a
transaction that then failed would be nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, select

from gemmapy.storage.engine import scan
from gemmapy.storage.tables import labels

_AT_ONCE = 500
"""Names in one query; SQLite limits how many values a statement has."""


def numbers(cursor: Any, names: Iterable[str]) -> dict[str, int]:
    """Each name's number; those that have none get one. `cursor` is the driver's, in the writer's transaction."""
    wanted = list(names)
    found: dict[str, int] = {}
    for at in range(0, len(wanted), _AT_ONCE):
        some = wanted[at : at + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        found.update(cursor.execute(f"SELECT name, id FROM labels WHERE name IN ({marks})", some).fetchall())  # noqa: S608
    for name in wanted:
        if name not in found:
            cursor.execute("INSERT INTO labels (name) VALUES (?)", (name,))
            found[name] = cursor.lastrowid
    return found


def number(connection: Connection, name: str) -> int | None:
    """A name's number; None where nothing was ever recorded under it."""
    return connection.execute(select(labels.c.id).where(labels.c.name == name)).scalar()


def names(connection: Connection, ids: Iterable[int]) -> dict[int, str]:
    """The names behind numbers."""
    wanted = ", ".join(str(int(one)) for one in sorted(set(ids)))
    return dict(scan(connection, f"SELECT id, name FROM labels WHERE id IN ({wanted})")) if wanted else {}  # noqa: S608  # pyright: ignore[reportReturnType]


def every_name(connection: Connection) -> dict[int, str]:
    """All of them."""
    return dict(scan(connection, "SELECT id, name FROM labels"))
