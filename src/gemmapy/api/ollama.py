"""Ollama's routes that are not metered: lists, descriptions, and the admin's handling of models.

With one Ollama behind the gateway, its own bytes are passed on; with several upstreams, their lists are put together.
Pull, push, create, copy, delete and blobs are streamed both ways and never held in memory.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

import gemmapy
from gemmapy.api.access import Admin, SignedIn, Use
from gemmapy.api.services import Services
from gemmapy.core.errors import Forbidden, InvalidRequest, NotFound, UnknownModel, UpstreamError
from gemmapy.core.foreign import UNREADABLE
from gemmapy.gateway.asked import decompress
from gemmapy.gateway.auth import Caller
from gemmapy.upstreams.transport import Answer
from gemmapy.upstreams.upstream import Upstream

router = APIRouter(tags=["Ollama"])
_LIST_LIMIT = 16 * 1024 * 1024
_PASSED_ON = ("content-type", "content-length", "content-encoding", "user-agent")
_KEPT = frozenset({b"content-type", b"content-length", b"content-encoding"})
_DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")
_EPOCH = "1970-01-01T00:00:00Z"


@router.get("/api/tags", summary="The models, of every upstream")
@router.get("/api/ollama/models", summary="The models, of every upstream", tags=["GemmaPy"])
async def tags(caller: SignedIn, use: Use) -> Response:
    await use.catalogue.refresh()
    only = _only_ollama(use)
    if only is not None and caller.models is None:
        return await _fetch(use, only, "GET", "/api/tags")
    models = [
        described if upstream.kind == "ollama" else _as_tag(name, described)
        for name, described, upstream in use.catalogue.models()
        if caller.allows_model(name)
    ]
    return _json({"models": models})


@router.post("/api/show", summary="A model's details")
async def show(request: Request, caller: SignedIn, use: Use) -> Response:
    body = await _body(request, use)
    model = _model(body)
    if not caller.allows_model(model):
        raise UnknownModel(model)
    upstream = await use.catalogue.find(model)
    if upstream.kind == "ollama":
        return await _fetch(use, upstream, "POST", "/api/show", body)
    described = next((d for n, d, u in use.catalogue.models() if n == model and u is upstream), None)
    if described is None:
        raise UnknownModel(model)
    tag = _as_tag(model, described)
    return _json(
        {
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": tag["details"],
            "model_info": described.get("meta") or {},
            "capabilities": ["completion", "tools"],
            "modified_at": tag["modified_at"],
        }
    )


@router.get("/api/ps", summary="The models in memory, of every upstream")
async def ps(caller: SignedIn, use: Use) -> Response:
    only = _only_ollama(use)
    if only is not None and caller.models is None:
        return await _fetch(use, only, "GET", "/api/ps")
    running: list[dict[str, Any]] = []
    for upstream in use.catalogue.upstreams:
        if upstream.kind == "ollama":
            try:
                said = msgspec.json.decode(await _read(use, upstream, "GET", "/api/ps"), type=_Running)
            except (UpstreamError, *UNREADABLE):
                continue  # the others' models are running all the same
            running += [model for model in said.models or () if caller.allows_model(str(model.get("name")))]
    for name, described, upstream in use.catalogue.models():
        if upstream.embedded is not None and caller.allows_model(name):
            tag = _as_tag(name, described)
            running.append({**tag, "expires_at": "9999-12-31T23:59:59Z", "size_vram": 0})
    return _json({"models": running})


@router.get("/api/version", summary="The version of the first Ollama, else the gateway's own")
async def version(caller: SignedIn, use: Use) -> Response:  # noqa: ARG001 - only who is known may ask
    for upstream in use.catalogue.upstreams:
        if upstream.kind == "ollama":
            return await _fetch(use, upstream, "GET", "/api/version")
    return _json({"version": gemmapy.__version__})


@router.get("/api/ollama/status", summary="Which upstreams answer", tags=["GemmaPy"])
async def status(caller: SignedIn, use: Use) -> dict[str, Any]:  # noqa: ARG001 - only who is known may ask
    await use.catalogue.refresh()
    states = use.catalogue.states()
    online = any(state["reachable"] for state in states)
    return {"status": "online" if online else "offline", "upstreams": states}


@router.post("/api/pull", summary="Admins: fetch a model", description="Progress is streamed, as Ollama does.")
@router.post("/api/push", summary="Admins: publish a model")
@router.post("/api/create", summary="Admins: make a model")
@router.post("/api/copy", summary="Admins: copy a model")
@router.delete("/api/delete", summary="Admins: delete a model")
@router.head("/api/blobs/{digest}", summary="Admins: is this blob there?")
@router.post("/api/blobs/{digest}", summary="Admins: upload a blob")
async def manage(request: Request, caller: Admin, use: Use, upstream: str | None = None) -> Response:  # noqa: ARG001
    target = _target(use, upstream)
    path = _managed(request.scope["path"])
    headers = [(name, request.headers[name]) for name in _PASSED_ON if name in request.headers]
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    answer = await use.transport.send(
        request.method,
        target.address(path),
        [*headers, ("Accept-Encoding", "identity"), *target.headers()],
        request.stream() if has_body else None,
        where=target.title,
    )
    return StreamingResponse(
        _pieces(answer, use),
        status_code=answer.status,
        headers={k.decode("latin-1"): v.decode("latin-1") for k, v in answer.headers if k in _KEPT},
    )


async def _pieces(answer: Answer, use: Services) -> AsyncIterator[bytes]:
    """The answer, and once it is over, word that the models may be others now."""
    try:
        async for piece in answer.chunks():
            yield piece
    finally:
        answer.close()
        use.catalogue.outdate()


def _managed(path: str) -> str:
    """The upstream's path. Of all that a path can hold, only a digest goes on as it was sent."""
    blob, _, digest = path.rpartition("/")
    if blob == "/api/blobs" and not _DIGEST.fullmatch(digest):
        raise InvalidRequest(f"A blob is named sha256: and 64 hexadecimal digits, got {digest[:80]!r}.")
    return path


