"""What proves who somebody is: passwords, login tokens, API keys. Pure but for the random numbers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gemmapy.core.errors import ConfigurationError, InvalidRequest
from gemmapy.storage import folders

TOKEN_LIFETIME = timedelta(hours=24)
SESSION_LIFETIME = timedelta(days=30)
"""For how long after its sign-in a session can be given fresh tokens."""
KEY_PREFIX = "gp-"
SHOWN_PREFIX_LENGTH = 10
_ALGORITHM = "HS256"
_SECRET_BYTES = 32
_KEY_BYTES = 32
_jwt: Any = jwt  # its types name those of a package that is not needed for HS256
_USERNAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")

# RFC 9106's second recommended option (64 MiB, 3 passes), with one lane: two at a time must not take the machine.
_hasher = PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=1)


def check_username(username: str) -> str:
    """The name itself. Raises InvalidRequest that says what a name looks like."""
    if not _USERNAME.fullmatch(username):
        raise InvalidRequest("username must have 1 to 64 characters, of letters, digits and . _ @ -")
    return username


def hash_password(password: str) -> str:
    """An argon2id hash, about 0.1 s of work. Raises InvalidRequest for a password of the wrong length."""
    if not 8 <= len(password) <= 1024:
        raise InvalidRequest(f"password must have 8 to 1024 characters, has {len(password)}.")
    return _hasher.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Whether it is the password. Takes as long where there is none to compare with."""
    try:
        _hasher.verify(stored or _nobodys_hash(), password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def _nobodys_hash() -> str:
    """One that no password has, in the form and at the cost of the others. Put together, since making one would take
    0.1 s of every start."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (_hasher.salt_len, _hasher.hash_len)
    )
    cost = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"


def is_outdated(stored: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _hasher.check_needs_rehash(stored)


def generate_password() -> str:
    """A password that can be read out: 20 characters, 100 bits."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789-"  # 32 of them, none that look alike
    return "".join(secrets.choice(alphabet) for _ in range(20))


def generate_key() -> str:
    """An API key: `gp-` and 43 characters, 256 bits."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_key(key: str) -> bytes:
    """How a key is stored and looked up: SHA-256, since 256 random bits need neither salt nor slowness."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid login token says."""

    user_id: int
    session: str
    """The same in all tokens that a session is given, one after the other."""
    signed_in_at: datetime
    issued_at: datetime
    expires_at: datetime


class Tokens:
    """Login tokens: JWTs, HS256, valid for 24 hours."""

    def __init__(self, secret: bytes, now: Callable[[], datetime]) -> None:
        self._secret = secret
        self._now = now

    def issue(self, user_id: int, earlier: Claims | None = None) -> str:
        """A new token: of a new session, or of the one that has had `earlier`."""
        now = self._now()
        signed_in_at = earlier.signed_in_at if earlier else now
        claims = {
            "sub": str(user_id),
            # Fractions of a second are allowed (RFC 7519, NumericDate): a token given right after a password change,
            # within the same second, is younger than the change.
            "iat": now.timestamp(),
            "exp": int(min(now + TOKEN_LIFETIME, signed_in_at + SESSION_LIFETIME).timestamp()),
            "jti": uuid.uuid4().hex,
            "sid": earlier.session if earlier else uuid.uuid4().hex,
            "auth_time": signed_in_at.timestamp(),
        }
        return _jwt.encode(claims, self._secret, _ALGORITHM)

    def csrf(self, claims: Claims) -> str:
        """What a page has to send along to show that it is the session's own. Tells nothing of the token."""
        key = b"csrf " + self._secret
        return base64.urlsafe_b64encode(hmac.digest(key, claims.session.encode(), "sha256")).rstrip(b"=").decode()

    def read(self, token: str) -> Claims | None:
        """What a token says; None where it is forged, expired, or not ours."""
        try:
            said: dict[str, Any] = _jwt.decode(
                token,
                self._secret,
                [_ALGORITHM],
                options={
                    "require": ["sub", "iat", "exp", "sid", "auth_time"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
            issued_at = datetime.fromtimestamp(said["iat"], UTC)
            expires_at = datetime.fromtimestamp(said["exp"], UTC)
            signed_in_at = datetime.fromtimestamp(said["auth_time"], UTC)
            user_id, session = int(said["sub"]), str(said["sid"])
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, OSError):
            return None
        now = self._now()
        if now >= expires_at or issued_at > now + timedelta(minutes=5):
            return None
        return Claims(user_id, session, signed_in_at, issued_at, expires_at)


def load_secret(data_dir: Path, given: str | None) -> bytes:
    """The secret that signs login tokens: as given, else the data folder's own, made once.

    Raises ConfigurationError where the folder's is too short to be one.
    """
    if given is not None:
        return given.encode()
    path = data_dir / "secret"
    if not path.exists():
        # Not the process's number: in a container it is the same after a crash, and what that left would be in the way.
        made = data_dir / f"secret.{secrets.token_hex(4)}.new"
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(made, path)  # unlike a rename, leaves a secret that another process made in the meantime
        except FileExistsError:
            pass
        finally:
            made.unlink()
            folders.sync(data_dir)
    secret = path.read_text().strip().encode()
    if len(secret) < _SECRET_BYTES:
        raise ConfigurationError(
            f"{path} holds no secret of at least {_SECRET_BYTES} characters.",
            hint="Delete the file; a new secret is made, and everybody has to sign in again.",
        )
    return secret
