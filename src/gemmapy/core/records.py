"""One request, before and after: `Intent` when it is admitted, `Outcome` when it is finished.

They are what the gateway hands to storage: an Intent becomes a row of `inflight`, an Outcome a row of `llm_metrics`.
Structs, since each request makes half a dozen of them, and a frozen dataclass takes ten times as long to make.
"""

from __future__ import annotations

from datetime import datetime

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the engine counted them. None is unknown, zero is zero.

    `cached_prompt_tokens` are part of `prompt_tokens`, never added to them. `estimated` is true where the engine could
    not say and the gateway guessed.
    """

    prompt_tokens: int | None = None
    response_tokens: int | None = None
    cached_prompt_tokens: int | None = None
    estimated: bool = False

    @property
    def total_tokens(self) -> int | None:
        """The sum of what is known; None where nothing is."""
        if self.prompt_tokens is None and self.response_tokens is None:
            return None
        return (self.prompt_tokens or 0) + (self.response_tokens or 0)


class Timings(msgspec.Struct, frozen=True, gc=False):
    """Where the time went, in whole milliseconds. None where it was not measured.

    `duration_ms` runs from the moment the request was read to the moment its answer was whole. `ttft_ms` (time to first
    token) runs from the same moment. The rest are the engine's own figures.
    """

    duration_ms: int | None = None
    ttft_ms: int | None = None
    queue_ms: int | None = None
    load_ms: int | None = None
    prompt_ms: int | None = None
    generation_ms: int | None = None

    @property
    def compute_ms(self) -> int | None:
        """How long the engine worked, as far as it says."""
        if self.prompt_ms is None and self.generation_ms is None:
            return None
        return (self.prompt_ms or 0) + (self.generation_ms or 0)


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What a request cost, in nano-USD, each part rounded half-even by itself; `total_nusd` is their sum."""

    price_id: int
    prompt_nusd: int
    response_nusd: int
    other_nusd: int = 0
    """Per request and per second of compute."""

    @property
    def total_nusd(self) -> int:
        return self.prompt_nusd + self.response_nusd + self.other_nusd

    def nothing(self) -> Cost:
        """What an answer from the cache costs, at the same price."""
        return Cost(self.price_id, 0, 0)


class Intent(msgspec.Struct, frozen=True, gc=False):
    """A request that has been admitted: who asks what of whom, and the price that was in force at that moment."""

    request_id: bytes
    user_id: int
    model: str
    endpoint: str
    started_at: datetime
    stream: bool = False
    api_key_id: int | None = None
    project_id: int | None = None
    end_user: str | None = None
    client_request_id: str | None = None
    upstream: str | None = None
    price_id: int | None = None
    prompt_estimate: int | None = None
    """Tokens that the prompt probably has, from its bytes; kept if the gateway dies before the engine has counted."""
    requested_model: str | None = None
    """What was asked for, where another model took its place; None where `model` is that."""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One question to one upstream on the way to an answer."""

    upstream: str
    model: str
    started_ms: int
    """After the request was read, like all times of a request."""
    duration_ms: int
    """Until the head of its answer, or until it failed."""
    wait_ms: int = 0
    """How long was waited before it."""
    status: int | None = None
    """What the upstream answered; None where it gave no answer."""
    error_code: str | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A request that is over, whatever became of it."""

    intent: Intent
    status: int
    """The HTTP status that the client got; 499 where the client left first, 0 where the gateway died."""
    usage: Usage
    timings: Timings
    error_code: str | None = None
    """Set on what counts as an error: a refusal, an upstream's 5xx or garbage, a time-out, an interruption."""
    error_message: str | None = None
    finish_reason: str | None = None
    cached: bool = False
    cost: Cost | None = None
    """None where no price is known: the request is unpriced, not free."""
    saved_nusd: int | None = None
    """What a cached answer would have cost."""
    attempts: int = 1
    attempt_log: tuple[Attempt, ...] = ()
    """Every attempt, where there was more than the one that the row itself describes."""
    speed_mtps: int | None = None
    """Response tokens per 1,000 seconds of generation (milli-tokens/s); an integer, so that sums are exact."""


def speed_mtps(response_tokens: int | None, generation_ms: int | None) -> int | None:
    """Milli-tokens per second, to the nearest; None where either is unknown or no time passed."""
    if not response_tokens or not generation_ms:
        return None
    return (response_tokens * 1_000_000 + generation_ms // 2) // generation_ms