def _target(use: Services, name: str | None) -> Upstream:
    """Which Ollama an admin means: the named one, else the first."""
    ollamas = [upstream for upstream in use.catalogue.upstreams if upstream.kind == "ollama"]
    if not ollamas:
        raise InvalidRequest(
            "No upstream of this gateway is an Ollama, so there is nothing that could pull or delete models."
        )
    if name is None:
        return ollamas[0]
    for upstream in ollamas:
        if upstream.name == name:
            return upstream
    raise NotFound(f"There is no Ollama named {name[:60]!r}; there are {', '.join(u.name for u in ollamas)}.")


def _only_ollama(use: Services) -> Upstream | None:
    upstreams = use.catalogue.upstreams
    return upstreams[0] if len(upstreams) == 1 and upstreams[0].kind == "ollama" else None


async def _body(request: Request, use: Services) -> bytes:
    return decompress(await request.body(), request.headers.get("content-encoding"), use.settings.max_body_bytes)


def _model(body: bytes) -> str:
    """The model that a body names, under `model` or, as older clients do, `name`."""
    try:
        said = msgspec.json.decode(body, type=_Named)
    except UNREADABLE as error:
        raise InvalidRequest(f"The request body is not valid: {error}.") from None
    name = said.model or said.name
    if not name:
        raise InvalidRequest("model is required")
    return name


class _Running(msgspec.Struct):
    models: list[dict[str, Any]] | None = None


class _Named(msgspec.Struct):
    model: str | None = None
    name: str | None = None


async def _fetch(use: Services, upstream: Upstream, method: str, path: str, body: bytes | None = None) -> Response:
    """A whole answer of an upstream, passed on as it is."""
    answer = await _send(use, upstream, method, path, body)
    try:
        content = await answer.read(_LIST_LIMIT)
    finally:
        answer.close()
    kind = answer.header("content-type")
    return Response(content, answer.status, media_type=kind if kind and kind.isascii() else "application/json")


async def _read(use: Services, upstream: Upstream, method: str, path: str) -> bytes:
    answer = await _send(use, upstream, method, path, None)
    try:
        content = await answer.read(_LIST_LIMIT)
    finally:
        answer.close()
    if answer.status != 200:
        raise UpstreamError(f"{upstream.title} answered {answer.status}.")
    return content


async def _send(use: Services, upstream: Upstream, method: str, path: str, body: bytes | None) -> Answer:
    headers = [("Accept", "application/json"), ("Accept-Encoding", "identity"), *upstream.headers()]
    if body is not None:
        headers.append(("Content-Type", "application/json"))
    return await use.transport.send(method, upstream.address(path), headers, body, where=upstream.title)


def _as_tag(name: str, described: dict[str, Any]) -> dict[str, Any]:
    """A model of an OpenAI-compatible server in the shape of Ollama's list."""
    said: Any = described.get("meta")
    meta: dict[str, Any] = said if isinstance(said, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    created = described.get("created")
    modified_at = _EPOCH
    if isinstance(created, int) and 0 <= created < 2**33:
        modified_at = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    parameters = meta.get("n_params")
    return {
        "name": name,
        "model": name,
        "modified_at": modified_at,
        "size": meta.get("size") or 0,
        "digest": "",
        "details": {
            "parent_model": "",
            "format": "gguf" if meta else "",
            "family": str(described.get("owned_by") or ""),
            "families": None,
            "parameter_size": f"{parameters / 1e6:.0f}M" if isinstance(parameters, int) else "",
            "quantization_level": "",
        },
    }


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json; charset=utf-8")


def visible(caller: Caller, model: str) -> None:
    """Raises Forbidden where the caller's key is not for this model."""
    if not caller.allows_model(model):
        raise Forbidden(f"This API key may not use the model {model!r}.")
