"""The FastAPI application: nearly every route that is not metered, its errors in our shape, and what describes all."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import gemmapy
from gemmapy.api import (
    catalogue,
    costs,
    health,
    live,
    machines,
    metrics,
    ollama,
    openai,
    people,
    prices,
    rag,
    relayed,
    reprice,
    sessions,
    statements,
    upkeep,
)
from gemmapy.api.services import Services
from gemmapy.api.shapes import error_body, error_headers, unexpected
from gemmapy.core.errors import GemmaPyError, InvalidRequest, MethodNotAllowed, NotFound

ROUTERS = (
    sessions.router,
    people.router,
    metrics.router,
    live.router,
    costs.router,
    prices.router,
    catalogue.router,
    machines.router,
    reprice.router,
    statements.router,
    ollama.router,
    openai.router,
    rag.router,
    upkeep.router,
)
_log = structlog.stdlib.get_logger()
_DESCRIPTION = """\
Meters, prices and shows every LLM request. Point an Ollama or OpenAI client here; sign in with a login token or an API
key as `Authorization: Bearer ...`, or put the key into the path: `/k/<key>/...`.
"""


def create_api(services: Services) -> FastAPI:
    """The application over the given services."""
    api = FastAPI(
        title="GemmaPy",
        version=gemmapy.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    api.state.services = services
    for router in ROUTERS:
        # Not `include_router`, which builds every route a second time, in a tenth of a second of the first request.
        api.router.routes.extend(router.routes)
    api.add_exception_handler(GemmaPyError, _tell)
    api.add_exception_handler(RequestValidationError, _tell_invalid)
    api.add_exception_handler(HTTPException, _tell_http)
    api.add_exception_handler(ClientDisconnect, _tell_nobody)
    api.add_exception_handler(Exception, _tell_unexpected)
    api.openapi = lambda: _schema(api)  # pyright: ignore[reportAttributeAccessIssue]
    return api


def _schema(api: FastAPI) -> dict[str, Any]:
    """OpenAPI as it is true here: the routes that it never sees included, errors in our shape, 400 in place of 422."""
    if api.openapi_schema:
        return api.openapi_schema
    schema = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
    schema["paths"] = {**relayed.paths(), **schema["paths"], **health.paths()}
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    components["Error"] = relayed.ERROR_SCHEMA
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            responses.pop("422", None)
            responses["400"] = relayed.error_response(path, "The request is not valid; the message says why.")
            responses["default"] = relayed.error_response(
                path, "Any other error: the status and the message say which."
            )
            if operation.get("security"):
                responses["401"] = relayed.error_response(path, "Not signed in.")
                responses["403"] = relayed.error_response(path, "Not allowed.")
            if "{" in path:
                responses["404"] = relayed.error_response(path, "There is no such thing, or it is not one's own.")
    base = api.state.services.settings.base_path
    if base:
        schema["servers"] = [{"url": base}]
    api.openapi_schema = schema
    return schema


def _answer(path: str, error: GemmaPyError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(error_body(path, error), error.status, headers)


async def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, GemmaPyError)
    return _answer(request.scope["path"], error)


async def _tell_invalid(request: Request, error: Exception) -> Response:
    """FastAPI's findings in one sentence: where, what is wrong, without the values (they may be passwords)."""
    assert isinstance(error, RequestValidationError)
    parts: list[str] = []
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"][1:])
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "json_invalid":
            text, where = f"the body is not valid JSON ({problem.get('ctx', {}).get('error', 'cannot be read')})", ""
        elif problem["type"] in ("model_attributes_type", "dict_type"):
            text = "the body must be a JSON object, sent with Content-Type: application/json"
        elif problem["type"] == "extra_forbidden":
            text = "there is no such field"
        elif problem["type"] == "missing":
            text = "is required"
        parts.append(f"{where}: {text}" if where else text)
    return _answer(request.scope["path"], InvalidRequest("; ".join(parts) + "."))


async def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 404:
        return _answer(path, NotFound(f"There is no {path}."))
    if error.status_code == 405:
        answer = _answer(path, MethodNotAllowed(f"{path} does not take {request.method}."))
        if error.headers and "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    known = error.__cause__
    if not isinstance(known, GemmaPyError):
        known = InvalidRequest(str(error.detail))
        known.status = error.status_code
    answer = _answer(path, known)
    if error.status_code in (408, 413):
        answer.headers["Connection"] = "close"  # the rest of the body is still on its way
    return answer


async def _tell_nobody(request: Request, error: Exception) -> Response:  # noqa: ARG001 - a handler's arguments
    """The client left in the middle of its request: nobody reads this, and nothing is wrong here."""
    return _answer(request.scope["path"], InvalidRequest("The client left before its request was whole."))


async def _tell_unexpected(request: Request, error: Exception) -> Response:
    _log.error("a request failed unexpectedly", path=request.scope["path"], exc_info=error)
    return _answer(request.scope["path"], unexpected(error))
