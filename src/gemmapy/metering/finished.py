"""A finished request, as Python code tells it to `MetricsCollector`, which prices it and writes it down."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import datetime

from gemmapy.core.errors import InvalidRequest

NAME_LIMIT = 200
_NUMBERS = ("prompt_tokens", "response_tokens", "duration_ms", "cached_prompt_tokens", "ttft_ms", "generation_ms")


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One request and what is known of it; None is unknown."""

    user_id: int
    model: str
    endpoint: str
    _: KW_ONLY
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    duration_ms: int | None = None
    error: str | None = None
    """The message of a request that failed."""
    cached: bool = False
    """Answered from a cache: it costs nothing, and what it saved is recorded."""
    cached_prompt_tokens: int | None = None
    """Of the prompt's tokens, those that the engine had worked on before."""
    ttft_ms: int | None = None
    generation_ms: int | None = None
    stream: bool = False
    estimated: bool = False
    """The tokens are not the engine's own count."""
    finish_reason: str | None = None
    upstream: str | None = None
    project_id: int | None = None
    api_key_id: int | None = None
    end_user: str | None = None
    started_at: datetime | None = None
    """Aware; None: its duration ago."""

    def check(self) -> None:
        """Raises InvalidRequest for an empty or too long name and for a negative number."""
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidRequest(f"{name} must be 0 or more, got {value}.")
        for name, text in (("model", self.model), ("endpoint", self.endpoint)):
            if not 1 <= len(text) <= NAME_LIMIT:
                raise InvalidRequest(f"{name} must have 1 to {NAME_LIMIT} characters, has {len(text)}.")
