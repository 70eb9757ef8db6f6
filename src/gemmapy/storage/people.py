"""Users, API keys and projects: their SQL.

Every change counts up the revision of "people" in its own transaction, so that every process sees it. A deleted user's
row stays, emptied of the person, since the ledger points at it. There is always an admin who can sign in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from gemmapy.core.allowance import Allowance
from gemmapy.core.errors import Conflict, InvalidRequest, NotFound
from gemmapy.storage import documents
from gemmapy.storage.engine import scan
from gemmapy.storage.revisions import count_up
from gemmapy.storage.tables import api_keys, project_members, projects, users

PEOPLE = "people"
USER_LIMITS = ("concurrent", "concurrent_per_model", "requests_per_minute", "tokens_per_minute")
KEY_LIMITS = ("concurrent", "requests_per_minute", "tokens_per_minute")
_USER_LIMITS = (users.c.weight, *(users.c[f"limit_{name}"] for name in USER_LIMITS))
_SHOWN_USER = (users.c.id, users.c.username, users.c.is_admin, users.c.created_at, users.c.disabled_at, *_USER_LIMITS)
_AT_ONCE = 500
"""Ids in one query; SQLite limits how many values a statement has."""
_KEY_COLUMNS = tuple(column for column in api_keys.columns if column.name != "key_hash")


@dataclass(frozen=True, slots=True)
class NewKey:
    """What an API key is made of; `key_hash` and `prefix` stand for the key itself, which is never stored."""

    user_id: int
    name: str
    prefix: str
    key_hash: bytes
    expires_at: datetime | None = None
    models: Sequence[str] | None = None
    routes: Sequence[str] | None = None
    project_id: int | None = None
    is_trusted: bool = False


# Users


def list_users(connection: Connection) -> list[dict[str, Any]]:
    """Everyone who is not deleted, by id."""
    rows = connection.execute(select(*_SHOWN_USER).where(users.c.deleted_at.is_(None)).order_by(users.c.id))
    return [dict(row) for row in rows.mappings()]


def user(connection: Connection, user_id: int) -> dict[str, Any]:
    """One user. Raises NotFound."""
    statement = select(*_SHOWN_USER).where(users.c.id == user_id, users.c.deleted_at.is_(None))
    row = connection.execute(statement).mappings().first()
    if row is None:
        raise NotFound(f"There is no user {user_id}.", hint="GET /api/admin/users lists them.")
    return dict(row)


def names(connection: Connection) -> dict[int, str | None]:
    """Everybody's name by id; None once deleted."""
    return dict(scan(connection, "SELECT id, username FROM users"))


def user_id_of(connection: Connection, username: str) -> int:
    """The id behind a username, whatever its case. Raises NotFound."""
    found = connection.execute(select(users.c.id).where(func.lower(users.c.username) == username.lower())).scalar()
    if found is None:
        raise NotFound(f"There is no user named {username!r}.", hint="'gemmapy user list' shows them.")
    return found


def has_users(connection: Connection) -> bool:
    """Whether anyone was ever made."""
    return connection.execute(select(users.c.id).limit(1)).first() is not None


def never_made(connection: Connection, user_ids: Iterable[int]) -> set[int]:
    """Those who are no user and never were one."""
    asked = list(set(user_ids))
    unknown = set(asked)
    for at in range(0, len(asked), _AT_ONCE):
        some = asked[at : at + _AT_ONCE]
        unknown.difference_update(connection.execute(select(users.c.id).where(users.c.id.in_(some))).scalars())
    return unknown


def create_user(
    connection: Connection, username: str, password_hash: str | None, *, is_admin: bool, now: datetime
) -> int:
    """A new user's id. Raises InvalidRequest where the name is taken, whatever its case."""
    _check_name_is_free(connection, username, None)
    values = {"username": username, "password_hash": password_hash, "is_admin": is_admin, "created_at": now}
    made = connection.execute(insert(users).values(values)).inserted_primary_key
    assert made is not None
    count_up(connection, PEOPLE)
    return made[0]


