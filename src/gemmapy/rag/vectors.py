"""Nearest vectors, in memory: exact up to `exact_limit` vectors of a collection, an index (usearch, HNSW) above.

One shelf for each collection and model, so a search cannot even look at a collection that was not named. A shelf is
filled from the database when it is first asked, then kept up with what is embedded and deleted. Whoever uses the answer
looks the chunks up again: a vector whose chunk is gone costs a place and shows nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from gemmapy.core.peers import Alone, Peers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Matrix = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.int64]

EXACT_LIMIT = 100_000
CHANGED = "vectors"
_SPARE = 2
_log = structlog.stdlib.get_logger()
Stored = tuple[int, int, bytes]
"""Chunk id, dimension, vector."""


def available() -> bool:
    """Whether numpy, and with it vectors, can be used."""
    return importlib.util.find_spec("numpy") is not None


@dataclass(frozen=True, slots=True)
class Near:
    """A chunk and the cosine of the angle between its vector and the question's, -1 to 1."""

    chunk_id: int
    score: float


def packed(vector: Sequence[float]) -> bytes:
    """A vector as it is stored: scaled to length 1, float32, little-endian. Raises ValueError for one without length or
    with a number that is none."""
    import numpy as np

    row = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(row))
    if row.ndim != 1 or not row.size or not np.isfinite(length) or length == 0:
        raise ValueError("this is no vector with a direction")
    return (row / length).astype("<f4").tobytes()


class _Shelf:
    """The vectors of one collection by one model, all of one dimension."""

    def __init__(self, rows: Iterable[Stored], exact_limit: int) -> None:
        import numpy as np

        self._exact_limit = exact_limit
        self._count = 0
        self._ids: Ids = np.empty(0, dtype=np.int64)
        self._matrix: Matrix = np.empty((0, 0), dtype=np.float32)
        self._place: dict[int, int] = {}
        self._index: Any = None
        self._is_exact = False
        self.building: threading.Thread | None = None
        self._changed: list[int] = []
        """Chunks that came or went while an index is being built."""
        self.dimension: int | None = None
        self.add(rows)

    def __len__(self) -> int:
        return self._count

    @property
    def kind(self) -> str:
        return "usearch" if self._index is not None else "exact"

    def add(self, rows: Iterable[Stored]) -> None:
        """Puts vectors in, in place of older ones of the same chunks; those of another dimension are left out."""
        import numpy as np

        given = list(rows)
        if self.dimension is None and given:
            self.dimension = given[-1][1]  # the newest chunk's
        given = [row for row in given if row[1] == self.dimension]
        if not given:
            return
        new = [row for row in given if row[0] not in self._place]
        self._grow(self._count + len(new))
        block = np.frombuffer(b"".join(row[2] for row in given), dtype="<f4").reshape(len(given), -1)
        for (chunk_id, _, _), vector in zip(given, block, strict=True):
            place = self._place.setdefault(chunk_id, self._count)
            if place == self._count:
                self._count += 1
            self._ids[place] = chunk_id
            self._matrix[place] = vector
        changed = [row[0] for row in given]
        if self.building is not None:
            self._changed += changed
        elif self._index is not None:
            self._reindex(self._index, changed)

    def remove(self, chunk_ids: Iterable[int]) -> None:
        """Takes vectors out; the last ones move into the gaps."""
        gone = [chunk_id for chunk_id in chunk_ids if chunk_id in self._place]
        for chunk_id in gone:
            place = self._place.pop(chunk_id)
            self._count -= 1
            if place != self._count:
                moved = int(self._ids[self._count])
                self._ids[place] = moved
                self._matrix[place] = self._matrix[self._count]
                self._place[moved] = place
            self._matrix[self._count] = 0
        if self.building is not None:
            self._changed += gone
        elif self._index is not None:
            self._reindex(self._index, gone)

    def nearest(self, question: Matrix, limit: int) -> list[Near]:
        """At most `limit` chunks, the nearest first."""
        if not self._count or question.shape[0] != self.dimension:
            return []
        if self._index is not None:
            found = self._index.search(question, min(limit, self._count))
            return [Near(int(key), 1 - float(far)) for key, far in zip(found.keys, found.distances, strict=True)]
        return self._exact(question, limit)

    def needs_index(self) -> bool:
        """Whether it has outgrown exact search, and nothing is done about that yet."""
        return self._count > self._exact_limit and self._index is None and self.building is None and not self._is_exact

    def _exact(self, question: Matrix, limit: int) -> list[Near]:
        import numpy as np

        scores = self._matrix[: self._count] @ question
        take = min(limit, self._count)
        best = np.argpartition(-scores, take - 1)[:take]
        order = best[np.lexsort((self._ids[best], -scores[best]))]
        return [Near(int(self._ids[place]), float(scores[place])) for place in order]

    def _grow(self, size: int) -> None:
        import numpy as np

        if size <= len(self._ids):
            return
        room = max(size, min(_SPARE * len(self._ids), len(self._ids) + 50_000))
        ids = np.zeros(room, dtype=np.int64)
        matrix = np.zeros((room, self.dimension or 0), dtype=np.float32)
        ids[: self._count] = self._ids[: self._count]
        if self._count:
            matrix[: self._count] = self._matrix[: self._count]
        self._ids, self._matrix = ids, matrix

    # The index

    def begin_index(self, lock: threading.Lock) -> threading.Thread:
        """Begins to build the index in a thread; until it is there, searches are exact. Called with the lock held."""
        ids, matrix = self._ids[: self._count].copy(), self._matrix[: self._count].copy()
        self.building = threading.Thread(target=self._build, args=(lock, ids, matrix), daemon=True)
        self.building.start()
        return self.building

    def _build(self, lock: threading.Lock, ids: Ids, matrix: Matrix) -> None:
        index = None
        try:
            usearch: Any = importlib.import_module("usearch.index")
            index = usearch.Index(ndim=self.dimension, metric="cos", dtype="f32")
            # It takes minutes for 100,000: a core is left for requests, where there is one to leave.
            index.add(ids, matrix, threads=max(1, (os.cpu_count() or 1) - 1))
        except Exception:  # noqa: BLE001 - without it every search is exact: slower, and right
            _log.exception("an index of vectors could not be built; searches stay exact")
            self._is_exact = True
        with lock:
            if index is not None:
                self._reindex(index, self._changed)
                self._index = index
            self._changed = []
            self.building = None

    def _reindex(self, index: Any, chunk_ids: Iterable[int]) -> None:
        import numpy as np

        for chunk_id in dict.fromkeys(chunk_ids):
            if chunk_id in index:
                index.remove(chunk_id)
            place = self._place.get(chunk_id)
            if place is not None:
                index.add(np.int64(chunk_id), self._matrix[place])


