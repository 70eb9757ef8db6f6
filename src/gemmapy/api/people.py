"""One's own profile and keys, and the admin's users, keys and projects."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from typing_extensions import TypedDict

from gemmapy.api.access import Admin, SignedIn, Use, client_address, refuse_limited
from gemmapy.api.credential import is_cookies
from gemmapy.api.moments import AwareMoment
from gemmapy.api.services import Services
from gemmapy.api.sessions import PageSession, Session, give, shown
from gemmapy.core.errors import Forbidden, InvalidRequest, Unauthorized
from gemmapy.gateway import credentials
from gemmapy.gateway.auth import new_key
from gemmapy.metering.answers import Done
from gemmapy.storage import people

router = APIRouter(tags=["People"])
Name = Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


# One's own


class Profile(TypedDict):
    id: int
    username: str
    is_admin: bool
    created_at: datetime
    projects: list[str]


@router.get("/api/profile", summary="Who am I?")
def profile(caller: SignedIn, use: Use) -> Profile:
    with use.store.read() as connection:
        user = people.user(connection, caller.user_id)
    return {
        "id": user["id"],
        "username": user["username"],
        "is_admin": user["is_admin"],
        "created_at": user["created_at"],
        "projects": sorted(caller.projects),
    }


class PasswordChange(_Body):
    current_password: StrictStr = Field(max_length=4096)
    new_password: StrictStr = Field(max_length=4096)


@router.post("/api/profile/password", summary="Change the password; every earlier login token ends")
def change_password(
    body: PasswordChange, request: Request, response: Response, caller: SignedIn, use: Use
) -> Session | PageSession:
    refuse_limited(caller)
    if not use.auth.is_password(caller.user_id, body.current_password, client_address(request)):
        raise Unauthorized("The current password is wrong.", hint="An admin can set a new one.")
    password_hash = use.auth.hash_password(body.new_password)
    _edit_user(use, caller.user_id, {"password_hash": password_hash})
    token, caller = use.auth.issue(caller.user_id)
    if is_cookies(request.scope):
        return give(token, request, response, use)  # no script of the page gets to see the token
    return shown(token, caller)


class KeyLimits(_Body):
    """What a key may do; what is left out is not limited."""

    expires_at: AwareMoment | None = None
    models: list[Name] | None = Field(None, max_length=100, description="Names, or patterns with *.")
    routes: list[Name] | None = Field(None, max_length=100, description="Paths, each with all below it.")
    project: Name | None = Field(None, description="Who pays for its requests: one of the user's projects.")


class NewKeyBody(KeyLimits):
    name: Name
    is_trusted: StrictBool = Field(False, description="Admins only: its requests may name their end user.")


class KeyChange(KeyLimits):
    name: Name | None = None


class KeyLimitsSet(TypedDict):
    """A key's limits beside its user's; null or 0: none."""

    concurrent: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None


class UserLimitsSet(KeyLimitsSet):
    """A user's own limits; null: what the settings say of everybody, 0: none. `weight`: the share where requests wait,
    null is 1."""

    concurrent_per_model: int | None
    weight: float | None


class KeyEntry(TypedDict):
    id: int
    user_id: int
    username: str
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    models: list[str] | None
    routes: list[str] | None
    project: str | None
    is_trusted: bool
    limits: KeyLimitsSet


class Keys(TypedDict):
    keys: list[KeyEntry]


class MadeKey(TypedDict):
    id: int
    name: str
    key: str
    message: str


@router.get("/api/keys", summary="Your API keys")
def own_keys(caller: SignedIn, use: Use) -> Keys:
    return _keys(use, caller.user_id)


@router.post("/api/keys", status_code=201, summary="A new API key, shown this once")
def make_own_key(body: NewKeyBody, caller: SignedIn, use: Use) -> MadeKey:
    refuse_limited(caller)
    if body.is_trusted and not caller.is_admin:
        raise Forbidden("Only an admin can make a key trusted.")
    return _make_key(use, caller.user_id, body)


@router.patch("/api/keys/{key_id}", summary="Change one of your keys")
def edit_own_key(key_id: Id, body: KeyChange, caller: SignedIn, use: Use) -> Done:
    refuse_limited(caller)
    return _edit_key(use, key_id, body, caller.user_id, caller.user_id)


@router.delete("/api/keys/{key_id}", summary="Revoke one of your keys, at once")
def revoke_own_key(key_id: Id, caller: SignedIn, use: Use) -> Done:
    refuse_limited(caller)
    return _revoke_key(use, key_id, caller.user_id)


# The admin's


class UserEntry(TypedDict):
    id: int
    username: str
    is_admin: bool
    created_at: datetime
    disabled: bool
    limits: UserLimitsSet


class Users(TypedDict):
    users: list[UserEntry]


Limit = Annotated[StrictInt | None, Field(ge=0, le=10**12)]


class KeyLimitsChange(_Body):
    """What is left out stays; null and 0: none."""

    concurrent: Limit = None
    requests_per_minute: Limit = None
    tokens_per_minute: Limit = None


class UserLimitsChange(KeyLimitsChange):
    """What is left out stays; null: what the settings say of everybody; 0: none."""

    concurrent_per_model: Limit = None
    weight: Annotated[StrictInt | StrictFloat | None, Field(ge=0.01, le=1000)] = None


class NewUser(_Body):
    username: StrictStr = Field(max_length=1024)
    password: StrictStr = Field(max_length=4096)
    is_admin: StrictBool = False


class MadeUser(TypedDict):
    message: str
    id: int
    username: str


class UserChange(_Body):
    username: StrictStr | None = Field(None, max_length=1024)
    password: StrictStr | None = Field(None, max_length=4096)
    is_admin: StrictBool | None = None
    disabled: StrictBool | None = None
    limits: UserLimitsChange | None = None


class KeyLimitsBody(_Body):
    limits: KeyLimitsChange


@router.get("/api/admin/users", summary="Admins: everyone")
def list_users(caller: Admin, use: Use) -> Users:  # noqa: ARG001 - checked by its type, here and below
    with use.store.read() as connection:
        return {"users": [_user_entry(user) for user in people.list_users(connection)]}


@router.post("/api/admin/users", status_code=201, summary="Admins: a new user")
def make_user(body: NewUser, caller: Admin, use: Use) -> MadeUser:
    refuse_limited(caller)
    username = credentials.check_username(body.username)
    password_hash = use.auth.hash_password(body.password)
    now = use.clock.now()
    user_id = use.store.write(
        lambda connection: people.create_user(connection, username, password_hash, is_admin=body.is_admin, now=now)
    )
    use.auth.refresh()
    return {"message": f"{username} can sign in now.", "id": user_id, "username": username}


@router.get("/api/admin/users/{user_id}", summary="Admins: one user")
def one_user(user_id: Id, caller: Admin, use: Use) -> UserEntry:  # noqa: ARG001
    with use.store.read() as connection:
        return _user_entry(people.user(connection, user_id))


@router.patch("/api/admin/users/{user_id}", summary="Admins: rename, disable, make an admin, set a password or limits")
def edit_user(user_id: Id, body: UserChange, caller: Admin, use: Use) -> UserEntry:
    refuse_limited(caller)
    changes: dict[str, Any] = body.model_dump(exclude_none=True, exclude={"limits"})
    if body.limits is not None:
        changes |= _limits_changed(body.limits)
    if "username" in changes:
        credentials.check_username(changes["username"])
    if "password" in changes:
        changes["password_hash"] = use.auth.hash_password(changes.pop("password"))
    _edit_user(use, user_id, changes)
    with use.store.read() as connection:
        return _user_entry(people.user(connection, user_id))


@router.delete("/api/admin/users/{user_id}", summary="Admins: forget a person; their ledger stays")
def delete_user(user_id: Id, caller: Admin, use: Use) -> Done:
    refuse_limited(caller)
    now = use.clock.now()
    use.store.write(lambda connection: people.delete_user(connection, user_id, now))
    use.auth.refresh()
    use.library.tidy()
    return {"message": "The user is deleted; what they used stays in the ledger."}


@router.get("/api/admin/keys", summary="Admins: everyone's API keys")
def every_key(caller: Admin, use: Use) -> Keys:  # noqa: ARG001
    return _keys(use, None)


@router.post("/api/admin/users/{user_id}/keys", status_code=201, summary="Admins: a new API key for a user")
def make_key(user_id: Id, body: NewKeyBody, caller: Admin, use: Use) -> MadeKey:
    refuse_limited(caller)
    return _make_key(use, user_id, body)


@router.patch("/api/admin/keys/{key_id}", summary="Admins: set a key's limits")
def limit_key(key_id: Id, body: KeyLimitsBody, caller: Admin, use: Use) -> Done:
    refuse_limited(caller)
    changes = _limits_changed(body.limits)
    use.store.write(lambda connection: people.edit_key(connection, key_id, changes))
    use.auth.refresh()
    return {"message": "The key's limits are set."}


@router.delete("/api/admin/keys/{key_id}", summary="Admins: revoke anyone's key, at once")
def revoke_key(key_id: Id, caller: Admin, use: Use) -> Done:
    refuse_limited(caller)
    return _revoke_key(use, key_id, None)


class ProjectEntry(TypedDict):
    id: int
    name: str
    created_at: datetime
    members: list[int]


class Projects(TypedDict):
    projects: list[ProjectEntry]


class NewProject(_Body):
    name: Name


@router.get("/api/admin/projects", summary="Admins: the projects that can be charged")
def list_projects(caller: Admin, use: Use) -> Projects:  # noqa: ARG001
    with use.store.read() as connection:
        listed = people.list_projects(connection)
    return {"projects": [ProjectEntry(**entry) for entry in listed]}


@router.post("/api/admin/projects", status_code=201, summary="Admins: a new project")
def make_project(body: NewProject, caller: Admin, use: Use) -> ProjectEntry:
    refuse_limited(caller)
    now = use.clock.now()
    project_id = use.store.write(lambda connection: people.create_project(connection, body.name, now))
    use.auth.refresh()
    with use.store.read() as connection:
        return ProjectEntry(**people.project(connection, project_id))


@router.delete("/api/admin/projects/{project_id}", summary="Admins: take a project out of use; its ledger stays")
def archive_project(project_id: Id, caller: Admin, use: Use) -> Done:
    refuse_limited(caller)
    now = use.clock.now()
    use.store.write(lambda connection: people.archive_project(connection, project_id, now))
    use.auth.refresh()
    return {"message": "The project is archived; its keys go on without it."}


@router.put("/api/admin/projects/{project_id}/members/{user_id}", summary="Admins: let a user charge a project")
def add_member(project_id: Id, user_id: Id, caller: Admin, use: Use) -> Done:
    refuse_limited(caller)
    use.store.write(lambda connection: people.add_member(connection, project_id, user_id))
    use.auth.refresh()
    return {"message": "The user's requests may name the project."}


@router.delete("/api/admin/projects/{project_id}/members/{user_id}", summary="Admins: the reverse")
def remove_member(project_id: Id, user_id: Id, caller: Admin, use: Use) -> Done:
    refuse_limited(caller)
    use.store.write(lambda connection: people.remove_member(connection, project_id, user_id))
    use.auth.refresh()
    return {"message": "The user's requests may no longer name the project."}


# What they share


def _user_entry(user: dict[str, Any]) -> UserEntry:
    return {
        "id": user["id"],
        "username": user["username"],
        "is_admin": user["is_admin"],
        "created_at": user["created_at"],
        "disabled": user["disabled_at"] is not None,
        "limits": {
            "weight": user["weight"],
            "concurrent": user["limit_concurrent"],
            "concurrent_per_model": user["limit_concurrent_per_model"],
            "requests_per_minute": user["limit_requests_per_minute"],
            "tokens_per_minute": user["limit_tokens_per_minute"],
        },
    }


def _limits_changed(limits: KeyLimitsChange) -> dict[str, Any]:
    """The columns that the given limits go into."""
    given = limits.model_dump(exclude_unset=True)
    return {name if name == "weight" else f"limit_{name}": value for name, value in given.items()}


def _edit_user(use: Services, user_id: int, changes: dict[str, Any]) -> None:
    now = use.clock.now()
    use.store.write(lambda connection: people.edit_user(connection, user_id, changes, now))
    use.auth.refresh()


def _keys(use: Services, user_id: int | None) -> Keys:
    with use.store.read() as connection:
        listed = people.list_keys(connection, user_id)
    shown = KeyEntry.__annotations__
    for key in listed:
        key["limits"] = {name: key[f"limit_{name}"] for name in people.KEY_LIMITS}
    return {"keys": [KeyEntry(**{name: key[name] for name in shown}) for key in listed]}


def _project_id(use: Services, user_id: int, name: str | None) -> int | None:
    """The project of that name. Raises InvalidRequest where the user has none such."""
    if name is None:
        return None
    with use.store.read() as connection:
        user = people.user(connection, user_id)
        for entry in people.list_projects(connection):
            if entry["name"] == name and (user["is_admin"] or user_id in entry["members"]):
                return entry["id"]
    raise InvalidRequest(f"{name!r} is none of the user's projects.", hint="An admin can add them to it.")


def _check_expiry(use: Services, expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= use.clock.now():
        raise InvalidRequest(f"expires_at must lie in the future, got {expires_at.isoformat()}.")


def _make_key(use: Services, user_id: int, body: NewKeyBody) -> MadeKey:
    _check_expiry(use, body.expires_at)
    key = credentials.generate_key()
    made = new_key(
        user_id,
        body.name,
        key,
        expires_at=body.expires_at,
        models=body.models,
        routes=body.routes,
        project_id=_project_id(use, user_id, body.project),
        is_trusted=body.is_trusted,
    )
    now = use.clock.now()
    key_id = use.store.write(lambda connection: people.create_key(connection, made, now))
    use.auth.refresh()
    return {"id": key_id, "name": body.name, "key": key, "message": "Keep the key: it is shown this once."}


def _edit_key(use: Services, key_id: int, body: KeyChange, owner: int, user_id: int | None) -> Done:
    changes: dict[str, Any] = body.model_dump(exclude_unset=True)
    if changes.get("name", "") is None:
        raise InvalidRequest("name must be a text, got null.")
    _check_expiry(use, changes.get("expires_at"))
    if "project" in changes:
        changes["project_id"] = _project_id(use, owner, changes.pop("project"))
    use.store.write(lambda connection: people.edit_key(connection, key_id, changes, user_id))
    use.auth.refresh()
    return {"message": "The key is changed."}


def _revoke_key(use: Services, key_id: int, user_id: int | None) -> Done:
    now = use.clock.now()
    use.store.write(lambda connection: people.revoke_key(connection, key_id, now, user_id))
    use.auth.refresh()
    return {"message": "The key is revoked."}
