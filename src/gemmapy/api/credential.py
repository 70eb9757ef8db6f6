"""Which credential a request presents: of the path, of the `Authorization` header, else of the page's cookie.

A browser sends a cookie along whoever wrote the page that asks. So the cookie counts only where the request cannot be
another site's doing: reading needs that the browser does not say so itself (`Sec-Fetch-Site`), and whatever may change
something needs the session's CSRF text in a header, which a foreign page can neither know nor set. A credential that is
sent on purpose needs none of that, and wins.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.types import Scope

from gemmapy.core.errors import CsrfRefused
from gemmapy.gateway.auth import Auth
from gemmapy.gateway.credentials import KEY_PREFIX

CREDENTIAL = "gemmapy.credential"
"""Where the switch leaves the credential of a `/k/<key>/...` path in the ASGI scope."""
COOKIE = "gemmapy_session"
CSRF_HEADER = b"x-csrf-token"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
_COOKIE_LIMIT = 4096


def presented(scope: Scope, auth: Auth) -> str | None:
    """The credential of a request, not yet looked at; None where it has none.

    Raises CsrfRefused where it is the cookie's and the request may be another site's doing, and Unauthorized where the
    cookie's session is over.
    """
    sent: str | None = scope.get(CREDENTIAL) or bearer(_header(scope, b"authorization"))
    if sent is not None:
        return sent
    token = session_cookie(scope)
    if token is None:
        return None
    refuse_foreign(scope)
    if scope["method"] not in SAFE_METHODS:
        sent = _header(scope, CSRF_HEADER)
        if sent is None:
            raise CsrfRefused(f"{scope['method']} with the page's cookie needs the header X-CSRF-Token.")
        if not hmac.compare_digest(sent.encode(), auth.session(token).csrf.encode()):
            raise CsrfRefused("X-CSRF-Token is not this session's.")
    return token


def is_cookies(scope: Scope) -> bool:
    """Whether a request's credential is the page's cookie."""
    return scope.get(CREDENTIAL) is None and bearer(_header(scope, b"authorization")) is None


def refuse_foreign(scope: Scope) -> None:
    """Raises CsrfRefused where the browser says that another site's page asks, or, of what may change something,
    another origin's of the same site: another port of the same machine is the same site to a browser."""
    site = _header(scope, b"sec-fetch-site")
    if site == "cross-site" or (site == "same-site" and scope["method"] not in SAFE_METHODS):
        raise CsrfRefused("This request was made by another site's page.")


def bearer(value: str | None) -> str | None:
    """The credential in an `Authorization` header; None where it is not `Bearer ...`."""
    scheme, _, credential = (value or "").partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


def session_cookie(scope: Scope) -> str | None:
    """The login token in the page's cookie. An API key in it is none: keys are for programs, which set headers."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name != b"cookie":
            continue
        for pair in value.decode("latin-1").split(";"):
            key, _, token = pair.strip().partition("=")
            if key == COOKIE and 0 < len(token) <= _COOKIE_LIMIT and not token.startswith(KEY_PREFIX):
                return token
    return None


def _header(scope: Scope, name: bytes) -> str | None:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None
