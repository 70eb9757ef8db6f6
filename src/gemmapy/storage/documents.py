"""Collections, documents, their chunks and embeddings: their SQL.

Who may read what is decided here, in `_readable`: every question about documents names its reader, or the collections
that were found readable before.

A document comes and goes in steps, each a small transaction of its own, since a large one would keep every request
waiting for a second or more. Until the last step has brought it, nobody sees it; from the first that takes it away on,
nobody does. Steps go on from what the database says, so whoever takes one takes the right one, also after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Collection as Some
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, insert, or_, select, update

from gemmapy.core.errors import InvalidRequest, NotFound
from gemmapy.storage import fulltext
from gemmapy.storage.pieces import NewChunk
from gemmapy.storage.tables import COMING, GOING, HERE, chunks, collections, documents, embeddings, users
from gemmapy.storage.words import words_of

DEFAULT_COLLECTION = "default"
STEP_CHUNKS = 48
"""Chunks that one step brings or takes: some ten milliseconds."""
_IN_LIST = 500


@dataclass(frozen=True, slots=True)
class Reader:
    """Who wants to read: a user, and the projects whose shared collections they see."""

    user_id: int
    project_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document as it comes in, cut already."""

    collection_id: int
    title: str
    source: str
    media_type: str
    metadata: Mapping[str, Any]
    content: str
    content_hash: bytes
    size_bytes: int
    project_id: int | None
    chunks: Sequence[NewChunk] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk with its text and what is said of its document."""

    chunk_id: int
    document_id: int
    collection_id: int
    title: str
    source: str
    heading: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Unembedded:
    """A chunk that has no vector of its collection's model, and who pays for one."""

    passage: Passage
    model: str
    user_id: int
    project_id: int | None


@dataclass(frozen=True, slots=True)
class Embedded:
    """A chunk's vector: `dimension` float32 numbers, little-endian, of length 1. Dimension 0: it cannot be embedded."""

    chunk_id: int
    model: str
    dimension: int
    vector: bytes


def _readable(reader: Reader) -> ColumnElement[bool]:
    c = collections.c
    return or_(c.owner_id == reader.user_id, c.shared_with_all.is_(True), c.project_id.in_(reader.project_ids))


def _going() -> ColumnElement[bool]:
    """Nobody is left who has the collection: its owner is deleted, and had it for themselves."""
    c = collections.c
    return users.c.deleted_at.is_not(None) & c.shared_with_all.is_(False) & c.project_id.is_(None)


# Collections

_COUNTS = (
    select(
        documents.c.collection_id,
        func.count().label("documents"),
        func.sum(documents.c.size_bytes).label("size_bytes"),
    )
    .where(documents.c.stage == HERE)
    .group_by(documents.c.collection_id)
    .subquery()
)


def list_collections(connection: Connection, reader: Reader | None) -> list[dict[str, Any]]:
    """The collections that the reader sees, by id, with their owners' names and what they hold; None sees all but
    those that are going with their owners."""
    statement = (
        select(
            collections,
            users.c.username.label("owner"),
            func.coalesce(_COUNTS.c.documents, 0).label("documents"),
            func.coalesce(_COUNTS.c.size_bytes, 0).label("size_bytes"),
        )
        .join(users, users.c.id == collections.c.owner_id)
        .outerjoin(_COUNTS, _COUNTS.c.collection_id == collections.c.id)
        .where(~_going())
        .order_by(collections.c.id)
    )
    if reader is not None:
        statement = statement.where(_readable(reader))
    return [dict(row) for row in connection.execute(statement).mappings()]


def collection(connection: Connection, reader: Reader | None, name: str | int) -> dict[str, Any]:
    """A collection that the reader sees, by id or by name: one's own first, then those that are shared.

    Raises NotFound, and InvalidRequest where several that are shared have the name.
    """
    listed = list_collections(connection, reader)
    if isinstance(name, int):
        found = [entry for entry in listed if entry["id"] == name]
    else:
        named = [entry for entry in listed if entry["name"] == name]
        own = [entry for entry in named if reader is not None and entry["owner_id"] == reader.user_id]
        found = own or named
    if not found:
        raise NotFound(f"There is no collection {name!r}.", hint="GET /api/rag/collections lists those that you see.")
    if len(found) > 1:
        ids = ", ".join(str(entry["id"]) for entry in found)
        raise InvalidRequest(f"Several collections are named {name!r}: give the id, one of {ids}.")
    return found[0]