def edit_user(connection: Connection, user_id: int, changes: Mapping[str, Any], now: datetime) -> None:
    """Changes `username`, `password_hash`, `is_admin`, `disabled` (bool), `weight` or limits (`limit_...`).

    A new password, or being disabled, voids the login tokens given before. Raises NotFound, InvalidRequest where the
    name is taken, Conflict where nobody would be left who can administer.
    """
    user(connection, user_id)
    values: dict[str, Any] = {}
    if "username" in changes:
        _check_name_is_free(connection, changes["username"], user_id)
        values["username"] = changes["username"]
    if "password_hash" in changes:
        values |= {"password_hash": changes["password_hash"], "sessions_from": now}
    if "is_admin" in changes:
        values["is_admin"] = changes["is_admin"]
    if "disabled" in changes:
        values["disabled_at"] = now if changes["disabled"] else None
        if changes["disabled"]:
            values["sessions_from"] = now
    values |= {column.name: changes[column.name] for column in _USER_LIMITS if column.name in changes}
    if values:
        connection.execute(update(users).where(users.c.id == user_id).values(values))
        _check_an_admin_is_left(connection)
        count_up(connection, PEOPLE)


def end_sessions(connection: Connection, user_id: int, now: datetime) -> None:
    """Voids every login token given to the user before `now`; API keys stay. Raises NotFound."""
    user(connection, user_id)
    connection.execute(update(users).where(users.c.id == user_id).values(sessions_from=now))
    count_up(connection, PEOPLE)


def delete_user(connection: Connection, user_id: int, now: datetime) -> None:
    """Forgets the person, and the documents that are theirs alone; the row, its id and its ledger stay.

    Raises NotFound, Conflict for the last admin.
    """
    user(connection, user_id)
    blank = {"username": None, "password_hash": None, "is_admin": False, "disabled_at": now, "deleted_at": now}
    connection.execute(update(users).where(users.c.id == user_id).values(blank))
    _check_an_admin_is_left(connection)
    still_valid = (api_keys.c.user_id == user_id) & api_keys.c.revoked_at.is_(None)
    connection.execute(update(api_keys).where(still_valid).values(revoked_at=now))
    connection.execute(update(api_keys).where(api_keys.c.user_id == user_id).values(name=""))
    connection.execute(delete(project_members).where(project_members.c.user_id == user_id))
    documents.forget(connection, user_id)
    count_up(connection, PEOPLE)


def password_hash_of(connection: Connection, username: str) -> tuple[int, str | None] | None:
    """The id and password hash of a user who may sign in; None for everyone else."""
    statement = select(users.c.id, users.c.password_hash).where(
        func.lower(users.c.username) == username.lower(), users.c.disabled_at.is_(None), users.c.deleted_at.is_(None)
    )
    row = connection.execute(statement).first()
    return None if row is None else (row[0], row[1])


def replace_hash(connection: Connection, user_id: int, old: str, new: str) -> None:
    """The same password, hashed with today's parameters; tokens stay valid."""
    mine = (users.c.id == user_id) & (users.c.password_hash == old)
    connection.execute(update(users).where(mine).values(password_hash=new))


def _check_name_is_free(connection: Connection, username: str, user_id: int | None) -> None:
    taken_by = connection.execute(select(users.c.id).where(func.lower(users.c.username) == username.lower())).scalar()
    if taken_by is not None and taken_by != user_id:
        raise InvalidRequest(f"There is a user named {username!r} already.", hint="Choose another name.")


def _check_an_admin_is_left(connection: Connection) -> None:
    able = select(users.c.id).where(users.c.is_admin.is_(True), users.c.disabled_at.is_(None)).limit(1)
    if connection.execute(able).first() is None:
        raise Conflict(
            "This is the last admin who can sign in.", hint="Make another user an admin first, then try again."
        )


# API keys


