"""What is asked: an HTTP request on a metered path, read as far as metering needs it and no further.

The body stays the bytes that came; only the fields that decide something are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any, Literal, Protocol

import msgspec
from msgspec.structs import replace

from gemmapy.core import zstd
from gemmapy.core.errors import InvalidRequest, PayloadTooLarge
from gemmapy.core.foreign import ABSENT, UNREADABLE
from gemmapy.upstreams.upstream import Dialect

BYTES_PER_TOKEN = 4
"""English text in the vocabularies of today's models; used only where no engine has counted."""
MODEL_NAME_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A metered path: in which dialect it is spoken and what it does."""

    path: str
    dialect: Dialect
    kind: Literal["generate", "chat", "embed"]
    relayed_as: str
    """The path that an upstream of the same dialect has for it."""
    streams: Literal["by default", "if asked", "always", "never"]
    is_contract: bool = False
    """GemmaPy's own: answers carry `cached`, `metric_id`, `request_id` and `cost`."""
    is_grounded: bool = False
    """Asks with a query that becomes a prompt, with passages of documents, before it is admitted."""


def _table() -> dict[str, Endpoint]:
    endpoints = [
        Endpoint("/api/generate", "ollama", "generate", "/api/generate", "by default"),
        Endpoint("/api/chat", "ollama", "chat", "/api/chat", "by default"),
        Endpoint("/api/embed", "ollama", "embed", "/api/embed", "never"),
        Endpoint("/api/embeddings", "ollama", "embed", "/api/embeddings", "never"),
        Endpoint("/v1/chat/completions", "openai", "chat", "/v1/chat/completions", "if asked"),
        Endpoint("/v1/completions", "openai", "generate", "/v1/completions", "if asked"),
        Endpoint("/v1/embeddings", "openai", "embed", "/v1/embeddings", "never"),
        Endpoint("/api/ollama/generate", "ollama", "generate", "/api/generate", "if asked", is_contract=True),
        Endpoint("/api/ollama/generate/stream", "ollama", "generate", "/api/generate", "always", is_contract=True),
        Endpoint("/api/ollama/chat", "ollama", "chat", "/api/chat", "if asked", is_contract=True),
        Endpoint("/api/ollama/chat/stream", "ollama", "chat", "/api/chat", "always", is_contract=True),
        Endpoint(
            "/api/rag/generate", "ollama", "generate", "/api/generate", "if asked", is_contract=True, is_grounded=True
        ),
    ]
    return {endpoint.path: endpoint for endpoint in endpoints}


ENDPOINTS = _table()


class Addition(Protocol):
    """What the end of an answer says besides what the upstream and the ledger say: made for one request."""

    def see(self, frame: bytes) -> None:
        """Takes note of a piece of the answer, as the client gets it: a line of a stream, or the whole body."""
        ...

    def fields(self) -> dict[str, Any]:
        """Asked for once, after the last piece."""
        ...


class Asked(msgspec.Struct, frozen=True):
    """One request, read."""

    endpoint: Endpoint
    model: str
    stream: bool
    body: bytes
    """As JSON, decompressed."""
    sent: bytes
    """As it came; the same bytes where nothing was compressed."""
    headers: tuple[tuple[str, str], ...]
    """What may go on to an upstream of the same dialect: see `PASSED_ON`."""
    prompt_estimate: int
    """Tokens that the prompt probably has, from its bytes."""
    wants_usage: bool
    """The client asked for the usage chunk of an OpenAI stream itself."""
    started_at: datetime
    started_ns: int
    client_request_id: str | None = None
    project: str | None = None
    end_user: str | None = None
    addition: Addition | None = None
    """Of a grounded request: its sources."""

    def with_body(self, body: bytes, addition: Addition) -> Asked:
        """The same request with another body, as JSON, in place of the one that was sent."""
        return replace(self, body=body, sent=body, prompt_estimate=_estimate(_decode(body)), addition=addition)

    use_cache: bool | None = None
    """Whether an answer may come from the cache, where the request says so."""
    use_retry: bool = True
    """Whether another attempt, or another model, may follow a failure."""

    def for_model(self, model: str) -> Asked:
        """The same question to another model."""
        fields = msgspec.json.decode(self.body, type=dict[str, msgspec.Raw])
        fields["model"] = msgspec.Raw(msgspec.json.encode(model))
        body = msgspec.json.encode(fields)
        headers = tuple((name, value) for name, value in self.headers if name != "content-encoding")
        return replace(self, model=model, body=body, sent=body, headers=headers)