def default_collection(connection: Connection, user_id: int, now: datetime) -> int:
    """The user's own collection for what goes into no other; made where it is not there."""
    mine = (collections.c.owner_id == user_id) & (collections.c.name == DEFAULT_COLLECTION)
    found = connection.execute(select(collections.c.id).where(mine)).scalar()
    return found if found is not None else create_collection(connection, user_id, DEFAULT_COLLECTION, now)


def create_collection(
    connection: Connection,
    owner_id: int,
    name: str,
    now: datetime,
    *,
    shared_with_all: bool = False,
    project_id: int | None = None,
    embedding_model: str | None = None,
) -> int:
    """A new collection's id. Raises InvalidRequest where the owner has one of this name."""
    _check_name_is_free(connection, owner_id, name, None)
    values = {
        "owner_id": owner_id,
        "name": name,
        "shared_with_all": shared_with_all,
        "project_id": project_id,
        "embedding_model": embedding_model,
        "created_at": now,
    }
    made = connection.execute(insert(collections).values(values)).inserted_primary_key
    assert made is not None
    return made[0]


def edit_collection(connection: Connection, collection_id: int, changes: Mapping[str, Any]) -> None:
    """Changes `name`, `shared_with_all`, `project_id` or `embedding_model`. Raises NotFound, InvalidRequest."""
    row = connection.execute(select(collections.c.owner_id).where(collections.c.id == collection_id)).first()
    if row is None:
        raise NotFound(f"There is no collection {collection_id}.")
    if "name" in changes:
        _check_name_is_free(connection, row[0], changes["name"], collection_id)
    if changes:
        connection.execute(update(collections).where(collections.c.id == collection_id).values(dict(changes)))


def delete_collection(connection: Connection, collection_id: int) -> bool:
    """Deletes a collection that is empty, or is not there any more; False where there is a document in it."""
    if connection.execute(select(documents.c.id).where(documents.c.collection_id == collection_id).limit(1)).first():
        return False
    connection.execute(delete(collections).where(collections.c.id == collection_id))
    return True


def forget(connection: Connection, user_id: int) -> None:
    """Begins to delete what a user who is deleted had for themselves: from here on nobody sees it, and `unfinished`
    and `abandoned` name it. What they shared stays with those who use it."""
    c = collections.c
    alone = (c.owner_id == user_id) & c.shared_with_all.is_(False) & c.project_id.is_(None)
    held = select(documents.c.id).where(documents.c.collection_id.in_(select(c.id).where(alone)))
    for document_id in connection.execute(held).scalars().all():
        begin_to_delete(connection, document_id)


def abandoned(connection: Connection) -> list[int]:
    """Collections that nobody has any more."""
    joined = select(collections.c.id).join(users, users.c.id == collections.c.owner_id)
    return list(connection.execute(joined.where(_going())).scalars())


def _check_name_is_free(connection: Connection, owner_id: int, name: str, own_id: int | None) -> None:
    mine = (collections.c.owner_id == owner_id) & (collections.c.name == name)
    taken_by = connection.execute(select(collections.c.id).where(mine)).scalar()
    if taken_by is not None and taken_by != own_id:
        raise InvalidRequest(f"There is a collection named {name!r} already.", hint="Choose another name.")


# Documents

_chunk_count = select(func.count()).select_from(chunks).where(chunks.c.document_id == documents.c.id).scalar_subquery()
_SHOWN = (
    *(column for column in documents.columns if column.name not in ("content", "content_hash", "project_id", "stage")),
    collections.c.name.label("collection"),
    collections.c.owner_id,
    _chunk_count.label("chunks"),
)


