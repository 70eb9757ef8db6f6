"""The metered routes in OpenAPI's words, since FastAPI never sees them."""

from __future__ import annotations

from typing import Any

from gemmapy.api.shapes import is_ollamas
from gemmapy.gateway.asked import ENDPOINTS, Endpoint
from gemmapy.rag.retrieval import QUERY_LIMIT, TOP_K, TOP_K_LIMIT

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error", "code", "hint"],
    "properties": {
        "error": {"type": "string", "description": "What was wrong and what was expected."},
        "code": {"type": "string", "description": "Stable; for programs."},
        "hint": {"type": "string", "description": "What to do."},
    },
}
_TEXT = {"type": "string"}
_OPTIONS = {"type": "object", "description": "The model's options, as Ollama has them.", "additionalProperties": True}
_MESSAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": _TEXT, "content": _TEXT},
        "additionalProperties": True,
    },
}
_CONVENIENCES: dict[str, Any] = {
    "system": _TEXT,
    "temperature": {"type": "number", "minimum": 0},
    "max_tokens": {"type": "integer", "minimum": 1},
    "use_cache": {"type": "boolean", "description": "May it be a kept answer? By default, of a deterministic request."},
    "use_retry": {
        "type": "boolean",
        "default": True,
        "description": "May another attempt, or model, follow a failure?",
    },
}
_ADDED: dict[str, Any] = {
    "cached": {"type": "boolean"},
    "metric_id": {"type": "integer", "description": "The row of the ledger; can be rated."},
    "request_id": {"type": "string", "format": "uuid"},
    "cost": {"type": ["number", "null"], "description": "US dollars; null where the model has no price."},
    "fallback_from": {"type": "string", "description": "The model that was asked for, where another answered."},
}
_HEADERS: dict[str, Any] = {
    "X-Request-Id": {"schema": {"type": "string", "format": "uuid"}},
    "X-GemmaPy-Cache": {"schema": {"type": "string", "enum": ["hit", "miss"]}, "description": "Where it may be kept."},
    "X-GemmaPy-Model": {"schema": _TEXT, "description": "The model that answered, where it is not the one asked for."},
    "X-GemmaPy-Fallback": {"schema": _TEXT, "description": "As in `llama3 -> mistral`."},
}
_GROUNDED: dict[str, Any] = {
    "query": {"type": "string", "minLength": 1, "maxLength": QUERY_LIMIT},
    "top_k": {"type": "integer", "minimum": 1, "maximum": TOP_K_LIMIT, "default": TOP_K},
    "mode": {"type": "string", "enum": ["hybrid", "text", "vector"], "default": "hybrid"},
    "collection": {"anyOf": [_TEXT, {"type": "integer"}], "description": "By name or id; all that one sees otherwise."},
}
_SOURCES: dict[str, Any] = {
    "sources": {
        "type": "array",
        "description": "In the order of their numbers in the answer: the first is [1].",
        "items": {
            "type": "object",
            "properties": {
                **{name: {"type": "integer"} for name in ("document_id", "chunk_id", "start", "end")},
                **dict.fromkeys(("title", "source", "heading"), _TEXT),
                "score": {"type": "number"},
                "cited": {"type": "boolean"},
            },
        },
    },
    "mode": {"type": "string"},
}


def error_response(path: str, description: str) -> dict[str, Any]:
    """An error's entry in OpenAPI, in the shape of the API that `path` belongs to."""
    if path.startswith("/v1/"):
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"error": {"type": "object", "properties": {"message": _TEXT, "type": _TEXT, "code": _TEXT}}},
        }
    elif is_ollamas(path):
        schema = {"type": "object", "properties": {"error": _TEXT}}
    else:
        schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def paths() -> dict[str, Any]:
    """OpenAPI's `paths` for every metered route."""
    return {path: {"post": _operation(endpoint)} for path, endpoint in ENDPOINTS.items()}


def _summary(endpoint: Endpoint) -> str:
    if endpoint.is_grounded:
        return "Answer a question from documents, with sources"
    what = {"generate": "Generate a text", "chat": "Chat", "embed": "Embed texts"}[endpoint.kind]
    return f"{what}, streamed" if endpoint.streams == "always" else what


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    properties: dict[str, Any] = {"model": _TEXT}
    required = ["model"]
    if endpoint.is_grounded:
        properties |= _GROUNDED
        required.append("query")
    elif endpoint.kind == "chat":
        properties["messages"] = _MESSAGES
        required.append("messages")
    elif endpoint.path in ("/api/embed", "/v1/embeddings"):
        properties["input"] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
        required.append("input")
    else:
        properties["prompt"] = _TEXT
    if endpoint.streams in ("by default", "if asked"):
        properties["stream"] = {"type": "boolean", "default": endpoint.streams == "by default"}
    if endpoint.dialect == "ollama" and endpoint.kind != "embed":
        properties["options"] = _OPTIONS
    if endpoint.is_contract:
        properties |= _CONVENIENCES
    if endpoint.is_grounded:
        properties |= {"format": {}, "think": {}, "keep_alive": {}}
    answer: dict[str, Any] = {"type": "object", "additionalProperties": True}
    if endpoint.is_contract:
        answer["properties"] = {**_ADDED, **(_SOURCES if endpoint.is_grounded else {})}
    content: dict[str, Any] = {"application/json": {"schema": answer}}
    if endpoint.streams != "never":
        kind = "text/event-stream" if endpoint.dialect == "openai" else "application/x-ndjson"
        content[kind] = {"schema": {"type": "string"}}
    tag = "GemmaPy" if endpoint.is_contract else {"ollama": "Ollama", "openai": "OpenAI"}[endpoint.dialect]
    return {
        "tags": [tag],
        "summary": _summary(endpoint),
        "description": "Metered."
        + ("" if endpoint.is_grounded else " Every field that the server behind it knows is passed on."),
        "operationId": "relay" + endpoint.path.replace("/", "_"),
        "security": [{"HTTPBearer": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": required,
                        "properties": properties,
                        "additionalProperties": not endpoint.is_grounded,
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "The answer. X-Request-Id names its row in the ledger.",
                "headers": _HEADERS,
                "content": content,
            },
            "404": error_response(endpoint.path, "No upstream has the model."),
            "429": error_response(endpoint.path, "A limit of the caller's own; Retry-After says when to come back."),
            "502": error_response(endpoint.path, "The upstream failed."),
            "503": error_response(
                endpoint.path,
                "The upstream cannot be reached, too many wait for it (Retry-After), or the books cannot be written.",
            ),
            "504": error_response(endpoint.path, "The upstream took too long."),
        },
    }
