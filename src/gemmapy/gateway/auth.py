"""Who is it? From a credential to a `Caller`, in memory: no database and no hashing of passwords on a warm path.

Everyone who can be let in is held here and read again whenever the revision of "people" moves, which another process's
changes do too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from gemmapy.core.allowance import Allowance
from gemmapy.core.clock import Clock
from gemmapy.core.errors import GemmaPyError, Unauthorized
from gemmapy.gateway import credentials
from gemmapy.gateway.credentials import SESSION_LIFETIME, TOKEN_LIFETIME, Claims, Tokens, load_secret
from gemmapy.gateway.throttle import LoginThrottle, Throttle
from gemmapy.storage import people
from gemmapy.storage.people import NewKey, Roll
from gemmapy.storage.store import Store

__all__ = ["Auth", "Caller", "LoginSession", "load_secret"]
FIRST_ADMIN = "admin"
TOKENS_REMEMBERED = 10_000
TOUCH_EVERY_S = 60
LOGINS_AT_ONCE = 2
_CREDENTIAL_LIMIT = 4096


class Caller(msgspec.Struct, frozen=True):
    """Who asks: a user, by a login token or by an API key with what that allows."""

    user_id: int
    username: str
    is_admin: bool
    api_key_id: int | None = None
    models: tuple[str, ...] | None = None
    """Patterns with `*`; None is every model."""
    routes: tuple[str, ...] | None = None
    """Path prefixes; None is every route."""
    project_id: int | None = None
    projects: Mapping[str, int] = {}
    """Those whose requests may name them, id by name."""
    is_trusted: bool = False
    weight: float = 1.0
    """The user's share of an upstream where requests wait for it, beside others' 1."""
    allowance: Allowance | None = None
    """The user's own limits."""
    key_allowance: Allowance | None = None
    """The key's, which hold beside the user's."""

    @property
    def is_limited(self) -> bool:
        """A key that may not do all that its user may."""
        return self.models is not None or self.routes is not None

    def allows_model(self, model: str) -> bool:
        """A pattern without a tag allows every tag, as `llama3` does for `llama3:8b`."""
        if self.models is None:
            return True
        return any(fnmatchcase(model, p) or (":" not in p and model.startswith(f"{p}:")) for p in self.models)

    def allows_route(self, path: str) -> bool:
        """A prefix allows whole steps of a path: `/api/chat` allows `/api/chat/x` and not `/api/chats`."""
        if self.routes is None:
            return True
        return any(path == r or path.startswith(r.rstrip("/") + "/") for r in self.routes)


@dataclass(slots=True)
class _Known:
    """Everyone who can be let in, as they were read, and the callers behind the keys that were shown since."""

    roll: Roll
    by_key: dict[bytes, tuple[Caller, datetime | None]] = field(
        default_factory=dict[bytes, "tuple[Caller, datetime | None]"]
    )
    """With the moment at which the key expires. By the key's hash."""


@dataclass(frozen=True, slots=True)
class LoginSession:
    """Who is signed in by a login token, and what a page needs to know to go on with it."""

    caller: Caller
    claims: Claims
    csrf: str

    @property
    def expires_at(self) -> datetime:
        return self.claims.expires_at