def begin_document(connection: Connection, new: NewDocument, now: datetime) -> tuple[int, bool]:
    """A document's id, and whether it has yet to come: the same content is in a collection once, under its first title.

    `add_chunks` brings it, also where somebody else has begun. Raises NotFound where the collection is gone.
    """
    same = (documents.c.collection_id == new.collection_id) & (documents.c.content_hash == new.content_hash)
    known = connection.execute(select(documents.c.id, documents.c.stage).where(same)).first()
    if known is not None:
        return known[0], known[1] != HERE
    if connection.execute(select(collections.c.id).where(collections.c.id == new.collection_id)).first() is None:
        raise NotFound("The collection is gone.")
    values = {
        "collection_id": new.collection_id,
        "title": new.title,
        "source": new.source,
        "media_type": new.media_type,
        "metadata": json.dumps(dict(new.metadata), ensure_ascii=False),
        "content": new.content,
        "content_hash": new.content_hash,
        "size_bytes": new.size_bytes,
        "project_id": new.project_id,
        "created_at": now,
        "stage": COMING,
    }
    made = connection.execute(insert(documents).values(values)).inserted_primary_key
    assert made is not None
    return made[0], True


def add_chunks(connection: Connection, document_id: int, title: str, content: str, new: Sequence[NewChunk]) -> bool:
    """One step of bringing a document: its next chunks of all that are `new`; False once it is here.

    Raises NotFound where it was deleted meanwhile.
    """
    stage = connection.execute(select(documents.c.stage).where(documents.c.id == document_id)).scalar()
    if stage == HERE:
        return False
    if stage != COMING:
        raise NotFound(f"The document {document_id} was deleted while it came.")
    place = _chunks_there(connection, document_id)
    step = new[place : place + STEP_CHUNKS]
    if step:
        rows = [
            {"document_id": document_id, "ordinal": ordinal, "start": c.start, "end": c.end, "heading": c.heading}
            for ordinal, c in enumerate(step, place)
        ]
        connection.execute(insert(chunks), rows)
        fresh = (chunks.c.document_id == document_id) & (chunks.c.ordinal >= place)
        ids = connection.execute(select(chunks.c.id).where(fresh).order_by(chunks.c.ordinal)).scalars()
        fulltext.add(
            connection,
            (
                (chunk_id, title, c.heading, words_of(content[c.start : c.end]) if c.words is None else c.words)
                for chunk_id, c in zip(ids, step, strict=True)
            ),
        )
    if place + len(step) < len(new):
        return True
    connection.execute(update(documents).where(documents.c.id == document_id).values(stage=HERE))
    return False


def _chunks_there(connection: Connection, document_id: int) -> int:
    last = connection.execute(select(func.max(chunks.c.ordinal)).where(chunks.c.document_id == document_id)).scalar()
    return 0 if last is None else last + 1


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A document that is coming or going."""

    document_id: int
    collection_id: int
    is_going: bool


def unfinished(connection: Connection) -> list[Unfinished]:
    """What is under way, or was when its process ended."""
    c = documents.c
    rows = connection.execute(select(c.id, c.collection_id, c.stage).where(c.stage != HERE).order_by(c.id))
    return [Unfinished(row[0], row[1], row[2] == GOING) for row in rows]


def coming(connection: Connection, document_id: int) -> dict[str, Any] | None:
    """Title, media type and content of a document that has yet to come."""
    c = documents.c
    statement = select(c.title, c.media_type, c.content).where(c.id == document_id, c.stage == COMING)
    row = connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def documents_in(connection: Connection, collection_id: int) -> list[int]:
    """The ids of a collection's documents, at whatever stage."""
    return list(connection.execute(select(documents.c.id).where(documents.c.collection_id == collection_id)).scalars())


def list_documents(
    connection: Connection, reader: Reader, collection_id: int | None, limit: int, before: int | None
) -> list[dict[str, Any]]:
    """At most `limit` documents that the reader sees with an id below `before`, the newest first."""
    statement = (
        select(*_SHOWN)
        .join(collections, collections.c.id == documents.c.collection_id)
        .where(_readable(reader), documents.c.stage == HERE)
        .order_by(documents.c.id.desc())
        .limit(limit)
    )
    if collection_id is not None:
        statement = statement.where(documents.c.collection_id == collection_id)
    if before is not None:
        statement = statement.where(documents.c.id < before)
    return [_shown(row) for row in connection.execute(statement).mappings()]


def document(connection: Connection, reader: Reader, document_id: int) -> dict[str, Any]:
    """A document that the reader sees, its `content` included. Raises NotFound."""
    row = (
        connection.execute(
            select(*_SHOWN, documents.c.content)
            .join(collections, collections.c.id == documents.c.collection_id)
            .where(_readable(reader), documents.c.id == document_id, documents.c.stage == HERE)
        )
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"There is no document {document_id}.", hint="GET /api/rag/documents lists those that you see.")
    return _shown(row)


