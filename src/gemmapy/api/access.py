"""What FastAPI's handlers are given: the services (`Use`), who is asking (`SignedIn`, `Admin`), and `scope` for whose
figures they see."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.requests import HTTPConnection

from gemmapy.api.credential import COOKIE, presented
from gemmapy.api.services import Services
from gemmapy.core.errors import Forbidden
from gemmapy.gateway.auth import Caller

_bearer = HTTPBearer(auto_error=False, description="A login token from POST /api/login, or an API key.")
_cookie = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    description="A page's session, from POST /api/session; all but GET and HEAD need X-CSRF-Token beside it.",
)


def _services(connection: HTTPConnection) -> Services:
    """The services of the application that is asked."""
    return connection.app.state.services


Use = Annotated[Services, Depends(_services)]


def _signed_in(
    request: Request,
    use: Use,
    _documented: Annotated[object, Depends(_bearer)],
    _documented_too: Annotated[object, Depends(_cookie)],
) -> Caller:
    caller = use.auth.identify(presented(request.scope, use.auth))
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


def refuse_limited(caller: Caller) -> None:
    """A key for some models or routes must not make itself one for all. Raises Forbidden."""
    if caller.is_limited:
        raise Forbidden("This API key is limited, so it may not change people, keys or projects.")


def client_address(request: Request) -> str:
    """Whom to slow down. Behind a trusted proxy, uvicorn puts the client's own address here."""
    return request.client.host if request.client else ""
