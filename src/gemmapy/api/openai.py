"""OpenAI's routes that are not metered: the models."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter

from gemmapy.api.access import SignedIn, Use
from gemmapy.core.errors import UnknownModel
from gemmapy.upstreams.upstream import Upstream

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", summary="The models, of every upstream")
async def models(caller: SignedIn, use: Use) -> dict[str, Any]:
    await use.catalogue.refresh()
    listed = [
        _as_model(name, described, upstream)
        for name, described, upstream in use.catalogue.models()
        if caller.allows_model(name)
    ]
    return {"object": "list", "data": listed}


@router.get("/v1/models/{model:path}", summary="One model")
async def model(model: str, caller: SignedIn, use: Use) -> dict[str, Any]:
    await use.catalogue.refresh()
    for name, described, upstream in use.catalogue.models():
        if name == model and caller.allows_model(name):
            return _as_model(name, described, upstream)
    raise UnknownModel(model)


def _as_model(name: str, described: dict[str, Any], upstream: Upstream) -> dict[str, Any]:
    """In OpenAI's shape; what an OpenAI-compatible upstream says of it is kept whole."""
    if upstream.kind != "ollama":
        return {"id": name, "object": "model", "created": 0, "owned_by": upstream.name, **described}
    try:
        created = int(datetime.fromisoformat(str(described.get("modified_at"))).timestamp())
    except ValueError:
        created = 0
    # Ollama names the part before the slash as the owner, and `library` for its own.
    owner = name.rsplit("/", 1)[0] if "/" in name else "library"
    return {"id": name, "object": "model", "created": created, "owned_by": owner}