class Vectors:
    """Every shelf that was asked for. Usable from any thread."""

    def __init__(
        self,
        load: Callable[[int, str], Iterable[Stored]],
        exact_limit: int = EXACT_LIMIT,
        peers: Peers | None = None,
    ) -> None:
        """`load` reads a collection's stored vectors by a model. What changes is told to `peers`, and heard of them."""
        self._load = load
        self._peers = peers or Alone()
        self._peers.on(CHANGED, self._hear)
        self._exact_limit = exact_limit
        self._lock = threading.Lock()
        self._shelves: dict[tuple[int, str], _Shelf] = {}

    def nearest(self, collection_ids: Iterable[int], model: str, question: bytes, limit: int) -> list[Near]:
        """The chunks of the collections that are nearest to a question's packed vector, at most `limit`."""
        import numpy as np

        wanted: Matrix = np.frombuffer(question, dtype="<f4")
        found: list[Near] = []
        with self._lock:
            for collection_id in collection_ids:
                found += self._shelf(collection_id, model).nearest(wanted, limit)
        found.sort(key=lambda near: (-near.score, near.chunk_id))
        return found[:limit]

    def add(self, collection_id: int, model: str, rows: Sequence[Stored]) -> None:
        """What was embedded just now. A shelf that nobody asked for yet will read it from the database."""
        self._add(collection_id, model, rows)
        self._peers.tell(CHANGED, ["add", collection_id, model, list(rows)])

    def _add(self, collection_id: int, model: str, rows: Sequence[Stored]) -> None:
        with self._lock:
            shelf = self._shelves.get((collection_id, model))
            if shelf is None:
                return
            if rows and len(shelf) and rows[0][1] != shelf.dimension:
                del self._shelves[collection_id, model]  # another model under the same name
                return
            shelf.add(rows)
            self._index_large(shelf)

    def remove(self, collection_id: int, chunk_ids: Sequence[int]) -> None:
        """What was deleted just now."""
        self._remove(collection_id, chunk_ids)
        self._peers.tell(CHANGED, ["remove", collection_id, list(chunk_ids)])

    def _remove(self, collection_id: int, chunk_ids: Sequence[int]) -> None:
        with self._lock:
            for (shelf_of, _), shelf in self._shelves.items():
                if shelf_of == collection_id:
                    shelf.remove(chunk_ids)

    def forget(self, collection_id: int | None = None) -> None:
        """Lets go of a collection's shelves, or of all: they are read again when they are asked for."""
        self._forget(collection_id)
        self._peers.tell(CHANGED, ["forget", collection_id])

    def _hear(self, said: Any) -> None:
        """What another process has changed."""
        match said:
            case ["add", collection_id, model, rows]:
                self._add(collection_id, model, [(chunk_id, dimension, row) for chunk_id, dimension, row in rows])
            case ["remove", collection_id, chunk_ids]:
                self._remove(collection_id, chunk_ids)
            case _:
                self._forget(said[1])

    def let_go(self) -> None:
        """The same of all, here only."""
        self._forget(None)

    def _forget(self, collection_id: int | None) -> None:
        with self._lock:
            for key in list(self._shelves):
                if collection_id is None or key[0] == collection_id:
                    del self._shelves[key]

    def kinds(self) -> dict[str, int]:
        """How many shelves are in memory, by how they are searched."""
        with self._lock:
            kinds = [shelf.kind for shelf in self._shelves.values() if len(shelf)]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def wait(self) -> None:
        """Until no index is being built."""
        with self._lock:
            building = [shelf.building for shelf in self._shelves.values()]
        for thread in building:
            if thread is not None:
                thread.join()

    def _shelf(self, collection_id: int, model: str) -> _Shelf:
        key = (collection_id, model)
        if key not in self._shelves:
            self._shelves[key] = _Shelf(self._load(collection_id, model), self._exact_limit)
            self._index_large(self._shelves[key])
        return self._shelves[key]

    def _index_large(self, shelf: _Shelf) -> None:
        if shelf.needs_index():
            shelf.begin_index(self._lock)
