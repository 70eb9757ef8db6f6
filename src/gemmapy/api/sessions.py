"""Signing in and out: login tokens for programs, and the same in a cookie that no script can read, for pages.

The cookie is HttpOnly and SameSite=Strict; when it counts is in `credential.py`. A session lasts a day and is given
another by `GET /api/session` once half of it is gone, so that whoever keeps using the page stays in; thirty days after
the sign-in it ends for good. Its CSRF text stays the same all that time, so tabs do not throw each other out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr
from typing_extensions import TypedDict

from gemmapy.api.access import SignedIn, Use, client_address, refuse_limited
from gemmapy.api.credential import COOKIE, is_cookies, presented, refuse_foreign
from gemmapy.api.services import Services
from gemmapy.gateway.auth import Caller, LoginSession
from gemmapy.metering.answers import Done
from gemmapy.storage import people

router = APIRouter(tags=["Sessions"])


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid")
    username: StrictStr = Field(max_length=1024)
    password: StrictStr = Field(max_length=4096)


class SignedInUser(TypedDict):
    id: int
    username: str
    is_admin: bool


class Session(TypedDict):
    token: str
    user: SignedInUser


class PageSession(TypedDict):
    """`csrf` goes into the header X-CSRF-Token of everything but GET and HEAD."""

    user: SignedInUser
    csrf: str
    expires_at: datetime


@router.post("/api/login", summary="A login token, valid for 24 hours")
def login(body: Login, request: Request, use: Use) -> Session:
    return shown(*use.auth.login(body.username, body.password, client_address(request)))


@router.post("/api/session", summary="Sign in with a cookie, for pages in a browser")
def sign_in(body: Login, request: Request, response: Response, use: Use) -> PageSession:
    refuse_foreign(request.scope)  # or another site's page could sign somebody in as its own user
    token, _ = use.auth.login(body.username, body.password, client_address(request))
    return give(token, request, response, use)


@router.get("/api/session", summary="Who is signed in, and until when; also goes on with a session that is in use")
def current_session(caller: SignedIn, request: Request, response: Response, use: Use) -> PageSession:
    del caller  # checked by its type
    session = use.auth.session(presented(request.scope, use.auth))
    if is_cookies(request.scope):
        renewed = use.auth.renewed(session)
        if renewed is not None:
            return give(renewed, request, response, use)
    return _page_session(session)


@router.delete("/api/session", summary="Sign out here")
def sign_out(caller: SignedIn, request: Request, response: Response, use: Use) -> Done:
    use.auth.session(presented(request.scope, use.auth))
    take(request, response, use)
    return {"message": f"{caller.username} is signed out here."}


@router.delete("/api/sessions", summary="Sign out everywhere: every login token of yours ends")
def sign_out_everywhere(caller: SignedIn, request: Request, response: Response, use: Use) -> Done:
    refuse_limited(caller)
    now = use.clock.now()
    use.store.write(lambda connection: people.end_sessions(connection, caller.user_id, now))
    use.auth.refresh()
    take(request, response, use)
    return {"message": f"{caller.username} is signed out everywhere; API keys go on."}


def shown(token: str, caller: Caller) -> Session:
    """A login token as JSON."""
    return {"token": token, "user": _user(caller)}


def give(token: str, request: Request, response: Response, use: Services) -> PageSession:
    """Puts a login token into the answer's cookie; what the page may know of it is the result."""
    session = use.auth.session(token)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int((session.expires_at - use.clock.now()).total_seconds()),
        **_attributes(request, use),
    )
    return _page_session(session)


def take(request: Request, response: Response, use: Services) -> None:
    """Has the browser forget the cookie."""
    response.delete_cookie(COOKIE, **_attributes(request, use))


def _attributes(request: Request, use: Services) -> dict[str, Any]:
    return {
        "path": use.settings.base_path or "/",
        "secure": request.url.scheme == "https",  # also as a trusted proxy tells
        "httponly": True,
        "samesite": "strict",
    }


def _user(caller: Caller) -> SignedInUser:
    return {"id": caller.user_id, "username": caller.username, "is_admin": caller.is_admin}


def _page_session(session: LoginSession) -> PageSession:
    return {"user": _user(session.caller), "csrf": session.csrf, "expires_at": session.expires_at}
