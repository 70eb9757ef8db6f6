"""Ollama's way to load and unload a model: a question without a prompt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec


class _Question(msgspec.Struct):
    model: str = ""
    prompt: Any = None
    suffix: Any = None
    images: Any = None
    messages: Any = None
    keep_alive: Any = None


def is_load(path: str, body: bytes) -> bool:
    """Whether a request to `/api/generate` or `/api/chat` only loads or unloads its model."""
    if path not in ("/api/generate", "/api/chat"):
        return False
    asked = msgspec.json.decode(body, type=_Question)
    return not asked.messages if path == "/api/chat" else not (asked.prompt or asked.suffix or asked.images)


def load_answer(path: str, body: bytes, now: datetime) -> bytes:
    """What Ollama answers to it; for servers whose models are always loaded."""
    asked = msgspec.json.decode(body, type=_Question)
    created_at = now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    answer: dict[str, Any] = {"model": asked.model, "created_at": created_at}
    if path == "/api/chat":
        answer["message"] = {"role": "assistant", "content": ""}
    else:
        answer["response"] = ""
    is_unload = asked.keep_alive in (0, "0", "0s", "0m")
    return msgspec.json.encode({**answer, "done": True, "done_reason": "unload" if is_unload else "load"})