def create_key(connection: Connection, key: NewKey, now: datetime) -> int:
    """A new key's id. Raises NotFound where its user or project is gone."""
    user(connection, key.user_id)
    if key.project_id is not None:
        project(connection, key.project_id)
    values = {
        "user_id": key.user_id,
        "name": key.name,
        "prefix": key.prefix,
        "key_hash": key.key_hash,
        "created_at": now,
        "expires_at": key.expires_at,
        "models": None if key.models is None else json.dumps(list(key.models)),
        "routes": None if key.routes is None else json.dumps(list(key.routes)),
        "project_id": key.project_id,
        "is_trusted": key.is_trusted,
    }
    made = connection.execute(insert(api_keys).values(values)).inserted_primary_key
    assert made is not None
    count_up(connection, PEOPLE)
    return made[0]


def list_keys(connection: Connection, user_id: int | None = None) -> list[dict[str, Any]]:
    """The keys that are not revoked, of one user or of all, by id, with their owners' names."""
    statement = (
        select(*_KEY_COLUMNS, users.c.username, projects.c.name.label("project"))
        .join(users, users.c.id == api_keys.c.user_id)
        .outerjoin(projects, projects.c.id == api_keys.c.project_id)
        .where(api_keys.c.revoked_at.is_(None))
        .order_by(api_keys.c.id)
    )
    if user_id is not None:
        statement = statement.where(api_keys.c.user_id == user_id)
    return [_with_lists(dict(row)) for row in connection.execute(statement).mappings()]


def edit_key(connection: Connection, key_id: int, changes: Mapping[str, Any], user_id: int | None = None) -> None:
    """Changes `name`, `expires_at`, `models`, `routes`, `project_id` or limits (`limit_...`). Raises NotFound where it
    is not the user's."""
    values = dict(changes)
    for name in ("models", "routes"):
        if values.get(name) is not None:
            values[name] = json.dumps(list(values[name]))
    if values.get("project_id") is not None:
        project(connection, values["project_id"])
    _change_key(connection, key_id, values, user_id)


def revoke_key(connection: Connection, key_id: int, now: datetime, user_id: int | None = None) -> None:
    """Ends a key at once, and for good. Raises NotFound where it is not the user's, or revoked already."""
    _change_key(connection, key_id, {"revoked_at": now}, user_id)


def _change_key(connection: Connection, key_id: int, values: Mapping[str, Any], user_id: int | None) -> None:
    mine = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
    if user_id is not None:
        mine &= api_keys.c.user_id == user_id
    if values:
        found = connection.execute(update(api_keys).where(mine).values(values)).rowcount
    else:
        found = connection.execute(select(func.count()).select_from(api_keys).where(mine)).scalar_one()
    if not found:
        raise NotFound(f"There is no key {key_id}.", hint="GET /api/keys lists yours.")
    count_up(connection, PEOPLE)


def touch_keys(connection: Connection, last_used: Mapping[int, datetime]) -> None:
    """Writes down when keys were last used. No revision: nobody's rights have changed."""
    for key_id, moment in last_used.items():
        connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=moment))


