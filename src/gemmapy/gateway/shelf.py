"""Where the cache looks when an answer is not in memory: the file of kept answers, from the event loop.

Called by `cache.py`; calls `storage/answers.py`, reading in one thread and writing in another, so that a hit never
waits for what is being written. Answers are compressed, and each carries a digest of itself and its key: bytes that are
not what was put in are a miss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from gemmapy.core import zstd
from gemmapy.gateway.entry import Entry
from gemmapy.storage.answers import AnswerFile

_DIGEST_BYTES = 16
_LARGEST = 256 * 1024 * 1024
_WAITING_BYTES = 32 * 1024 * 1024
"""Answers that wait to be written; past it, new ones are kept in memory alone."""
_decode = msgspec.msgpack.Decoder(Entry).decode


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer from the shelf, and its age."""

    entry: Entry
    age_s: float


class Shelf:
    """The answers on disk."""

    def __init__(self, file: AnswerFile) -> None:
        self.file = file
        self._reads = ThreadPoolExecutor(1, "gemmapy-answers-read")
        self._writes = ThreadPoolExecutor(1, "gemmapy-answers-write")
        self._used: set[bytes] = set()
        self._waiting_bytes = 0

    async def close(self) -> None:
        """Writes what is waiting."""
        await asyncio.to_thread(self._writes.shutdown)
        await asyncio.to_thread(self._reads.shutdown)
        self.file.close()

    async def get(self, key: bytes) -> Stored | None:
        return await asyncio.get_running_loop().run_in_executor(self._reads, self._get, key)

    def put(self, key: bytes, entry: Entry, user_id: int) -> None:
        """Begins to write; nobody waits for it."""
        size = len(entry.body)
        if self._waiting_bytes + size > _WAITING_BYTES:
            return
        used, self._used = self._used, set()
        self._waiting_bytes += size
        done = asyncio.get_running_loop().run_in_executor(self._writes, self._put, key, entry, user_id, used)
        done.add_done_callback(lambda _done: self._written(size))

    def touch(self, key: bytes) -> None:
        """It was given again, from memory or from here; written with the next answer that comes."""
        self._used.add(key)

    async def clear(self, which: Callable[[str], bool] | None) -> set[bytes] | None:
        """The keys of those that are deleted; None where that failed. What was put before is gone as well."""
        return await asyncio.get_running_loop().run_in_executor(self._writes, self.file.clear, which)

    async def clear_expired(self) -> set[bytes] | None:
        return await asyncio.get_running_loop().run_in_executor(self._writes, self.file.clear_expired)

    def keep_only(self, user_ids: Collection[int]) -> None:
        """Deletes, soon, what others than these asked for. From any thread."""
        self._writes.submit(self.file.keep_only, user_ids)

    async def held(self) -> Mapping[str, tuple[int, int]]:
        """Entries and bytes of each model."""
        return await asyncio.get_running_loop().run_in_executor(self._reads, self.file.held)

    def _get(self, key: bytes) -> Stored | None:
        found = self.file.get(key)
        entry = None if found is None else unpacked(key, found.answer)
        return None if found is None or entry is None else Stored(entry, found.age_s)

    def _put(self, key: bytes, entry: Entry, user_id: int, used: set[bytes]) -> None:
        self.file.put(key, entry.model, user_id, packed(key, entry), used)

    def _written(self, size: int) -> None:
        self._waiting_bytes -= size


def packed(key: bytes, entry: Entry) -> bytes:
    """An answer as it is stored."""
    body = zstd.compress(msgspec.msgpack.encode(entry))
    return _digest(key, body) + body


def unpacked(key: bytes, stored: bytes) -> Entry | None:
    """The answer that was stored under the key; None where the bytes are not those that were."""
    digest, body = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if digest != _digest(key, body):
        return None
    try:
        return _decode(zstd.ZstdDecompressor().decompress(body, _LARGEST))
    except (zstd.ZstdError, msgspec.DecodeError):
        return None  # whole, and in the words of another release


def _digest(key: bytes, body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST_BYTES, key=key).digest()