def chunks_of(connection: Connection, document_id: int) -> list[dict[str, Any]]:
    """A document's chunks in their order, each with the model and dimension of its vector (None: it has none)."""
    c = chunks.c
    statement = select(c.id, c.start, c.end, c.heading, c.embedding_model, c.dimension)
    rows = connection.execute(statement.where(c.document_id == document_id).order_by(c.ordinal))
    return [dict(row) for row in rows.mappings()]


def begin_to_delete(connection: Connection, document_id: int) -> None:
    """From here on nobody sees the document, and its text is gone; `delete_chunks` takes away the rest."""
    c = documents.c
    values = {
        "stage": GOING,
        "title": "",
        "source": "",
        "metadata": "{}",
        "content": "",
        "content_hash": b"gone%28d" % document_id,  # so that the same content can come again at once
    }
    connection.execute(update(documents).where(c.id == document_id, c.stage != GOING).values(values))


def delete_chunks(connection: Connection, document_id: int) -> list[int]:
    """One step of taking a document away: some of its chunks with their words and vectors, whose ids are returned; none
    once it is gone itself."""
    first = select(chunks.c.id).where(chunks.c.document_id == document_id).limit(STEP_CHUNKS)
    ids = list(connection.execute(first).scalars())
    if ids:
        fulltext.remove(connection, ids)
        connection.execute(delete(embeddings).where(embeddings.c.chunk_id.in_(ids)))
        connection.execute(delete(chunks).where(chunks.c.id.in_(ids)))
    else:
        connection.execute(delete(documents).where(documents.c.id == document_id, documents.c.stage == GOING))
    return ids


def passages(connection: Connection, chunk_ids: Sequence[int], collection_ids: Some[int]) -> dict[int, Passage]:
    """Chunks by id with their texts: of those asked for, the ones that are there and in one of the collections."""
    found: dict[int, Passage] = {}
    for begin in range(0, len(chunk_ids), _IN_LIST):
        wanted = and_(
            chunks.c.id.in_(chunk_ids[begin : begin + _IN_LIST]),
            documents.c.collection_id.in_(collection_ids),
            documents.c.stage == HERE,
        )
        for passage in _passages(connection, wanted):
            found[passage.chunk_id] = passage
    return found


_PASSAGE = (
    chunks.c.id,
    chunks.c.start,
    chunks.c.end,
    chunks.c.heading,
    documents.c.id.label("document_id"),
    documents.c.collection_id,
    documents.c.title,
    documents.c.source,
)


def _passages(connection: Connection, condition: ColumnElement[bool]) -> Iterator[Passage]:
    rows = connection.execute(
        select(*_PASSAGE).join(documents, documents.c.id == chunks.c.document_id).where(condition)
    ).mappings()
    yield from _with_texts(connection, list(rows))


def _with_texts(connection: Connection, rows: Sequence[Mapping[Any, Any]]) -> Iterator[Passage]:
    """Rows of `_PASSAGE` as passages. Each document's content is read once, however many of its chunks are wanted."""
    contents: dict[int, str] = {}
    for row in rows:
        document_id: int = row["document_id"]
        if document_id not in contents:
            contents[document_id] = connection.execute(
                select(documents.c.content).where(documents.c.id == document_id)
            ).scalar_one()
        yield Passage(
            chunk_id=row["id"],
            document_id=document_id,
            collection_id=row["collection_id"],
            title=row["title"],
            source=row["source"],
            heading=row["heading"],
            start=row["start"],
            end=row["end"],
            text=contents[document_id][row["start"] : row["end"]],
        )


def _shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {**row, "metadata": json.loads(row["metadata"])}


# Embeddings


def _model(default: str | None) -> ColumnElement[str]:
    """The model of a chunk's collection."""
    return func.coalesce(collections.c.embedding_model, default)


def _lacks(model: ColumnElement[str]) -> ColumnElement[bool]:
    """There is a model, and the chunk has no vector of it."""
    return and_(model.is_not(None), or_(chunks.c.embedding_model.is_(None), chunks.c.embedding_model != model))