PASSED_ON = frozenset({b"accept", b"content-type", b"user-agent", b"traceparent", b"tracestate", b"openai-beta"})
"""Request headers that reach an upstream. A list of what may, because one of what may not would forget a secret."""


class _Message(msgspec.Struct):
    content: msgspec.Raw = ABSENT


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    """The fields that decide something, in either dialect."""

    model: str | None = None
    stream: bool | None = None
    prompt: msgspec.Raw = ABSENT
    system: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT
    messages: list[_Message] | None = None
    stream_options: _StreamOptions | None = None
    user: msgspec.Raw = ABSENT
    use_cache: msgspec.Raw = ABSENT
    use_retry: msgspec.Raw = ABSENT


class _Part(msgspec.Struct):
    text: str | None = None


_decode = msgspec.json.Decoder(_Body).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode


class Envelope:
    """What the HTTP layer knows of a request before its body is read."""

    __slots__ = ("_first", "endpoint", "headers", "started_at", "started_ns")

    def __init__(
        self, endpoint: Endpoint, headers: list[tuple[bytes, bytes]], started_at: datetime, started_ns: int
    ) -> None:
        self.endpoint = endpoint
        self.headers = headers
        self.started_at = started_at
        self.started_ns = started_ns
        self._first = dict(reversed(headers))
        """The first value of each header."""

    def __contains__(self, name: bytes) -> bool:
        return name in self._first

    @property
    def client_request_id(self) -> str | None:
        """The client's own name for its request, made printable."""
        return _printable(self.header(b"x-request-id"))

    def header(self, name: bytes) -> str | None:
        """The first value of a header (lower-case name)."""
        value = self._first.get(name)
        return None if value is None else value.decode("latin-1")


def read(envelope: Envelope, sent: bytes, max_body_bytes: int) -> Asked:
    """Reads a request. Raises InvalidRequest in words that name the field, and PayloadTooLarge."""
    endpoint = envelope.endpoint
    encoding = envelope.header(b"content-encoding")
    body = sent if encoding is None else decompress(sent, encoding, max_body_bytes)
    try:
        if not body.isascii():
            body.decode()  # or what is decoded of it later would fail where nobody expects it
        fields = _decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request body is not what {endpoint.path} takes: {error}.") from None
    except UNREADABLE as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    if not fields.model:
        raise InvalidRequest("model is required", hint="GET /api/tags lists the models.")
    if not fields.model.isprintable():
        raise InvalidRequest("model must have no control characters.", hint="GET /api/tags lists the models.")
    if len(fields.model) > MODEL_NAME_LIMIT:
        raise InvalidRequest(f"model must have at most {MODEL_NAME_LIMIT} characters, has {len(fields.model)}.")
    passed_on = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in envelope.headers if k in PASSED_ON]
    if encoding and endpoint.relayed_as == endpoint.path:
        passed_on.append(("content-encoding", encoding))
    return Asked(
        endpoint=endpoint,
        model=fields.model,
        stream=_streams(endpoint, fields.stream),
        body=body,
        sent=sent,
        headers=tuple(passed_on),
        prompt_estimate=_estimate(fields),
        wants_usage=fields.stream_options is not None and fields.stream_options.include_usage is True,
        started_at=envelope.started_at,
        started_ns=envelope.started_ns,
        client_request_id=envelope.client_request_id,
        project=envelope.header(b"x-gemmapy-project"),
        end_user=_end_user(envelope, fields),
        use_cache=_switch(envelope, fields.use_cache, b"x-gemmapy-cache"),
        use_retry=_switch(envelope, fields.use_retry, b"x-gemmapy-retry") is not False,
    )


