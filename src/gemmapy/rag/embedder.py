"""Vectors for chunks and questions, by an upstream's embedding model; every call is a request of the person it is for.

Chunks are embedded in the background, in batches, whatever made them need it: a new document, another model, a start
after a crash. What is to be done is what the database says has no vector, so nothing is kept in between. Rows of the
ledger: `/api/rag/documents` for chunks (their collection's owner pays), `/api/rag/search` for questions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from gemmapy.core.errors import (
    Draining,
    GemmaPyError,
    Unavailable,
    UnknownModel,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gemmapy.core.foreign import UNREADABLE
from gemmapy.gateway.asked import Endpoint
from gemmapy.gateway.auth import Caller
from gemmapy.gateway.handle import Gateway
from gemmapy.gateway.inside import ask
from gemmapy.rag import vectors
from gemmapy.rag.vectors import Vectors
from gemmapy.storage import documents
from gemmapy.storage.documents import Embedded, Unembedded
from gemmapy.storage.store import Store
from gemmapy.upstreams.catalogue import Catalogue

BATCH_CHUNKS = 16
BATCH_CHARACTERS = 16_000
LOOK_FOR_MODEL_S = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
SHORTENINGS = 3
"""How often a chunk that a model refuses is tried again with half of its text."""
_OF_CHUNKS = Endpoint("/api/rag/documents", "ollama", "embed", "/api/embed", "never", is_contract=True)
_OF_QUESTIONS = Endpoint("/api/rag/search", "ollama", "embed", "/api/embed", "never", is_contract=True)
_NOT_THE_TEXTS_FAULT = (UpstreamUnreachable, UpstreamTimeout, UnknownModel, Unavailable)
_log = structlog.stdlib.get_logger()


class _Answer(msgspec.Struct):
    embeddings: list[list[float]]


class Embedder:
    """One background task, and questions in between."""

    def __init__(self, gateway: Gateway, catalogue: Catalogue, store: Store, held: Vectors, model: str | None) -> None:
        self._gateway = gateway
        self._catalogue = catalogue
        self._store = store
        self._held = held
        self.model = model
        """Of collections that name none of their own; None is no embedding."""
        self.on_wake: Callable[[], None] = lambda: None
        """Tells another process, whose background task it is."""
        self.trouble: str | None = None
        """Why the background task gets nowhere at this moment."""
        self._dimensions: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()

    @property
    def is_able(self) -> bool:
        """Whether vectors can be used here at all."""
        return vectors.available()

    def start(self) -> None:
        """Begins to work in the background, where vectors can be used."""
        if self.is_able:
            self._task = asyncio.create_task(self._work(), name="embedder")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """There may be something to do, here or in the process that embeds. From any thread."""
        self.on_wake()
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it the need
            self._loop.call_soon_threadsafe(self._wake_here)

    async def idle(self) -> None:
        """Returns once everything that can be embedded is; for tests and benchmarks."""
        await self._idle.wait()

    async def question(self, caller: Caller, model: str, text: str) -> bytes:
        """The packed vector of a question; a request of the caller's.

        A key's limits are about what its holder names; this model was the operator's choice.
        """
        row = (await self._embed(replace(caller, models=None, routes=None), _OF_QUESTIONS, model, [text]))[0]
        dimension, packed = row
        if packed is None:
            raise UpstreamError(f"The embedding model {model!r} gave a vector without a direction.")
        await asyncio.to_thread(self.check_dimension, model, dimension)
        return packed

    def _wake_here(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            self._wake.clear()
            try:
                await self._once_through()
                self.trouble, pause_s = None, FIRST_PAUSE_S
                wait_s = None  # until there are new documents
            except UnknownModel as error:
                self.trouble, wait_s = f"no upstream has the embedding model {error.model!r}", LOOK_FOR_MODEL_S
            except GemmaPyError as error:
                if self.trouble is None:
                    _log.warning("chunks cannot be embedded; trying again", reason=error.message)
                self.trouble, wait_s = error.message, pause_s
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except Exception:  # noqa: BLE001 - the task must live: documents come for as long as the gateway runs
                _log.exception("embedding failed unexpectedly")
                self.trouble, wait_s = "it failed unexpectedly; the log says more", LONGEST_PAUSE_S
            if not self._wake.is_set():
                self._idle.set()
            # After trouble, new documents are no reason to try sooner.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await (self._wake.wait() if self.trouble is None else asyncio.Event().wait())

    async def _once_through(self) -> None:
        """Embeds all that needs it, in order of chunks."""
        after = 0
        while True:
            found = await asyncio.to_thread(self._next, after)
            if not found:
                return
            if self._gateway.draining:
                raise Draining
            for batch in _batches(found):
                await self._embed_batch(batch)
            after = found[-1].passage.chunk_id

    def _next(self, after: int) -> list[Unembedded]:
        with self._store.read() as connection:
            return documents.unembedded(connection, self.model, after, 4 * BATCH_CHUNKS)

    async def _embed_batch(self, batch: Sequence[Unembedded]) -> None:
        try:
            made = await self._vectors_of(batch, [_text_of(entry) for entry in batch])
        except _NOT_THE_TEXTS_FAULT:
            raise
        except GemmaPyError:
            # One text that the model cannot take spoils its batch: each by itself, and only that one suffers.
            made = [await self._one(entry) for entry in batch]
            if all(entry.dimension == 0 for entry in made) and not await self._takes_anything(batch[0]):
                raise
        await asyncio.to_thread(self._save, batch, made)

    async def _one(self, entry: Unembedded) -> Embedded:
        """A chunk's vector, if need be of its beginning only; dimension 0 where the model refuses even that."""
        text = _text_of(entry)
        reason = ""
        for shortening in range(SHORTENINGS + 1):
            try:
                return (await self._vectors_of([entry], [text[: len(text) >> shortening]]))[0]
            except _NOT_THE_TEXTS_FAULT:
                raise
            except GemmaPyError as error:
                reason = error.message
        _log.warning("a chunk cannot be embedded", chunk=entry.passage.chunk_id, model=entry.model, reason=reason)
        return Embedded(entry.passage.chunk_id, entry.model, 0, b"")

    async def _takes_anything(self, entry: Unembedded) -> bool:
        """Whether the model embeds at all, so that it is the texts that it refuses."""
        try:
            await self._vectors_of([entry], ["text"])
        except GemmaPyError:
            return False
        return True

    async def _vectors_of(self, entries: Sequence[Unembedded], texts: Sequence[str]) -> list[Embedded]:
        first = entries[0]
        payer = Caller(first.user_id, "", is_admin=False, project_id=first.project_id)
        rows = await self._embed(payer, _OF_CHUNKS, first.model, texts)
        return [
            Embedded(entry.passage.chunk_id, entry.model, dimension if packed else 0, packed or b"")
            for entry, (dimension, packed) in zip(entries, rows, strict=True)
        ]

    async def _embed(
        self, caller: Caller, endpoint: Endpoint, model: str, texts: Sequence[str]
    ) -> list[tuple[int, bytes | None]]:
        await self._catalogue.find(model)  # one that nobody has (yet) is no request, and no error in anybody's figures
        body = msgspec.json.encode({"model": model, "input": list(texts)})
        said = await ask(self._gateway, caller, endpoint, body)
        try:
            rows = msgspec.json.decode(said, type=_Answer).embeddings
        except UNREADABLE:
            raise UpstreamError(f"The model {model!r} did not answer with embeddings.") from None
        if len(rows) != len(texts):
            raise UpstreamError(f"The model {model!r} gave {len(rows)} embeddings for {len(texts)} texts.")
        return [(len(row), _packed(row)) for row in rows]

    def _save(self, batch: Sequence[Unembedded], made: Sequence[Embedded]) -> None:
        """Blocks. Where the database cannot be written now, the same chunks are embedded again later."""
        collection_of = {entry.passage.chunk_id: entry.passage.collection_id for entry in batch}
        kept = self._store.write(lambda connection: documents.save_embeddings(connection, made))
        for dimension in {entry.dimension for entry in kept if entry.dimension}:
            self.check_dimension(batch[0].model, dimension)
        for collection_id in set(collection_of.values()):
            rows = [
                (entry.chunk_id, entry.dimension, entry.vector)
                for entry in kept
                if entry.dimension and collection_of[entry.chunk_id] == collection_id
            ]
            if rows:
                self._held.add(collection_id, batch[0].model, rows)

    def check_dimension(self, model: str, dimension: int) -> None:
        """Where a model answers with another dimension than before, its name stands for another model now: what the
        former made is of no use, and is made again. Blocks."""
        if self._dimensions.get(model) == dimension:
            return
        with self._store.read() as connection:
            is_another = documents.has_another_dimension(connection, model, dimension)
        if is_another:
            stale = self._store.write(lambda connection: documents.discard_embeddings(connection, model, dimension))
            _log.warning("an embedding model has changed under its name; embedding again", model=model, chunks=stale)
            self._held.forget()
            self.wake()
        self._dimensions[model] = dimension


def _packed(row: Sequence[float]) -> bytes | None:
    try:
        return vectors.packed(row)
    except ValueError:
        return None


def _text_of(entry: Unembedded) -> str:
    """What is embedded of a chunk: its title and headings say what its sentences are about."""
    passage = entry.passage
    about = [line for line in dict.fromkeys((passage.title, passage.heading)) if line]
    return "\n".join([*about, "", passage.text])


def _batches(found: Sequence[Unembedded]) -> list[list[Unembedded]]:
    """Neighbours that one request can embed: of one model, for one payer, not too many, not too long."""
    batches: list[list[Unembedded]] = []
    size = 0
    for entry in found:
        length = len(entry.passage.text)
        last = batches[-1] if batches else None
        if (
            last is None
            or len(last) == BATCH_CHUNKS
            or size + length > BATCH_CHARACTERS
            or (last[0].model, last[0].user_id, last[0].project_id) != (entry.model, entry.user_id, entry.project_id)
        ):
            batches.append([entry])
            size = length
        else:
            last.append(entry)
            size += length
    return batches
