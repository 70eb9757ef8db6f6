"""`/api/rag/generate`: a question becomes a prompt with sources, and the end of its answer says which they were.

Called by the gateway before it admits the request; from there on it is a request like any other. What documents say
goes into the prompt and nowhere else: not into the model's name, the options, a header or an address.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.foreign import UNREADABLE
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.auth import Caller
from gemmapy.rag.prompt import cited, lay_out
from gemmapy.rag.retrieval import QUERY_LIMIT, TOP_K, TOP_K_LIMIT, Found, Hit, Mode, Query, Retriever, source_of

SOURCES_BYTES = 12_000
"""Of all sources together, about 3,000 tokens: what small models still have room for."""
_OURS = ("query", "top_k", "mode", "collection", "system")
_GATEWAYS = ("model", "stream", "options", "temperature", "max_tokens", "use_cache", "use_retry")
_MODELS = ("format", "think", "keep_alive")
_FIELDS = frozenset({*_OURS, *_GATEWAYS, *_MODELS})


class _Asks(msgspec.Struct):
    query: str
    top_k: int = TOP_K
    mode: Mode = "hybrid"
    collection: str | int | None = None
    system: str | None = None


class _Line(msgspec.Struct):
    response: str = ""


_decode_line = msgspec.json.Decoder(_Line).decode


class Grounding:
    """What `Gateway.ground` is set to."""

    def __init__(self, retriever: Retriever, secret: bytes) -> None:
        """`secret` is what nobody who writes documents knows."""
        self._retriever = retriever
        self._secret = secret

    async def __call__(self, caller: Caller, asked: Asked) -> Asked:
        """The request with its prompt. Raises InvalidRequest, NotFound for a collection, what a search raises."""
        asks = _read(asked.body)
        query = Query(asks.query, asks.top_k, asks.mode, asks.collection)
        found = await self._retriever.find(caller, query)
        hits = _that_fit(found.hits)
        layout = lay_out(asks.query, [hit.passage for hit in hits], self._secret, asks.system)
        fields = msgspec.json.decode(asked.body, type=dict[str, msgspec.Raw])
        body = {name: value for name, value in fields.items() if name not in _OURS}
        body["system"] = msgspec.Raw(msgspec.json.encode(layout.system))
        body["prompt"] = msgspec.Raw(msgspec.json.encode(layout.prompt))
        return asked.with_body(msgspec.json.encode(body), Sources(hits, found))


class Sources:
    """Reads along with an answer, and says at its end which sources it had and which of them it cites."""

    def __init__(self, hits: list[Hit], found: Found) -> None:
        self._hits = hits
        self._found = found
        self._said: list[str] = []

    def see(self, frame: bytes) -> None:
        try:
            self._said.append(_decode_line(frame).response)
        except UNREADABLE:
            return  # an empty line; what is no answer at all has failed before

    def fields(self) -> dict[str, object]:
        numbers = cited("".join(self._said), len(self._hits))
        sources = [{**source_of(hit), "cited": number in numbers} for number, hit in enumerate(self._hits, 1)]
        note = {"note": self._found.note} if self._found.note is not None else {}
        return {"sources": sources, "mode": self._found.mode, **note}


def _read(body: bytes) -> _Asks:
    try:
        asks = msgspec.json.decode(body, type=_Asks)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The request body is not what /api/rag/generate takes: {error}.") from None
    unknown = set(msgspec.json.decode(body, type=dict[str, msgspec.Raw])) - _FIELDS
    if unknown:
        raise InvalidRequest(f"{min(unknown)[:60]}: there is no such field.")
    check_query(asks.query, asks.top_k)
    return asks


def check_query(text: str, top_k: int) -> None:
    """Raises InvalidRequest for a question that is empty or too long, and a number of results that is out of range."""
    if not text.strip():
        raise InvalidRequest("query is required: it must be a text that is not empty.")
    if len(text) > QUERY_LIMIT:
        raise InvalidRequest(f"query must have at most {QUERY_LIMIT} characters, has {len(text)}.")
    if not 1 <= top_k <= TOP_K_LIMIT:
        raise InvalidRequest(f"top_k must be a whole number from 1 to {TOP_K_LIMIT}, got {top_k}.")


def _that_fit(hits: Sequence[Hit]) -> list[Hit]:
    """The best, as many as there is room for; one at least."""
    kept: list[Hit] = []
    room = SOURCES_BYTES
    for hit in hits:
        room -= len(hit.passage.text.encode())
        if room < 0 and kept:
            break
        kept.append(hit)
    return kept