def decompress(sent: bytes, encoding: str | None, limit: int) -> bytes:
    """Undoes a `Content-Encoding` of zstd (Ollama's clients may use it) or identity.

    Raises InvalidRequest for another encoding or damaged data, PayloadTooLarge where more than `limit` bytes come out.
    """
    if encoding is None or encoding.strip().lower() in ("", "identity"):
        return sent
    if encoding.strip().lower() != "zstd":
        raise InvalidRequest(f"Content-Encoding must be zstd or identity, got {encoding[:40]!r}.")
    try:
        with zstd.ZstdFile(BytesIO(sent), options={zstd.DecompressionParameter.window_log_max: 27}) as reader:
            body = reader.read(limit + 1)
    except (zstd.ZstdError, EOFError):
        raise InvalidRequest("The request body is not valid zstd.") from None
    if len(body) > limit:
        raise PayloadTooLarge(f"The request body is larger than {limit} bytes once decompressed.")
    return body


def _streams(endpoint: Endpoint, asked: bool | None) -> bool:
    if endpoint.streams == "by default":
        return asked is not False
    if endpoint.streams == "if asked":
        return asked is True
    return endpoint.streams == "always"


def _estimate(fields: _Body) -> int:
    size = sum(_text_bytes(message.content) for message in fields.messages or ())
    for text in (fields.prompt, fields.system, fields.input):
        if text is not ABSENT:
            size += _text_bytes(text)
    return -(-size // BYTES_PER_TOKEN)


def _text_bytes(value: msgspec.Raw) -> int:
    """How long a text is, in bytes of JSON; of a list of parts only the texts count, not the images."""
    raw = bytes(value)
    if not raw or raw == b"null":
        return 0
    if raw[:1] == b'"':
        return len(raw) - 2
    if raw[:1] == b"[" and raw[1:].lstrip()[:1] == b"{":
        try:
            return sum(len(part.text.encode()) for part in _decode_parts(raw) if part.text)
        except UNREADABLE:
            return len(raw)  # not parts as we know them; the upstream will say what it thinks of them
    return len(raw)


_END_USER_HEADERS = (b"x-openwebui-user-email", b"x-openwebui-user-id", b"x-openwebui-user-name")


def _end_user(envelope: Envelope, fields: _Body) -> str | None:
    """Whom a trusted key's request is for: Open WebUI's headers, else OpenAI's `user`. Believing it comes later."""
    for name in _END_USER_HEADERS:
        if name in envelope:
            value = _printable(envelope.header(name))
            if value:
                return value
    raw = bytes(fields.user)
    if raw[:1] != b'"':
        return None
    user: Any = msgspec.json.decode(raw)
    return _printable(user)


def _switch(envelope: Envelope, field: msgspec.Raw, header: bytes) -> bool | None:
    """What a request says of one of the gateway's own doings: GemmaPy's endpoints in a field, all in a header."""
    if envelope.endpoint.is_contract and bytes(field) in (b"true", b"false"):
        return bytes(field) == b"true"  # anything else is refused where the body is put into Ollama's words
    said = envelope.header(header)
    if said is None:
        return None
    word = said.strip().lower()
    if word not in ("on", "off"):
        raise InvalidRequest(f"{header.decode()} must be on or off, got {said[:40]!r}.")
    return word == "on"


def _printable(text: str | None) -> str | None:
    """At most 200 printable characters of a text that a client chose."""
    if not text:
        return None
    return "".join(character for character in text[:200] if character.isprintable()) or None
