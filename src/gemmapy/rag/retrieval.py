"""Search: full text by BM25, vectors by cosine, both together by reciprocal rank fusion.

Fusion (Cormack, Clarke and Buettcher, SIGIR 2009): a chunk's score is the sum over the lists of 1 / (60 + its rank), so
that scores which cannot be compared need not be. Where there are no vectors, a hybrid search is one of full text; where
there should be, and the embedding model does not answer, it is so too, and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from gemmapy.core.errors import GemmaPyError, InvalidRequest
from gemmapy.gateway.auth import Caller
from gemmapy.rag.answers import Source
from gemmapy.rag.embedder import Embedder
from gemmapy.rag.vectors import Near, Vectors
from gemmapy.storage import documents, fulltext
from gemmapy.storage.documents import Passage, Reader
from gemmapy.storage.store import Store

RRF_K = 60
TOP_K = 5
TOP_K_LIMIT = 50
QUERY_LIMIT = 20_000
_CANDIDATES = 50
Mode = Literal["hybrid", "text", "vector"]
_log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, where, and how. `collection` by id or name; None is all that the caller sees."""

    text: str
    top_k: int = TOP_K
    mode: Mode = "hybrid"
    collection: str | int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found. Ranks count from 1; None where that list did not have it."""

    passage: Passage
    score: float
    """Of the mode: BM25, cosine, or the sum of reciprocal ranks."""
    text_rank: int | None = None
    vector_rank: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The hits, best first; `mode` is how they were found in the end, `note` why not as was asked."""

    hits: Sequence[Hit]
    mode: Mode
    note: str | None = None


class Retriever:
    """Finds passages in what a caller may see."""

    def __init__(self, store: Store, held: Vectors, embedder: Embedder) -> None:
        self._store = store
        self._held = held
        self._embedder = embedder

    async def find(self, caller: Caller, query: Query) -> Found:
        """Searches. Raises NotFound for a collection that the caller does not see, InvalidRequest for vectors where
        there are none, and what the embedding model's upstream raises where only vectors were asked for."""
        places = await asyncio.to_thread(self._places, caller, query.collection)
        take = max(_CANDIDATES, 4 * query.top_k)
        by_text: list[tuple[int, float]] = []
        near: list[Near] = []
        mode, note = query.mode, None
        if mode == "hybrid" and not (self._embedder.is_able and any(places.values())):
            mode = "text"
        if mode != "text":
            try:
                near = await self._nearest(caller, query, places, take)
            except GemmaPyError as error:
                if mode == "vector":
                    raise
                mode, note = "text", error.message
        if query.mode != "vector":
            by_text = await asyncio.to_thread(self._by_text, query.text, list(places), take)
        texts = [chunk_id for chunk_id, _ in by_text]
        nears = [hit.chunk_id for hit in near]
        if mode == "hybrid":
            scores = fused([texts, nears])
        elif mode == "text":
            scores = dict(by_text)
        else:
            scores = {hit.chunk_id: hit.score for hit in near}
        hits = await asyncio.to_thread(self._hits, scores, list(places), query.top_k, texts, nears)
        return Found(hits, mode, note)

    def _places(self, caller: Caller, name: str | int | None) -> dict[int, str | None]:
        """The collections to look in, each with its embedding model."""
        reader = reader_of(caller)
        with self._store.read() as connection:
            if name is None:
                listed = documents.list_collections(connection, reader)
            else:
                listed = [documents.collection(connection, reader, name)]
        return {entry["id"]: entry["embedding_model"] or self._embedder.model for entry in listed}

    async def _nearest(self, caller: Caller, query: Query, places: dict[int, str | None], take: int) -> list[Near]:
        by_model: dict[str, list[int]] = {}
        for collection_id, model in places.items():
            if model is not None:
                by_model.setdefault(model, []).append(collection_id)
        if not self._embedder.is_able:
            raise InvalidRequest(
                "Searching by vectors needs numpy.", hint="The operator can: pip install 'gemmapy[rag]'"
            )
        if places and not by_model:
            raise InvalidRequest(
                "There is no embedding model, so there are no vectors to search.",
                hint="The operator can set embedding_model; full-text search works without one.",
            )
        near: list[Near] = []
        for model, collection_ids in by_model.items():
            vector = await self._embedder.question(caller, model, query.text)
            near += await asyncio.to_thread(self._held.nearest, collection_ids, model, vector, take)
        return sorted(near, key=lambda hit: (-hit.score, hit.chunk_id))[:take]

    def _by_text(self, text: str, collection_ids: Sequence[int], take: int) -> list[tuple[int, float]]:
        with self._store.read() as connection:
            return fulltext.matches(connection, text, collection_ids, take)

    def _hits(
        self,
        scores: dict[int, float],
        collection_ids: Sequence[int],
        top_k: int,
        texts: Sequence[int],
        nears: Sequence[int],
    ) -> list[Hit]:
        """The best that are still there, in the collections that the caller may see now."""
        best = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))
        text_rank = {chunk_id: rank for rank, chunk_id in enumerate(texts, 1)}
        vector_rank = {chunk_id: rank for rank, chunk_id in enumerate(nears, 1)}
        hits: list[Hit] = []
        with self._store.read() as connection:
            for begin in range(0, len(best), 2 * top_k):
                found = documents.passages(connection, best[begin : begin + 2 * top_k], collection_ids)
                for chunk_id in best[begin : begin + 2 * top_k]:
                    if chunk_id in found:
                        ranks = (text_rank.get(chunk_id), vector_rank.get(chunk_id))
                        hits.append(Hit(found[chunk_id], scores[chunk_id], *ranks))
                if len(hits) >= top_k:
                    break
        return hits[:top_k]


def fused(lists: Iterable[Sequence[int]]) -> dict[int, float]:
    """Reciprocal rank fusion: every chunk of any of the lists (best first) with its score."""
    scores: dict[int, float] = {}
    for ranked in lists:
        for rank, chunk_id in enumerate(ranked, 1):
            scores[chunk_id] = scores.get(chunk_id, 0.0) + 1 / (RRF_K + rank)
    return scores


def reader_of(caller: Caller) -> Reader:
    """What a caller may see: their own, what is shared with all, and with their projects."""
    return Reader(caller.user_id, frozenset(caller.projects.values()))


def source_of(hit: Hit) -> Source:
    """A hit in JSON's words, without its text."""
    passage = hit.passage
    return {
        "document_id": passage.document_id,
        "title": passage.title,
        "source": passage.source,
        "chunk_id": passage.chunk_id,
        "heading": passage.heading,
        "score": hit.score,
        "start": passage.start,
        "end": passage.end,
    }
