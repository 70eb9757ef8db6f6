"""What goes to an upstream, and how its answer becomes the client's.

Where the upstream speaks the client's dialect, bytes pass as they are. Three things are touched, and only these: the
request for usage that is spliced into OpenAI streams and taken out of their answers again; the convenience fields of
`/api/ollama/*`; and a dialect that the upstream does not speak, which is translated whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec

from gemmapy.core.clock import Clock
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.ids import id_text
from gemmapy.gateway.asked import Asked
from gemmapy.upstreams.frames import NdjsonDecoder, SseDecoder, sse_data
from gemmapy.upstreams.translation import Translation, translate
from gemmapy.upstreams.transport import Headers
from gemmapy.upstreams.upstream import Dialect, Upstream

_ASK_FOR_USAGE = b'"stream_options":{"include_usage":true}'
# Quotes inside JSON strings are escaped, so this never matches inside one.
_USAGE_NULL = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,?')
_MAX_TOKENS_LIMIT = 2**31 - 1


class Rewriting(Protocol):
    """How an upstream's answer becomes the client's, piece by piece."""

    @property
    def content_type(self) -> str | None:
        """Of a successful answer; None where the upstream's own is right."""
        ...

    def frame(self, frame: bytes) -> list[bytes]:
        """One frame of the upstream's stream as the frames that the client gets."""
        ...

    def end(self) -> list[bytes]:
        """What the client still gets where the upstream's stream has ended well."""
        ...

    def answer(self, body: bytes) -> bytes:
        """A whole answer."""
        ...

    def error(self, status: int, body: bytes) -> bytes:
        """An error's body."""
        ...


class AsItIs:
    """Nothing is changed."""

    content_type: str | None = None

    def frame(self, frame: bytes) -> list[bytes]:
        return [frame]

    def end(self) -> list[bytes]:
        return []

    def answer(self, body: bytes) -> bytes:
        return body

    def error(self, status: int, body: bytes) -> bytes:  # noqa: ARG002 - the protocol's
        return body


class WithoutUsage(AsItIs):
    """Takes out of an OpenAI stream what only came because the gateway asked for usage."""

    def frame(self, frame: bytes) -> list[bytes]:
        if b'"usage"' not in frame:
            return [frame]
        data = sse_data(frame)
        if data is None:
            return [frame]
        said = msgspec.json.decode(data, type=_UsageChunk)
        if said.usage is not None and said.choices == []:
            return []
        return [_USAGE_NULL.sub(b"", frame, count=1)] if said.usage is None else [frame]


class _UsageChunk(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, Any] | None = None


@dataclass(slots=True)
class Exchange:
    """One question to one upstream."""

    upstream: Upstream
    dialect: Dialect
    """In which the upstream is asked."""
    path: str
    headers: Headers
    body: bytes
    stream: bool
    rewriting: Rewriting
    without_usage: Exchange | None = None
    """The same question as the client put it, for an upstream that does not know `stream_options`."""

    def decoder(self) -> NdjsonDecoder | SseDecoder:
        """What cuts its answer's stream into frames."""
        return NdjsonDecoder() if self.dialect == "ollama" else SseDecoder()


def prepare(asked: Asked, upstream: Upstream, request_id: bytes, clock: Clock) -> Exchange:
    """What to ask `upstream`. Raises InvalidRequest where the question cannot be put in its dialect."""
    body = plain_ollama(asked.body) if asked.endpoint.is_contract else asked.body
    if asked.endpoint.is_contract:
        body = _with_stream(body, stream=asked.stream)
    if not upstream.speaks(asked.endpoint.dialect):
        return _translated(asked, body, upstream, id_text(request_id), clock.now, clock.monotonic_ns)
    headers = [*asked.headers, ("Accept-Encoding", "identity"), *upstream.headers()]
    if asked.endpoint.is_contract:
        headers = [(name, value) for name, value in headers if name.lower() not in ("accept", "content-type")]
        headers.append(("Content-Type", "application/json"))
    sent = body if asked.endpoint.is_contract else asked.sent
    verbatim = Exchange(
        upstream=upstream,
        dialect=asked.endpoint.dialect,
        path=asked.endpoint.relayed_as,
        headers=headers,
        body=sent,
        stream=asked.stream,
        rewriting=AsItIs(),
    )
    asks_usage = asked.endpoint.dialect == "openai" and asked.stream and asked.endpoint.kind != "embed"
    if not asks_usage or asked.wants_usage or not upstream.takes_stream_options:
        return verbatim
    return Exchange(
        upstream=upstream,
        dialect="openai",
        path=verbatim.path,
        headers=[(name, value) for name, value in headers if name != "content-encoding"],
        body=ask_for_usage(body),
        stream=True,
        rewriting=WithoutUsage(),
        without_usage=verbatim,
    )


