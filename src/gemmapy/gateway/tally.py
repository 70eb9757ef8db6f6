"""What an answer used: reads an upstream's frames as they pass and keeps the counts.

Looks at frames in the upstream's dialect, never changes them. Token counts are the engine's own; where the stream ends
before the engine has said them, they are estimated from what was delivered, and marked so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gemmapy.core.errors import UpstreamError
from gemmapy.core.foreign import ABSENT, UNREADABLE
from gemmapy.core.records import Timings, Usage
from gemmapy.gateway.asked import Asked
from gemmapy.upstreams.frames import sse_data
from gemmapy.upstreams.upstream import Dialect, Upstream

_NOTHING = (b"", b'""', b"null", b"[]")
_NS_PER_MS = 1_000_000
KEPT_TEXT_LIMIT = 1_000_000
MOST_TOKENS = 10**9
"""What one request can have, with room: the largest contexts are a hundredth of it."""
_MOST_NS = 30 * 86_400 * 10**9


class _OllamaMessage(msgspec.Struct):
    content: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT


class _OllamaFrame(msgspec.Struct):
    response: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    message: _OllamaMessage | None = None
    done: bool | None = None
    done_reason: str | None = None
    error: msgspec.Raw = ABSENT
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    embeddings: msgspec.Raw = ABSENT
    embedding: msgspec.Raw = ABSENT


class _Delta(msgspec.Struct):
    content: msgspec.Raw = ABSENT
    reasoning_content: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: msgspec.Raw = ABSENT
    finish_reason: str | None = None


class _TokenDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OpenAIUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _TokenDetails | None = None


class _LlamaTimings(msgspec.Struct):
    """llama.cpp's own, beside OpenAI's fields."""

    prompt_ms: float | None = None
    predicted_ms: float | None = None
    cache_n: int | None = None


class _OpenAIFrame(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _OpenAIUsage | None = None
    timings: _LlamaTimings | None = None
    error: msgspec.Raw = ABSENT
    data: msgspec.Raw = ABSENT


_decode_ollama = msgspec.json.Decoder(_OllamaFrame).decode
_decode_openai = msgspec.json.Decoder(_OpenAIFrame).decode


class Tally:
    """The counts of one answer."""

    def __init__(self, dialect: Dialect, started_ns: int, prompt_estimate: int, *, keep_text: bool = False) -> None:
        self._dialect = dialect
        self._started_ns = started_ns
        self._prompt_estimate = prompt_estimate
        self._keep_text = keep_text
        self._text: list[bytes] = []
        self._text_size = 0
        self._prompt_tokens: int | None = None
        self._response_tokens: int | None = None
        self._cached_prompt_tokens: int | None = None
        self._counted_by_gateway = False
        self._load_ns: int | None = None
        self._prompt_ns: int | None = None
        self._generation_ns: int | None = None
        self._first_token_ns: int | None = None
        self._last_token_ns: int | None = None
        self.content_frames = 0
        self.finish_reason: str | None = None
        self.error: str | None = None
        """What an error object inside the answer says."""
        self.complete = False
        """The upstream has said that this is the end."""
        self.closing = False
        """What comes from here on completes the answer, so it must wait until the answer is recorded."""

    @classmethod
    def of(cls, asked: Asked, upstream: Upstream) -> Tally:
        """For what `upstream` will answer to `asked`."""
        dialect = asked.endpoint.dialect
        if not upstream.speaks(dialect):
            dialect = "ollama" if dialect == "openai" else "openai"
        keep_text = not upstream.reports_usage and upstream.kind != "ollama"
        return cls(dialect, asked.started_ns, asked.prompt_estimate, keep_text=keep_text)

    @property
    def has_usage(self) -> bool:
        """The engine (or the gateway in its place) has counted."""
        return self._prompt_tokens is not None or self._response_tokens is not None

    @property
    def text(self) -> list[bytes]:
        """The pieces of the answer's text as JSON strings, where they are kept."""
        return self._text

    def see(self, frame: bytes, now_ns: int) -> None:
        """Takes note of one frame of a stream. Raises UpstreamError for one that is not JSON of the dialect."""
        if self._dialect == "ollama":
            if frame.isspace():
                return
            self._see_ollama(frame, now_ns, streamed=True)
            return
        if frame[:7] == b"data: {" and frame[-2:] == b"\n\n" and frame.count(b"\n") == 2:
            self._see_openai(frame[6:-2], now_ns, streamed=True)  # nearly always: one line of data
            return
        data = (sse_data(frame) or b"").strip()
        if data == b"[DONE]":
            self.complete = self.closing = True
        elif data:
            self._see_openai(data, now_ns, streamed=True)

    def whole(self, body: bytes, now_ns: int) -> None:
        """Takes note of an answer that came in one piece. Raises UpstreamError where it is not JSON of the dialect."""
        if self._dialect == "ollama":
            self._see_ollama(body, now_ns, streamed=False)
        else:
            self._see_openai(body, now_ns, streamed=False)
        self.complete = True

    def count(self, prompt_tokens: int | None, response_tokens: int | None) -> None:
        """Puts in what the upstream's tokenizer counted, where the upstream did not report it with the answer."""
        self._counted_by_gateway = True
        if prompt_tokens is not None:
            self._prompt_tokens = _within(prompt_tokens, MOST_TOKENS)
        if response_tokens is not None:
            self._response_tokens = _within(response_tokens, MOST_TOKENS)

    def nothing_used(self) -> None:
        """A request that only loads or unloads a model has zero tokens."""
        self._prompt_tokens = self._prompt_tokens or 0
        self._response_tokens = self._response_tokens or 0

    def usage(self) -> Usage:
        """The tokens as they are known now, estimated where the engine has not counted."""
        prompt, response, cached = self._prompt_tokens, self._response_tokens, self._cached_prompt_tokens
        if cached is not None and cached > (self._prompt_estimate if prompt is None else prompt):
            cached = None  # they are part of the prompt; more than all of it cannot be
        if self.complete and (prompt is not None or response is not None):
            # An engine that reports one count leaves the other out where it is zero, or where all came from its cache.
            return Usage(prompt or 0, response or 0, cached, self._counted_by_gateway)
        return Usage(
            prompt_tokens=prompt if prompt is not None else self._prompt_estimate,
            response_tokens=response if response is not None else self.content_frames,
            cached_prompt_tokens=cached,
            estimated=True,
        )

    def timings(self, now_ns: int, dispatched_ns: int | None = None) -> Timings:
        """Where the time went. The engine's own figures, else the time between the first and the last token."""
        generation_ns = self._generation_ns
        if generation_ns is None and self._first_token_ns is not None and self._last_token_ns is not None:
            generation_ns = self._last_token_ns - self._first_token_ns or None
        return Timings(
            duration_ms=_ms(now_ns - self._started_ns) or 0,
            ttft_ms=None if self._first_token_ns is None else _ms(self._first_token_ns - self._started_ns),
            queue_ms=None if dispatched_ns is None else max(0, (dispatched_ns - self._started_ns) // _NS_PER_MS),
            load_ms=_ms(self._load_ns),
            prompt_ms=_ms(self._prompt_ns),
            generation_ms=_ms(generation_ns),
        )

    def _see_ollama(self, frame: bytes, now_ns: int, *, streamed: bool) -> None:
        try:
            said = _decode_ollama(frame)
        except UNREADABLE as error:
            raise UpstreamError(f"The model server sent something that is not an answer: {error}.") from None
        if _says(said.error):
            self._fail(said.error)
            return
        if streamed:
            message = said.message
            pieces = (said.response, said.thinking)
            if message is not None:
                pieces = (message.content, message.thinking, message.tool_calls)
            if any(map(_says, pieces)):
                self._token(now_ns, pieces[0])
        if said.done or not streamed:
            self.complete = self.closing = True
            self.finish_reason = said.done_reason
            self._load_ns = _within(said.load_duration, _MOST_NS)
            self._prompt_ns = _within(said.prompt_eval_duration, _MOST_NS)
            self._generation_ns = _within(said.eval_duration, _MOST_NS)
            self._counted(said.prompt_eval_count, said.eval_count)
            if said.done_reason in ("load", "unload"):
                self.nothing_used()

    def _see_openai(self, data: bytes, now_ns: int, *, streamed: bool) -> None:
        try:
            said = _decode_openai(data)
        except UNREADABLE as error:
            raise UpstreamError(f"The model server sent something that is not an answer: {error}.") from None
        if _says(said.error):
            self._fail(said.error)
            return
        for choice in said.choices:
            if streamed or self._keep_text:
                piece = choice.delta or choice.message
                texts = (choice.text,)
                if piece is not None:
                    texts = (piece.content, piece.reasoning_content, piece.reasoning, piece.tool_calls)
                if not streamed:
                    self._keep(*texts)
                elif any(map(_says, texts)):
                    self._token(now_ns, *texts)
            if choice.finish_reason is not None:
                self.finish_reason = choice.finish_reason
        if said.usage is not None:
            # The last word, unless the server reports with every chunk (vLLM's continuous_usage_stats).
            self.closing = self.closing or not said.choices or self.finish_reason is not None
            self._counted(said.usage.prompt_tokens, said.usage.completion_tokens)
            details = said.usage.prompt_tokens_details
            if details is not None:
                self._cached_prompt_tokens = _within(details.cached_tokens, MOST_TOKENS)
        if said.timings is not None:
            self._prompt_ns = _ns(said.timings.prompt_ms)
            self._generation_ns = _ns(said.timings.predicted_ms)
            if self._cached_prompt_tokens is None:
                self._cached_prompt_tokens = _within(said.timings.cache_n, MOST_TOKENS)

    def _counted(self, prompt_tokens: int | None, response_tokens: int | None) -> None:
        """What the engine says it counted. Where one can be no count, neither is believed: both are estimated, and not
        taken for zero."""
        counts = (_within(prompt_tokens, MOST_TOKENS), _within(response_tokens, MOST_TOKENS))
        if counts != (prompt_tokens, response_tokens):
            counts = None, None
        self._prompt_tokens, self._response_tokens = counts

    def _token(self, now_ns: int, *texts: msgspec.Raw) -> None:
        self.content_frames += 1
        if self._first_token_ns is None:
            self._first_token_ns = now_ns
        self._last_token_ns = now_ns
        if self._keep_text:
            self._keep(*texts)

    def _keep(self, *texts: msgspec.Raw) -> None:
        if self._text_size > KEPT_TEXT_LIMIT:
            return
        for text in texts:
            raw = bytes(text)
            if raw not in _NOTHING:
                self._text.append(raw)
                self._text_size += len(raw)

    def _fail(self, error: msgspec.Raw) -> None:
        said: Any = msgspec.json.decode(error)
        if isinstance(said, dict):
            said = said.get("message", said)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        self.error = str(said)[:2_000]  # pyright: ignore[reportUnknownArgumentType]
        self.closing = True


def _says(piece: msgspec.Raw) -> bool:
    """Whether a field is there and holds something."""
    return piece is not ABSENT and bytes(piece) not in _NOTHING


def _ms(ns: int | None) -> int | None:
    return None if ns is None else max(0, round(ns / _NS_PER_MS))


def _ns(ms: float | None) -> int | None:
    return None if ms is None or not 0 <= ms * _NS_PER_MS <= _MOST_NS else round(ms * _NS_PER_MS)


def _within(count: int | None, most: int) -> int | None:
    """A figure that an engine reports; None where it cannot be one, since no ledger should hold what a broken (or
    lying) server says, and a number past 64 bits would cost the request its row."""
    return count if count is not None and 0 <= count <= most else None
