"""The JSON of documents, collections and searches."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NotRequired

from typing_extensions import TypedDict


class CollectionEntry(TypedDict):
    id: int
    name: str
    owner_id: int
    owner: str | None
    shared_with_all: bool
    project: str | None
    embedding_model: str | None
    created_at: datetime
    documents: int
    size_bytes: int


class Collections(TypedDict):
    collections: list[CollectionEntry]


class DocumentEntry(TypedDict):
    id: int
    collection_id: int
    collection: str
    title: str
    source: str
    media_type: str
    metadata: dict[str, Any]
    size_bytes: int
    chunks: int
    created_at: datetime


class AddedDocument(DocumentEntry):
    duplicate: bool


class Documents(TypedDict):
    documents: list[DocumentEntry]
    next: int | None


class ChunkEntry(TypedDict):
    chunk_id: int
    heading: str
    start: int
    end: int
    text: str
    embedding_model: str | None


class WholeDocument(TypedDict):
    id: int
    collection_id: int
    collection: str
    title: str
    source: str
    media_type: str
    metadata: dict[str, Any]
    size_bytes: int
    created_at: datetime
    content: str
    chunks: list[ChunkEntry]


class Source(TypedDict):
    document_id: int
    title: str
    source: str
    chunk_id: int
    heading: str
    score: float
    start: int
    end: int


class Result(Source):
    text: str
    text_rank: int | None
    vector_rank: int | None


class Results(TypedDict):
    results: list[Result]
    mode: str
    note: NotRequired[str]


class EmbeddedCount(TypedDict):
    model: str
    dimension: int
    chunks: int


class RagStats(TypedDict):
    collections: int
    documents: int
    chunks: int
    bytes: int
    embedding_model: str | None
    embedded: list[EmbeddedCount]
    pending: int
    not_embeddable: int
    trouble: str | None
    index: dict[str, Any]
