"""An upstream: a server that runs models, where it is, which dialects it speaks and which models it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from gemmapy.core.errors import UpstreamError
from gemmapy.core.foreign import UNREADABLE
from gemmapy.upstreams.health import Health
from gemmapy.upstreams.llamacpp import EmbeddedModel
from gemmapy.upstreams.places import Places
from gemmapy.upstreams.transport import Headers, Transport

Dialect = Literal["ollama", "openai"]
LIST_TIMEOUT_S = 5
LIST_LIMIT = 16 * 1024 * 1024


@dataclass(slots=True)
class Upstream:
    """A server. `url` is its root for kind `ollama`, and ends in `/v1` for kind `openai`; None while it is not up."""

    name: str
    kind: Literal["ollama", "openai", "llamacpp"]
    url: str | None
    api_key: str | None = None
    dialects: frozenset[Dialect] = field(default_factory=frozenset[Dialect])
    embedded: EmbeddedModel | None = None
    reports_usage: bool = False
    """True once it has reported token counts by itself; until then a streamed answer's text is kept for counting."""
    takes_stream_options: bool = True
    """False once it has refused a stream for `stream_options`, which it does not know."""
    health: Health = field(default_factory=Health)
    places: Places = field(default_factory=Places)
    asks_slots: bool = False
    """Whether it has as many places as it says by itself, if it does."""

    def __post_init__(self) -> None:
        if not self.dialects:
            self.dialects = frozenset(("ollama", "openai")) if self.kind == "ollama" else frozenset(("openai",))

    @property
    def title(self) -> str:
        """How messages name it. Never holds a credential: addresses with one are refused by the settings."""
        return "The embedded model" if self.embedded is not None else f"{self.name} at {self.url}"

    def speaks(self, dialect: Dialect) -> bool:
        return dialect in self.dialects

    def address(self, path: str) -> str:
        """The full URL of a path: `/api/...`, `/v1/...`, or another at the server's root."""
        if self.url is None:
            raise UpstreamError(f"{self.title} is not up.")
        return self.root + path

    @property
    def root(self) -> str:
        """The server's address without `/v1`."""
        return (self.url or "").removesuffix("/v1")

    def headers(self) -> Headers:
        """The upstream's own credential, and nothing of the client's."""
        key = self.embedded.api_key if self.embedded is not None else self.api_key
        return [("Authorization", f"Bearer {key}")] if key else []

    @property
    def is_waited_for(self) -> bool:
        """Whether `ready` may have to wait, as for a model that is still loading."""
        return self.embedded is not None

    async def ready(self, timeout_s: float) -> None:
        """Waits until an embedded model is loaded. Raises UpstreamUnreachable where it cannot run."""
        if self.embedded is not None:
            await self.embedded.ready(timeout_s)
            self.url = self.embedded.base_url

    async def models(self, transport: Transport) -> Mapping[str, dict[str, Any]] | None:
        """Its models by name, each as the upstream describes it; None where it does not list them.

        Raises UpstreamError where it cannot be asked.
        """
        if self.embedded is not None:
            await self.ready(LIST_TIMEOUT_S)
        path = "/api/tags" if self.kind == "ollama" else "/v1/models"
        status, body = await self._get(path, transport)
        if status in (404, 405):
            return None
        if status != 200:
            raise UpstreamError(f"{self.title} answered {status} when asked for its models.")
        return _models(body, self.kind)

    async def slots(self, transport: Transport) -> int | None:
        """How many requests it works on at once, as llama.cpp's server says; None where it does not."""
        try:
            status, body = await self._get("/props", transport)
            said = msgspec.json.decode(body, type=_Props)
        except (UpstreamError, *UNREADABLE):
            return None
        return said.total_slots if status == 200 and said.total_slots and said.total_slots > 0 else None

    async def _get(self, path: str, transport: Transport) -> tuple[int, bytes]:
        """A small thing that it says of itself: the status and the body. Raises UpstreamError."""
        answer = await transport.send(
            "GET",
            self.address(path),
            [*self.headers(), ("Accept", "application/json"), ("Accept-Encoding", "identity")],
            where=self.title,
            first_byte_s=LIST_TIMEOUT_S,
        )
        try:
            return answer.status, await answer.read(LIST_LIMIT)
        finally:
            answer.close()


def _models(body: bytes, kind: str) -> Mapping[str, dict[str, Any]] | None:
    """Reads Ollama's `{"models": [{"name"}]}` and OpenAI's `{"data": [{"id"}]}`; None for anything else."""
    try:
        listed = msgspec.json.decode(body, type=_Listed)
    except UNREADABLE:
        return None
    entries = listed.models if kind == "ollama" else listed.data
    if entries is None:
        return None
    named: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name = entry.get("name") or entry.get("model") or entry.get("id")
        if isinstance(name, str) and name:
            named[name] = entry
    return named


class _Props(msgspec.Struct):
    total_slots: int | None = None


class _Listed(msgspec.Struct):
    models: list[dict[str, Any]] | None = None
    data: list[dict[str, Any]] | None = None