def _with_lists(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("models", "routes"):
        row[name] = None if row[name] is None else json.loads(row[name])
    return row


# Projects


def list_projects(connection: Connection) -> list[dict[str, Any]]:
    """The projects that are not archived, with their members' ids."""
    rows = connection.execute(
        select(projects.c.id, projects.c.name, projects.c.created_at)
        .where(projects.c.archived_at.is_(None))
        .order_by(projects.c.id)
    ).mappings()
    listed: list[dict[str, Any]] = [{**row, "members": []} for row in rows]
    by_id = {entry["id"]: entry for entry in listed}
    for project_id, user_id in connection.execute(
        select(project_members.c.project_id, project_members.c.user_id).order_by(project_members.c.user_id)
    ):
        if project_id in by_id:
            by_id[project_id]["members"].append(user_id)
    return listed


def project(connection: Connection, project_id: int) -> dict[str, Any]:
    """One project that is not archived. Raises NotFound."""
    for entry in list_projects(connection):
        if entry["id"] == project_id:
            return entry
    raise NotFound(f"There is no project {project_id}.", hint="GET /api/admin/projects lists them.")


def project_id_of(connection: Connection, name: str) -> int | None:
    """The id behind a project's name, archived or not; None where there is none."""
    return connection.execute(select(projects.c.id).where(projects.c.name == name)).scalar()


def project_names(connection: Connection) -> dict[int, str]:
    """Every project's name by id, archived ones included."""
    rows = connection.execute(select(projects.c.id, projects.c.name)).mappings()
    return {row["id"]: row["name"] for row in rows}


def create_project(connection: Connection, name: str, now: datetime) -> int:
    """A new project's id. Raises InvalidRequest where the name is, or was, another's."""
    if connection.execute(select(projects.c.id).where(projects.c.name == name)).first() is not None:
        raise InvalidRequest(f"There is, or was, a project named {name!r} already.", hint="Choose another name.")
    made = connection.execute(insert(projects).values(name=name, created_at=now)).inserted_primary_key
    assert made is not None
    count_up(connection, PEOPLE)
    return made[0]


def archive_project(connection: Connection, project_id: int, now: datetime) -> None:
    """Takes a project out of use; what it was charged stays. Its keys go on without it. Raises NotFound."""
    project(connection, project_id)
    connection.execute(update(projects).where(projects.c.id == project_id).values(archived_at=now))
    connection.execute(update(api_keys).where(api_keys.c.project_id == project_id).values(project_id=None))
    count_up(connection, PEOPLE)


def add_member(connection: Connection, project_id: int, user_id: int) -> None:
    """Lets a user's requests name the project. Raises NotFound; a second time changes nothing."""
    entry = project(connection, project_id)
    user(connection, user_id)
    if user_id not in entry["members"]:
        connection.execute(insert(project_members).values(project_id=project_id, user_id=user_id))
        count_up(connection, PEOPLE)


def remove_member(connection: Connection, project_id: int, user_id: int) -> None:
    """The reverse of `add_member`. Raises NotFound where the project is none, or the user no member."""
    entry = project(connection, project_id)
    if user_id not in entry["members"]:
        raise NotFound(f"User {user_id} is no member of this project.")
    here = (project_members.c.project_id == project_id) & (project_members.c.user_id == user_id)
    connection.execute(delete(project_members).where(here))
    count_up(connection, PEOPLE)


# All at once, for the gateway's memory


@dataclass(frozen=True, slots=True)
class Roll:
    """Everyone and everything that can be let in, read in one go."""

    users: dict[int, dict[str, Any]]
    keys: dict[bytes, dict[str, Any]]
    projects: dict[int, dict[str, int]]
    """Each user's projects, id by name."""


def roll(connection: Connection) -> Roll:
    """Reads it."""
    known = {
        row["id"]: dict(row)
        for row in connection.execute(
            select(users.c.id, users.c.username, users.c.is_admin, users.c.sessions_from, *_USER_LIMITS).where(
                users.c.disabled_at.is_(None), users.c.deleted_at.is_(None)
            )
        ).mappings()
    }
    for entry in known.values():
        entry["weight"] = entry["weight"] or 1.0
        entry["allowance"] = _allowance(entry, USER_LIMITS)
    keys = {
        row["key_hash"]: _with_lists(dict(row))
        for row in connection.execute(select(api_keys).where(api_keys.c.revoked_at.is_(None))).mappings()
        if row["user_id"] in known
    }
    for entry in keys.values():
        entry["allowance"] = _allowance(entry, KEY_LIMITS)
    mine: dict[int, dict[str, int]] = {user_id: {} for user_id in known}
    for entry in list_projects(connection):
        for user_id, own in mine.items():
            if known[user_id]["is_admin"] or user_id in entry["members"]:
                own[entry["name"]] = entry["id"]
    return Roll(known, keys, mine)


def _allowance(row: Mapping[str, Any], limits: Sequence[str]) -> Allowance | None:
    """A user's or a key's own limits; None where there are none."""
    allowance = Allowance(**{name: row[f"limit_{name}"] for name in limits})
    return None if allowance.is_empty else allowance
