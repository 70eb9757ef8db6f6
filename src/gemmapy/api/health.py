"""Is it alive, and can it take requests? For load balancers and people; no credential needed, nothing secret told.

Answered without FastAPI: a probe of a gateway that nobody else asks does not load it (`later.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.types import Scope, Send

import gemmapy
from gemmapy.api.sending import send_error, send_whole
from gemmapy.api.services import Services
from gemmapy.core.errors import MethodNotAllowed

ALIVE = "/api/health"
READY = "/readyz"


class Probes:
    """An ASGI application for the two paths."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, send: Send) -> None:
        path: str = scope["path"]
        if scope["method"] != "GET":
            await send_error(scope, send, MethodNotAllowed(f"{path} takes GET."), [(b"allow", b"GET")])
            return
        status, said = (200, _alive()) if path == ALIVE else _ready(self._services)
        await send_whole(scope, send, status, [(b"content-type", b"application/json")], msgspec.json.encode(said))


def _alive() -> dict[str, Any]:
    return {"status": "healthy", "version": gemmapy.__version__}


def _ready(use: Services) -> tuple[int, dict[str, Any]]:
    states = [{key: state[key] for key in ("name", "kind", "reachable", "breaker")} for state in use.catalogue.states()]
    problems: list[str] = []
    if use.gateway.draining:
        problems.append("shutting down")
    if use.store.trouble is not None:
        problems.append("records cannot be written")
    if not any(state["reachable"] and state["breaker"] != "open" for state in states):
        problems.append("no upstream answers")
    return 503 if problems else 200, {"ready": not problems, "problems": problems, "upstreams": states}


def paths() -> dict[str, Any]:
    """Both in OpenAPI's words."""
    text = {"type": "string"}
    alive = {"status": text, "version": text}
    ready = {
        "ready": {"type": "boolean"},
        "problems": {"type": "array", "items": text},
        "upstreams": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {**dict.fromkeys(("name", "kind", "breaker"), text), "reachable": {"type": "boolean"}},
            },
        },
    }
    summary = "The gateway can take requests: its books can be written and an upstream answers"
    return {
        ALIVE: {"get": _operation("health", "The process is alive", {"200": _answer("It is.", alive)})},
        READY: {
            "get": _operation(
                "ready", summary, {"200": _answer("It can.", ready), "503": _answer("It cannot: why.", ready)}
            )
        },
    }


def _operation(name: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"tags": ["Health"], "summary": summary, "operationId": name, "responses": responses}


def _answer(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": sorted(properties), "properties": properties}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
