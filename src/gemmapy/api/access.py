"""Who is asking, for the handlers of FastAPI: `SignedIn`, `Admin`, and `scope` for whose figures they see."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import HTTPBearer

from gemmapy.api.services import Services, services
from gemmapy.core.errors import Forbidden
from gemmapy.gateway.auth import Caller

CREDENTIAL = "gemmapy.credential"
"""Where the switch leaves the credential of a `/k/<key>/...` path in the ASGI scope."""
_bearer = HTTPBearer(auto_error=False, description="A login token from POST /api/login, or an API key.")


def bearer(value: str | None) -> str | None:
    """The credential in an `Authorization` header; None where it is not `Bearer ...`."""
    scheme, _, credential = (value or "").partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


def _signed_in(
    request: Request,
    services: Annotated[Services, Depends(services)],
    _documented: Annotated[object, Depends(_bearer)],
) -> Caller:
    credential = request.scope.get(CREDENTIAL) or bearer(request.headers.get("authorization"))
    caller = services.auth.identify(credential)
    path = request.scope.get("path", "")
    if not caller.allows_route(path):
        raise Forbidden(f"This API key may not use {path}.", hint="Ask for a key that may.")
    return caller


SignedIn = Annotated[Caller, Depends(_signed_in)]


def _admin(caller: SignedIn) -> Caller:
    if not caller.is_admin:
        raise Forbidden("This is for admins only.")
    return caller


Admin = Annotated[Caller, Depends(_admin)]
UserId = Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Admins only: this user's figures.")]


def scope(caller: Caller, user_id: int | None) -> int | None:
    """Whose figures `caller` gets: a user their own, an admin everyone's (None) or those of `user_id`.

    Raises Forbidden for a user who asks for another's.
    """
    if caller.is_admin:
        return user_id
    if user_id is not None and user_id != caller.user_id:
        raise Forbidden("You may see your own figures only.")
    return caller.user_id