def unembedded(connection: Connection, default_model: str | None, after: int, limit: int) -> list[Unembedded]:
    """At most `limit` chunks, by id from `after` on, that have no vector of the model of their collection."""
    model = _model(default_model)
    rows = list(
        connection.execute(
            select(*_PASSAGE, model.label("model"), collections.c.owner_id, documents.c.project_id)
            .join(documents, documents.c.id == chunks.c.document_id)
            .join(collections, collections.c.id == documents.c.collection_id)
            .where(chunks.c.id > after, _lacks(model), documents.c.stage == HERE)
            .order_by(chunks.c.id)
            .limit(limit)
        ).mappings()
    )
    texts = _with_texts(connection, rows)
    return [
        Unembedded(passage, row["model"], row["owner_id"], row["project_id"])
        for row, passage in zip(rows, texts, strict=True)
    ]


def save_embeddings(connection: Connection, made: Sequence[Embedded]) -> list[Embedded]:
    """Writes vectors in place of older ones; returns those whose chunks are still there."""
    ids = [entry.chunk_id for entry in made]
    alive = set(connection.execute(select(chunks.c.id).where(chunks.c.id.in_(ids))).scalars())
    kept = [entry for entry in made if entry.chunk_id in alive]
    connection.execute(delete(embeddings).where(embeddings.c.chunk_id.in_(alive)))
    for entry in kept:
        row = chunks.c.id == entry.chunk_id
        said = {"embedding_model": entry.model, "dimension": entry.dimension}
        connection.execute(update(chunks).where(row).values(said))
    rows = [{"chunk_id": entry.chunk_id, "vector": entry.vector} for entry in kept if entry.dimension]
    if rows:
        connection.execute(insert(embeddings), rows)
    return kept


def _of_another_dimension(model: str, dimension: int) -> ColumnElement[bool]:
    c = chunks.c
    return and_(c.embedding_model == model, c.dimension != dimension, c.dimension != 0)


def has_another_dimension(connection: Connection, model: str, dimension: int) -> bool:
    """Whether a model's vectors are of another dimension: its name stands for another model now."""
    stale = select(chunks.c.id).where(_of_another_dimension(model, dimension)).limit(1)
    return connection.execute(stale).first() is not None


def discard_embeddings(connection: Connection, model: str, dimension: int) -> int:
    """Deletes a model's vectors of any other dimension; returns how many chunks have to be embedded again."""
    stale = _of_another_dimension(model, dimension)
    connection.execute(delete(embeddings).where(embeddings.c.chunk_id.in_(select(chunks.c.id).where(stale))))
    return connection.execute(update(chunks).where(stale).values(embedding_model=None, dimension=None)).rowcount


def vectors(connection: Connection, collection_id: int, model: str) -> Iterator[tuple[int, int, bytes]]:
    """Chunk id, dimension and vector of a collection's chunks that were embedded by the model."""
    rows = connection.execute(
        select(chunks.c.id, chunks.c.dimension, embeddings.c.vector)
        .join(embeddings, chunks.c.id == embeddings.c.chunk_id)
        .join(documents, documents.c.id == chunks.c.document_id)
        .where(documents.c.collection_id == collection_id, chunks.c.embedding_model == model)
        .order_by(chunks.c.id)
    )
    for row in rows:
        yield row[0], row[1], row[2]


@dataclass(frozen=True, slots=True)
class Counted:
    """Chunks of one kind: by which model and dimension they are embedded (None: not at all), and whether that is what
    their collection wants (False: they wait)."""

    model: str | None
    dimension: int | None
    is_current: bool
    chunks: int


def count_chunks(connection: Connection, collection_ids: Some[int], default_model: str | None) -> list[Counted]:
    """The chunks of the collections, by kind."""
    lacks = case((_lacks(_model(default_model)), 1), else_=0)
    c = chunks.c
    rows = connection.execute(
        select(c.embedding_model, c.dimension, lacks, func.count())
        .join(documents, documents.c.id == c.document_id)
        .join(collections, collections.c.id == documents.c.collection_id)
        .where(documents.c.collection_id.in_(collection_ids), documents.c.stage == HERE)
        .group_by(c.embedding_model, c.dimension, lacks)
        .order_by(c.embedding_model, c.dimension)
    )
    return [Counted(row[0], row[1], not row[2], row[3]) for row in rows]