def _translated(
    asked: Asked,
    body: bytes,
    upstream: Upstream,
    request_id: str,
    now: Callable[[], datetime],
    clock_ns: Callable[[], int],
) -> Exchange:
    translation: Translation = translate(
        asked.endpoint.dialect,
        asked.endpoint.relayed_as,
        body,
        now=now,
        clock_ns=clock_ns,
        started_ns=asked.started_ns,
        request_id=request_id,
        stream=asked.stream,
    )
    return Exchange(
        upstream=upstream,
        dialect="ollama" if asked.endpoint.dialect == "openai" else "openai",
        path=translation.path,
        headers=[("Content-Type", "application/json"), ("Accept-Encoding", "identity"), *upstream.headers()],
        body=translation.body,
        stream=asked.stream,
        rewriting=translation,
    )


def ask_for_usage(body: bytes) -> bytes:
    """The body of an OpenAI stream with `stream_options.include_usage`, all else left byte for byte.

    Where the client sent `stream_options` of its own, the object is decoded and encoded again with its other fields.
    """
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if "stream_options" not in fields:
        start = body.index(b"{") + 1
        comma = b"," if fields else b""
        return body[:start] + _ASK_FOR_USAGE + comma + body[start:]
    try:
        given = msgspec.json.decode(fields["stream_options"], type=dict[str, msgspec.Raw] | None)
    except msgspec.ValidationError:
        return body  # not an object: the upstream will say so
    options: dict[str, msgspec.Raw] = {**given} if given else {}
    options["include_usage"] = msgspec.Raw(b"true")
    fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(fields)


def plain_ollama(body: bytes) -> bytes:
    """A body of `/api/ollama/*` as Ollama takes it: its conveniences put where Ollama has them."""
    return msgspec.json.encode(plain_fields(body))


def plain_fields(body: bytes) -> dict[str, Any]:
    """The fields of such a body.

    `temperature` and `max_tokens` go into `options`; `system` becomes the first message of a chat; `use_cache` and
    `use_retry` are the gateway's own. Raises InvalidRequest for wrong types.
    """
    fields: dict[str, Any] = msgspec.json.decode(body)
    for flag in ("use_cache", "use_retry"):
        value = fields.pop(flag, None)
        if value is not None and not isinstance(value, bool):
            raise InvalidRequest(f"{flag} must be true or false, got {_kind(value)}.")
    try:
        merged: dict[str, Any] = msgspec.convert(fields.get("options") or {}, dict[str, Any])
    except msgspec.ValidationError:
        raise InvalidRequest(f"options must be an object, got {_kind(fields['options'])}.") from None
    temperature = fields.pop("temperature", None)
    if temperature is not None:
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 100:
            raise InvalidRequest(f"temperature must be a number from 0 to 100, got {_kind(temperature)}.")
        merged["temperature"] = temperature
    max_tokens = fields.pop("max_tokens", None)
    if max_tokens is not None:
        if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or not 0 < max_tokens <= _MAX_TOKENS_LIMIT:
            raise InvalidRequest(f"max_tokens must be a whole number of 1 or more, got {_kind(max_tokens)}.")
        merged["num_predict"] = max_tokens
    if merged:
        fields["options"] = merged
    if "messages" in fields and "system" in fields:
        system = fields.pop("system")
        if not isinstance(system, str | None):
            raise InvalidRequest(f"system must be a text, got {_kind(system)}.")
        messages: Any = fields["messages"]
        if system and isinstance(messages, list):
            fields["messages"] = [{"role": "system", "content": system}, *messages]
    return fields


def _with_stream(body: bytes, *, stream: bool) -> bytes:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["stream"] = msgspec.Raw(b"true" if stream else b"false")
    return msgspec.json.encode(fields)


def _kind(value: Any) -> str:
    """A wrong value in words: itself where it is short, else what it is."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else f"{text[:37]}..."


def decorate(body: bytes, extra: dict[str, Any]) -> bytes:
    """An Ollama object, or line, with more fields at its end; what was there stays byte for byte."""
    close = body.rindex(b"}")
    fields = msgspec.json.encode(extra)[1:-1]
    comma = b"" if body[:close].rstrip().endswith(b"{") else b","
    return body[:close] + comma + fields + body[close:]
