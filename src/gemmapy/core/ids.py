"""Request ids: UUID version 7, 16 bytes inside, text in the API.

Version 7 (RFC 9562, section 5.7) starts with the time, so that ids of one process grow and the unique index is appended
to, not scattered over.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable

_RANDOM_BITS = 62
_RANDOM_AT_ONCE = 512
_SEQUENCE_LIMIT = 1 << 12


class RequestIds:
    """Makes request ids that never repeat and, within one process, always grow.

    Where the clock stands still or steps back, the 12 bits behind the time count on (RFC 9562, section 6.2, method 1);
    where they run out, the id's time moves one millisecond ahead of the clock.
    """

    def __init__(
        self,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._last_ms = 0
        self._sequence = 0
        self._random = b""
        """What is left of the last random bytes; asking for eight each time would be a system call each time."""

    def new(self) -> bytes:
        """A new id, 16 bytes."""
        with self._lock:
            now = self._now_ms()
            if now > self._last_ms:
                self._last_ms, self._sequence = now, 0
            else:
                self._sequence += 1
                if self._sequence == _SEQUENCE_LIMIT:
                    self._last_ms, self._sequence = self._last_ms + 1, 0
            ms, sequence = self._last_ms, self._sequence
            if not self._random:
                self._random = self._random_bytes(_RANDOM_AT_ONCE)
            random, self._random = int.from_bytes(self._random[:8]) & ((1 << _RANDOM_BITS) - 1), self._random[8:]
        value = (ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | sequence << 64 | 0b10 << _RANDOM_BITS | random
        return value.to_bytes(16)


def id_text(request_id: bytes) -> str:
    """The id as the API shows it: `01890a5d-ac96-774b-bcce-b302099a8057`."""
    digits = request_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_id(text: str) -> bytes | None:
    """The 16 bytes of an id in text form, or None where the text is no UUID."""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None
