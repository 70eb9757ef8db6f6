"""Is it alive, and can it take requests? For load balancers and people; no credential needed, nothing secret told."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

import gemmapy
from gemmapy.api.access import Use

router = APIRouter(tags=["Health"])


@router.get("/api/health", summary="The process is alive")
async def health() -> dict[str, str]:
    return {"status": "healthy", "version": gemmapy.__version__}


@router.get("/readyz", summary="The gateway can take requests: its books can be written and an upstream answers")
async def ready(use: Use) -> JSONResponse:
    states = [{key: state[key] for key in ("name", "kind", "reachable", "breaker")} for state in use.catalogue.states()]
    problems: list[str] = []
    if use.gateway.draining:
        problems.append("shutting down")
    if use.store.trouble is not None:
        problems.append("records cannot be written")
    if not any(state["reachable"] and state["breaker"] != "open" for state in states):
        problems.append("no upstream answers")
    body: dict[str, Any] = {"ready": not problems, "problems": problems, "upstreams": states}
    return JSONResponse(body, 503 if problems else 200)