class Auth:
    """Everyone who can be let in."""

    def __init__(
        self,
        store: Store,
        secret: bytes,
        clock: Clock,
        throttle: Throttle | None = None,
        logins_at_once: int = LOGINS_AT_ONCE,
    ) -> None:
        self._store = store
        self._clock = clock
        self._tokens = Tokens(secret, clock.now)
        self._throttle = throttle or LoginThrottle(lambda: clock.monotonic_ns() / 1e9)
        self._hashing = threading.Semaphore(logins_at_once)
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._claims: OrderedDict[bytes, Claims] = OrderedDict()
        self._last_used: dict[int, datetime] = {}
        self._touched_ns = clock.monotonic_ns()
        self._known = _Known(Roll({}, {}, {}))
        self.refresh()

    @property
    def user_ids(self) -> frozenset[int]:
        """Everyone who can be let in."""
        return frozenset(self._known.roll.users)

    def refresh(self) -> None:
        """Reads everyone again."""
        # From the look to the change, so that a slow reader cannot put older people over newer ones.
        with self._refreshing, self._store.read() as connection:
            self._known = _Known(people.roll(connection))

    def close(self) -> None:
        """Writes down what is still in memory."""
        self._touch()

    def identify(self, credential: str | None) -> Caller:
        """The caller behind a login token or API key. Raises Unauthorized, and never says which part was wrong."""
        if not credential or len(credential) > _CREDENTIAL_LIMIT:
            raise Unauthorized
        caller = self._by_key(credential) if credential.startswith(credentials.KEY_PREFIX) else None
        if caller is not None:
            return caller
        found = self._by_token(credential)
        if found is None:
            raise Unauthorized
        return found[0]

    def login(self, username: str, password: str, address: str) -> tuple[str, Caller]:
        """A token for who knows the password. Blocks for as long as argon2 takes.

        Raises Unauthorized, in the same words and after the same time for a wrong name and a wrong password, and
        TooManyRequests after too many of either.
        """
        self._throttle.check(username, address)
        with self._store.read() as connection:
            found = people.password_hash_of(connection, username)
        user_id, stored = found or (0, None)
        with self._hashing:
            is_right = credentials.verify_password(stored, password)
        if not is_right or stored is None:
            self._throttle.failed(username, address)
            raise Unauthorized("The username or the password is wrong.", hint="An admin can set a new password.")
        self._throttle.succeeded(username, address)
        if credentials.is_outdated(stored):
            with self._hashing:
                renewed = credentials.hash_password(password)
            self._store.write(lambda connection: people.replace_hash(connection, user_id, stored, renewed))
        self.refresh()
        return self.issue(user_id)

    def issue(self, user_id: int) -> tuple[str, Caller]:
        """A fresh token for a user who has just been proved. Raises Unauthorized where the user is gone meanwhile."""
        token = self._tokens.issue(user_id)
        return token, self.identify(token)

    def session(self, token: str | None) -> LoginSession:
        """The session behind a login token. Raises Unauthorized, also for an API key, which has none."""
        found = self._by_token(token) if token and len(token) <= _CREDENTIAL_LIMIT else None
        if found is None:
            raise Unauthorized("Sign in first: there is no session, or it is over.")
        caller, claims = found
        return LoginSession(caller, claims, self._tokens.csrf(claims))

    def renewed(self, session: LoginSession) -> str | None:
        """A fresh token for a session whose token has half its life behind it; None before, and where the session may
        not become older."""
        claims = session.claims
        if self._clock.now() - claims.issued_at < TOKEN_LIFETIME / 2:
            return None
        if claims.expires_at >= claims.signed_in_at + SESSION_LIFETIME - timedelta(seconds=1):
            return None
        return self._tokens.issue(claims.user_id, claims)

    def is_password(self, user_id: int, password: str, address: str) -> bool:
        """Whether it is this user's password; throttled as a login is. Blocks."""
        user = self._known.roll.users.get(user_id)
        if user is None:
            return False
        try:
            self.login(user["username"], password, address)
        except Unauthorized:
            return False
        return True

    def hash_password(self, password: str) -> str:
        """An argon2id hash; no more than two are made at once, so that they cannot starve the gateway. Blocks."""
        with self._hashing:
            return credentials.hash_password(password)

    def first_admin(self, password: str | None) -> tuple[str, str, str] | None:
        """Makes the first admin, with an API key, where there is nobody yet.

        Returns the username, the password (given or generated) and the key, to be shown once; None where there are
        users already.
        """
        if self._known.roll.users:
            return None
        chosen = password or credentials.generate_password()
        password_hash = credentials.hash_password(chosen)
        key = credentials.generate_key()
        with self._store.read() as connection:
            if people.has_users(connection):
                return None
        now = self._clock.now()

        def make(connection: people.Connection) -> bool:
            if people.has_users(connection):
                return False  # another process was faster
            user_id = people.create_user(connection, FIRST_ADMIN, password_hash, is_admin=True, now=now)
            people.create_key(connection, new_key(user_id, "first key", key), now)
            return True

        made = self._store.write(make)
        self.refresh()
        return (FIRST_ADMIN, chosen, key) if made else None

    def _by_key(self, credential: str) -> Caller | None:
        known = self._known
        digest = credentials.hash_key(credential)
        found = known.by_key.get(digest)
        if found is None:
            key = known.roll.keys.get(digest)
            if key is None:
                return None
            found = known.by_key[digest] = self._caller(known.roll, key), key["expires_at"]
        caller, expires_at = found
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            return None
        assert caller.api_key_id is not None
        self._used(caller.api_key_id, now)
        return caller

    @staticmethod
    def _caller(roll: Roll, key: Mapping[str, Any]) -> Caller:
        user = roll.users[key["user_id"]]
        return Caller(
            user_id=user["id"],
            username=user["username"],
            is_admin=user["is_admin"],
            api_key_id=key["id"],
            models=None if key["models"] is None else tuple(key["models"]),
            routes=None if key["routes"] is None else tuple(key["routes"]),
            project_id=key["project_id"],
            projects=roll.projects[user["id"]],
            is_trusted=key["is_trusted"],
            weight=user["weight"],
            allowance=user["allowance"],
            key_allowance=key["allowance"],
        )

    def _by_token(self, token: str) -> tuple[Caller, Claims] | None:
        digest = credentials.hash_key(token)
        claims = self._claims.get(digest)
        if claims is None:
            claims = self._tokens.read(token)
            if claims is None:
                return None
            with self._lock:
                self._claims[digest] = claims
                if len(self._claims) > TOKENS_REMEMBERED:
                    self._claims.popitem(last=False)
        roll = self._known.roll
        user = roll.users.get(claims.user_id)
        if user is None or self._clock.now() >= claims.expires_at:
            return None
        if user["sessions_from"] is not None and claims.signed_in_at < user["sessions_from"]:
            return None  # the sign-in counts, so that a token that is being renewed at this very moment is void too
        caller = Caller(
            user["id"],
            user["username"],
            user["is_admin"],
            projects=roll.projects[user["id"]],
            weight=user["weight"],
            allowance=user["allowance"],
        )
        return caller, claims

    def _used(self, key_id: int, now: datetime) -> None:
        """Notes that a key was used; written down at most once a minute, by a thread of its own."""
        self._last_used[key_id] = now
        if self._clock.monotonic_ns() - self._touched_ns > TOUCH_EVERY_S * 1e9:
            self._touched_ns = self._clock.monotonic_ns()
            threading.Thread(target=self._touch, name="gemmapy-last-used", daemon=True).start()

    def _touch(self) -> None:
        used, self._last_used = self._last_used, {}
        if not used:
            return
        try:
            self._store.write(lambda connection: people.touch_keys(connection, used))
        except GemmaPyError:
            # Tried again with the next use; what is lost is when a key was last used, to the minute.
            self._last_used = {**used, **self._last_used}


def new_key(user_id: int, name: str, key: str, **limits: object) -> NewKey:
    """What is stored of a key that was just generated."""
    prefix = key[: credentials.SHOWN_PREFIX_LENGTH]
    return NewKey(user_id, name, prefix, credentials.hash_key(key), **limits)  # pyright: ignore[reportArgumentType]
