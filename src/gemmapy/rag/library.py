"""The library: what people put in and take out, and who may.

Reading is decided in storage (`documents.py`); here is decided who changes what. One's own collections are one's own;
what others share can be read, not written. Admins manage every collection, and read only what they are shown as anyone.
Nothing is fetched: not a source, not an address in a text.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

from gemmapy.core.clock import Clock
from gemmapy.core.errors import Forbidden, GemmaPyError, InvalidRequest, NotFound
from gemmapy.gateway.auth import Caller
from gemmapy.rag.answers import (
    AddedDocument,
    ChunkEntry,
    CollectionEntry,
    DocumentEntry,
    Documents,
    EmbeddedCount,
    RagStats,
    WholeDocument,
)
from gemmapy.rag.cutting import chunks_of
from gemmapy.rag.embedder import Embedder
from gemmapy.rag.extraction import Extracted, first_words, title_of
from gemmapy.rag.retrieval import Retriever, reader_of
from gemmapy.rag.vectors import EXACT_LIMIT, Vectors
from gemmapy.storage import documents, fulltext, people
from gemmapy.storage.documents import NewDocument
from gemmapy.storage.store import Store

METADATA_LIMIT = 16_384
SOURCE_LIMIT = 2_000


class Library:
    """Documents and collections. Its methods block; they are not for the event loop."""

    def __init__(self, store: Store, held: Vectors, embedder: Embedder, retriever: Retriever, clock: Clock) -> None:
        self._store = store
        self._held = held
        self.embedder = embedder
        self.retriever = retriever
        self._clock = clock
        self.loop = asyncio.get_running_loop()
        self._tidying: asyncio.Task[None] | None = None
        self._is_started = False

    async def stop(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)

    # Documents

    def add(
        self,
        caller: Caller,
        extracted: Extracted,
        *,
        title: str = "",
        filename: str = "",
        source: str = "",
        metadata: Mapping[str, Any] | None = None,
        collection: str | int | None = None,
        size_bytes: int,
    ) -> AddedDocument:
        """Takes a document in: found by its words when this returns, and by its meaning once it is embedded.

        Raises NotFound or Forbidden for a collection that is not the caller's.
        """
        collection_id = self._own_collection(caller, collection)
        name = title_of(title) or extracted.title or title_of(filename) or first_words(extracted.text)
        new = NewDocument(
            collection_id=collection_id,
            title=name,
            source=title_of(source) if source else "",
            media_type=extracted.kind,
            metadata=metadata or {},
            content=extracted.text,
            content_hash=hashlib.sha256(extracted.text.encode()).digest(),
            size_bytes=size_bytes,
            project_id=caller.project_id,
        )
        now = self._clock.now()
        document_id, is_new = self._store.write(lambda connection: documents.begin_document(connection, new, now))
        if is_new:
            self._bring(document_id, name, extracted.text, is_markdown=extracted.is_markdown)
            self.embedder.wake()
        with self._store.read() as connection:
            entry = _document_entry(documents.document(connection, reader_of(caller), document_id))
        return {**entry, "duplicate": not is_new}

    def list(self, caller: Caller, collection: str | int | None, limit: int, before: int | None) -> Documents:
        """One page of what the caller sees, the newest first; `next` is what `before` is for the page after."""
        reader = reader_of(caller)
        with self._store.read() as connection:
            place = None if collection is None else documents.collection(connection, reader, collection)["id"]
            rows = documents.list_documents(connection, reader, place, limit + 1, before)
        page = [_document_entry(row) for row in rows[:limit]]
        return {"documents": page, "next": page[-1]["id"] if len(rows) > limit else None}

    def document(self, caller: Caller, document_id: int) -> WholeDocument:
        """A document with its text and its chunks. Raises NotFound."""
        with self._store.read() as connection:
            row = documents.document(connection, reader_of(caller), document_id)
            listed = documents.chunks_of(connection, document_id)
        content: str = row["content"]
        chunks: list[ChunkEntry] = [
            {
                "chunk_id": chunk["id"],
                "heading": chunk["heading"],
                "start": chunk["start"],
                "end": chunk["end"],
                "text": content[chunk["start"] : chunk["end"]],
                "embedding_model": chunk["embedding_model"] if chunk["dimension"] else None,
            }
            for chunk in listed
        ]
        shown = {name: row[name] for name in WholeDocument.__annotations__ if name != "chunks"}
        return WholeDocument(**shown, chunks=chunks)  # pyright: ignore[reportArgumentType]

    def delete(self, caller: Caller, document_id: int) -> None:
        """Deletes a document and all that was made of it. Raises NotFound, Forbidden where it is another's."""
        with self._store.read() as connection:
            row = documents.document(connection, reader_of(caller), document_id)
        if row["owner_id"] != caller.user_id and not caller.is_admin:
            raise Forbidden("This document is in another's collection.", hint="Its owner, or an admin, can delete it.")
        self._store.write(lambda connection: documents.begin_to_delete(connection, document_id))
        self._take_away(document_id, row["collection_id"])
        self.tidy()

    # Collections

    def collections(self, caller: Caller, *, everyones: bool = False) -> list[CollectionEntry]:
        """The collections that the caller sees; all of them for an admin who asks. Raises Forbidden for others."""
        if everyones and not caller.is_admin:
            raise Forbidden("Everyone's collections are for admins.")
        with self._store.read() as connection:
            listed = documents.list_collections(connection, None if everyones else reader_of(caller))
            names = {entry["id"]: entry["name"] for entry in people.list_projects(connection)}
        return [_collection_entry(entry, names) for entry in listed]

    def add_collection(self, caller: Caller, name: str, settings: Mapping[str, Any]) -> CollectionEntry:
        """A new collection of the caller's. `settings` are `shared_with_all`, `project` (a name) and
        `embedding_model`. Raises InvalidRequest where the name is taken or the project is none of theirs."""
        values = self._collection_values(caller, settings)
        now = self._clock.now()
        collection_id = self._store.write(
            lambda connection: documents.create_collection(connection, caller.user_id, name, now, **values)
        )
        return self._collection(caller, collection_id)

    def edit_collection(self, caller: Caller, collection_id: int, changes: Mapping[str, Any]) -> CollectionEntry:
        """Renames it, shares it or no more, or gives it another embedding model. Raises NotFound, Forbidden."""
        self._check_manages(caller, collection_id)
        values = self._collection_values(caller, changes)
        if "name" in changes:
            values["name"] = changes["name"]
        self._store.write(lambda connection: documents.edit_collection(connection, collection_id, values))
        if "embedding_model" in values:
            self._held.forget(collection_id)
            self.embedder.wake()
        return self._collection(caller, collection_id)

    def delete_collection(self, caller: Caller, collection_id: int) -> None:
        """Deletes it with all its documents. Raises NotFound, Forbidden."""
        self._check_manages(caller, collection_id)
        self._empty(collection_id)
        self.tidy()

    # Figures

    def stats(self, caller: Caller) -> RagStats:
        """What there is of what the caller sees, and how far it is embedded."""
        with self._store.read() as connection:
            listed = documents.list_collections(connection, reader_of(caller))
            places = [entry["id"] for entry in listed]
            counted = documents.count_chunks(connection, places, self.embedder.model)
        embedded: dict[tuple[str, int], EmbeddedCount] = {}
        for kind in counted:
            if kind.model is not None and kind.dimension:
                key = (kind.model, kind.dimension)
                fresh: EmbeddedCount = {"model": kind.model, "dimension": kind.dimension, "chunks": 0}
                embedded.setdefault(key, fresh)["chunks"] += kind.chunks
        return {
            "collections": len(listed),
            "documents": sum(entry["documents"] for entry in listed),
            "chunks": sum(kind.chunks for kind in counted),
            "bytes": sum(entry["size_bytes"] for entry in listed),
            "embedding_model": self.embedder.model,
            "embedded": list(embedded.values()),
            "pending": sum(kind.chunks for kind in counted if not kind.is_current) if self.embedder.is_able else 0,
            "not_embeddable": sum(kind.chunks for kind in counted if kind.is_current and kind.dimension == 0),
            "trouble": self.embedder.trouble,
            "index": {
                "text": "fts5",
                "vectors": "exact" if self.embedder.is_able else "not installed",
                "exact_limit": EXACT_LIMIT,
                "in_memory": self._held.kinds(),
            },
        }

    def follow(self) -> None:
        """Another process has begun before this one, and has finished what a crash left."""
        self._is_started = True

    def forget(self) -> None:
        """Lets go of the vectors in memory; what is asked for is read again."""
        self._held.let_go()

    # In steps: between any two of them, requests are written down

    def _bring(self, document_id: int, title: str, content: str, *, is_markdown: bool) -> None:
        """Brings a document chunk by chunk until it is here. Raises NotFound where it was deleted meanwhile."""
        new = chunks_of(content, is_markdown=is_markdown)
        while self._store.write(lambda c: documents.add_chunks(c, document_id, title, content, new)):
            pass

    def _take_away(self, document_id: int, collection_id: int) -> None:
        """Deletes all that was made of a document, then itself."""
        while gone := self._store.write(lambda connection: documents.delete_chunks(connection, document_id)):
            self._held.remove(collection_id, gone)

    def _empty(self, collection_id: int) -> None:
        """Deletes a collection's documents, one after the other, then itself."""
        while not self._store.write(lambda connection: documents.delete_collection(connection, collection_id)):
            with self._store.read() as connection:
                ids = documents.documents_in(connection, collection_id)
            for document_id in ids:
                self._store.write(lambda connection, d=document_id: documents.begin_to_delete(connection, d))
                self._take_away(document_id, collection_id)
        self._held.forget(collection_id)

    def _finish(self, *, is_start: bool) -> None:
        """Takes away what is going and nobody is at, and at the start brings what a crash left on its way."""
        with self._store.read() as connection:
            left = documents.unfinished(connection)
            abandoned = documents.abandoned(connection)
        for entry in left:
            if entry.is_going:
                self._take_away(entry.document_id, entry.collection_id)
            elif is_start:
                with self._store.read() as connection:
                    found = documents.coming(connection, entry.document_id)
                if found is not None:
                    is_markdown = Extracted(found["media_type"], "", "").is_markdown
                    self._bring(entry.document_id, found["title"], found["content"], is_markdown=is_markdown)
                    self.embedder.wake()
        for collection_id in abandoned:
            self._empty(collection_id)

    # What is left of what was deleted

    def tidy(self) -> None:
        """Begins, in the background, to delete what nobody has any more, and to work it out of the full-text index.
        From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is gone; the next start does it
            self.loop.call_soon_threadsafe(self._tidy_here)

    def _tidy_here(self) -> None:
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(self._tidy_all(), name="full-text index")

    async def _tidy_all(self) -> None:
        first = True
        is_start, self._is_started = not self._is_started, True
        with contextlib.suppress(GemmaPyError):  # a database that cannot be written has other worries; the next does it
            await asyncio.to_thread(self._finish, is_start=is_start)
            while await asyncio.to_thread(self._store.write, lambda c, f=first: fulltext.tidy(c, first=f)):
                first = False

    # What they share

    def _own_collection(self, caller: Caller, name: str | int | None) -> int:
        if name is None:
            now = self._clock.now()
            return self._store.write(lambda c: documents.default_collection(c, caller.user_id, now))
        with self._store.read() as connection:
            found = documents.collection(connection, reader_of(caller), name)
        if found["owner_id"] != caller.user_id:
            raise Forbidden(f"The collection {name!r} is another's; it can be read, not added to.")
        return found["id"]

    def _check_manages(self, caller: Caller, collection_id: int) -> None:
        """Raises NotFound where the caller cannot know of it, Forbidden where it is another's."""
        with self._store.read() as connection:
            found = documents.collection(connection, None if caller.is_admin else reader_of(caller), collection_id)
        if found["owner_id"] != caller.user_id and not caller.is_admin:
            raise Forbidden("This collection is another's.", hint="Its owner, or an admin, can change it.")

    def _collection_values(self, caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: given[name] for name in ("shared_with_all", "embedding_model") if name in given}
        if "project" in given:
            project = given["project"]
            if project is not None and project not in caller.projects:
                raise InvalidRequest(f"{project!r} is none of your projects.", hint="GET /api/profile lists yours.")
            values["project_id"] = None if project is None else caller.projects[project]
        return values

    def _collection(self, caller: Caller, collection_id: int) -> CollectionEntry:
        for entry in self.collections(caller, everyones=caller.is_admin):
            if entry["id"] == collection_id:
                return entry
        raise NotFound(f"There is no collection {collection_id}.")


def _document_entry(row: Mapping[str, Any]) -> DocumentEntry:
    return DocumentEntry(**{name: row[name] for name in DocumentEntry.__annotations__})  # pyright: ignore[reportArgumentType]


def _collection_entry(row: Mapping[str, Any], projects: Mapping[int, str]) -> CollectionEntry:
    shown = {name: row[name] for name in CollectionEntry.__annotations__ if name != "project"}
    return CollectionEntry(**shown, project=projects.get(row["project_id"]))  # pyright: ignore[reportArgumentType]
