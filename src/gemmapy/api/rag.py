"""Documents, collections, search. `POST /api/rag/generate` is a metered route: see `gateway/asked.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gemmapy.api.access import SignedIn, Use
from gemmapy.api.services import Services
from gemmapy.api.switch import UPLOADS
from gemmapy.core.errors import InvalidRequest, PayloadTooLarge
from gemmapy.core.foreign import UNREADABLE
from gemmapy.metering.answers import Done
from gemmapy.rag.answers import AddedDocument, CollectionEntry, Collections, Documents, RagStats, Results, WholeDocument
from gemmapy.rag.extraction import as_text, extract
from gemmapy.rag.grounding import check_query
from gemmapy.rag.library import METADATA_LIMIT, SOURCE_LIMIT
from gemmapy.rag.retrieval import QUERY_LIMIT, TOP_K, TOP_K_LIMIT, source_of
from gemmapy.rag.retrieval import Query as Question

router = APIRouter(tags=["Documents"])
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")]
CollectionName = StrictStr | Annotated[StrictInt, Field(ge=1, le=2**63 - 1)]
METADATA_DEPTH = 20


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewDocumentBody(_Body):
    content: StrictStr = Field(min_length=1)
    title: StrictStr = Field(default="", max_length=1000)
    source: StrictStr = Field(default="", max_length=SOURCE_LIMIT, description="Where it is from. Never fetched.")
    metadata: dict[str, Any] = {}
    collection: CollectionName | None = Field(default=None, description="One's own, by name or id.")


_UPLOAD_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": NewDocumentBody.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "Text, Markdown, HTML or PDF."},
                        "title": {"type": "string"},
                        "source": {"type": "string"},
                        "metadata": {"type": "string", "description": "A JSON object."},
                        "collection": {"type": "string"},
                    },
                }
            },
        },
    }
}


@router.post(
    UPLOADS,
    status_code=201,
    summary="Add a document, as JSON or as a file",
    description="Found by its words at once, by its meaning when it is embedded. The same content again is 200.",
    openapi_extra=_UPLOAD_SCHEMA,
    responses={200: {"model": AddedDocument, "description": "It was there already."}},
)
async def add_document(request: Request, response: Response, caller: SignedIn, use: Use) -> AddedDocument:
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    add = _add_file(request, caller, use) if is_form else _add_text(request, caller, use)
    added = await add
    if added["duplicate"]:
        response.status_code = 200
    return added


@router.get(UPLOADS, summary="One's own documents and those that are shared with one")
def list_documents(
    caller: SignedIn,
    use: Use,
    collection: Annotated[str | None, Query(min_length=1, max_length=100, description="By name, or by id.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="The `next` of the page before.")] = None,
) -> Documents:
    return use.library.list(caller, _name_or_id(collection), limit, before)


@router.get(UPLOADS + "/{document_id}", summary="A document: its text and its chunks")
def show_document(document_id: Id, caller: SignedIn, use: Use) -> WholeDocument:
    return use.library.document(caller, document_id)


@router.delete(UPLOADS + "/{document_id}", summary="Delete a document, its chunks and its vectors")
def delete_document(document_id: Id, caller: SignedIn, use: Use) -> Done:
    use.library.delete(caller, document_id)
    return {"message": "The document is deleted."}


class NewCollection(_Body):
    name: Name
    shared_with_all: StrictBool = False
    project: Name | None = Field(default=None, description="Shared with the members of this project.")
    embedding_model: Name | None = None


class CollectionChange(_Body):
    name: Name | None = None
    shared_with_all: StrictBool | None = None
    project: Name | None = None
    embedding_model: Name | None = None


@router.get("/api/rag/collections", summary="The collections that one sees; admins: all, with ?all=true")
def list_collections(caller: SignedIn, use: Use, everyones: Annotated[bool, Query(alias="all")] = False) -> Collections:
    return {"collections": use.library.collections(caller, everyones=everyones)}


@router.post("/api/rag/collections", status_code=201, summary="A new collection")
def add_collection(body: NewCollection, caller: SignedIn, use: Use) -> CollectionEntry:
    return use.library.add_collection(caller, body.name, body.model_dump(exclude={"name"}))


@router.patch("/api/rag/collections/{collection_id}", summary="Rename, share or re-embed a collection")
def edit_collection(collection_id: Id, body: CollectionChange, caller: SignedIn, use: Use) -> CollectionEntry:
    changes = body.model_dump(exclude_unset=True)
    for name in ("name", "shared_with_all"):
        if name in changes and changes[name] is None:
            raise InvalidRequest(f"{name} must not be null.")
    return use.library.edit_collection(caller, collection_id, changes)


@router.delete("/api/rag/collections/{collection_id}", summary="Delete a collection and all that is in it")
def delete_collection(collection_id: Id, caller: SignedIn, use: Use) -> Done:
    use.library.delete_collection(caller, collection_id)
    return {"message": "The collection is deleted, with its documents."}


class SearchBody(_Body):
    query: StrictStr = Field(min_length=1, max_length=QUERY_LIMIT)
    top_k: StrictInt = Field(default=TOP_K, ge=1, le=TOP_K_LIMIT)
    mode: Literal["hybrid", "text", "vector"] = "hybrid"
    collection: CollectionName | None = None


@router.post("/api/rag/search", summary="Find passages, by words, by meaning, or both")
async def search(body: SearchBody, caller: SignedIn, use: Use) -> Results:
    check_query(body.query, body.top_k)
    question = Question(body.query, body.top_k, body.mode, body.collection)
    found = await use.library.retriever.find(caller, question)
    results: Results = {
        "results": [
            {**source_of(hit), "text": hit.passage.text, "text_rank": hit.text_rank, "vector_rank": hit.vector_rank}
            for hit in found.hits
        ],
        "mode": found.mode,
    }
    if found.note is not None:
        results["note"] = found.note
    return results


@router.get("/api/rag/stats", summary="How much there is, and how far it is embedded")
def stats(caller: SignedIn, use: Use) -> RagStats:
    return use.library.stats(caller)


# Uploads


async def _add_text(request: Request, caller: SignedIn, use: Services) -> AddedDocument:
    pieces = [piece async for piece in _bounded(request, use)]
    raw = b"".join(pieces)
    try:
        body = NewDocumentBody.model_validate_json(raw)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors(include_url=False)]
        raise RequestValidationError(problems) from None
    _check_metadata(body.metadata)
    return await asyncio.to_thread(
        lambda: use.library.add(
            caller,
            as_text(body.content),
            title=body.title,
            source=body.source,
            metadata=body.metadata,
            collection=body.collection,
            size_bytes=len(body.content.encode("utf-8", "replace")),
        )
    )


async def _add_file(request: Request, caller: SignedIn, use: Services) -> AddedDocument:
    parser = MultiPartParser(request.headers, _bounded(request, use), max_files=1, max_fields=8)
    try:
        form = await parser.parse()
    except InvalidRequest:
        raise
    except (MultiPartException, KeyError, ValueError) as error:
        reason = error.message if isinstance(error, MultiPartException) else "it cannot be read as a form"
        raise InvalidRequest(f"The form is not valid: {reason}.") from None
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise InvalidRequest("file is required: a form field of that name that holds a file.")
        unknown = set(form) - {"file", "title", "source", "metadata", "collection"}
        if unknown:
            raise InvalidRequest(f"{min(unknown)[:60]}: there is no such field.")
        title, source = _text(form, "title", 1000), _text(form, "source", SOURCE_LIMIT)
        metadata = _metadata(_text(form, "metadata", METADATA_LIMIT))
        collection = _name_or_id(_text(form, "collection", 100) or None)
        filename, declared = upload.filename or "", upload.content_type
        data = await upload.read()
    finally:
        await form.close()

    def add() -> AddedDocument:
        return use.library.add(
            caller,
            extract(data, filename, declared),
            title=title,
            filename=filename,
            source=source or filename,
            metadata=metadata,
            collection=collection,
            size_bytes=len(data),
        )

    return await asyncio.to_thread(add)


async def _bounded(request: Request, use: Services) -> AsyncGenerator[bytes]:
    """The body as it comes. Raises PayloadTooLarge as soon as it is, or says that it will be, larger than allowed."""
    limit = use.settings.max_body_bytes
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdigit() else 0
    if size <= limit:
        size = 0
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                break
            yield piece
    if size > limit:
        raise PayloadTooLarge(f"A document may have at most {limit} bytes.")


def _text(form: FormData, name: str, limit: int) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a text, not a file.")
    if len(value) > limit:
        raise InvalidRequest(f"{name} must have at most {limit} characters, has {len(value)}.")
    return value


def _metadata(text: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        said: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except (*UNREADABLE, UnicodeEncodeError):
        raise InvalidRequest("metadata must be a JSON object.") from None
    _check_metadata(said)
    return said


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Raises InvalidRequest for what is too large, or could not be given back as JSON."""
    if _depth(metadata) > METADATA_DEPTH:
        raise InvalidRequest(f"metadata may be nested {METADATA_DEPTH} deep at most.")
    try:
        size = len(json.dumps(metadata, allow_nan=False))
    except ValueError:
        raise InvalidRequest("metadata must hold numbers that are numbers, not NaN or Infinity.") from None
    if size > METADATA_LIMIT:
        raise InvalidRequest(f"metadata must have at most {METADATA_LIMIT} bytes as JSON, has {size}.")


def _depth(value: Any) -> int:
    """How deep objects and lists are nested, without recursion; 1 for a flat object."""
    depth, level = 0, [value]
    while level:
        inside: list[Any] = []
        for entry in level:
            if isinstance(entry, dict):
                inside += entry.values()  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            elif isinstance(entry, list):
                inside += entry  # pyright: ignore[reportUnknownArgumentType]
        depth, level = depth + 1, inside
    return depth


def _name_or_id(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 19 else text
