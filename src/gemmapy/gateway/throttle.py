"""Slows down who guesses passwords: after some failures every further one doubles the wait.

Counts by address and name, by name, and by address, so that neither one guesser nor many get far, and a person who
mistypes is not kept out by a guesser elsewhere for longer than a minute. In memory and bounded; the oldest goes first.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gemmapy.core.errors import TooManyRequests

FREE_BY_PAIR, FREE_BY_NAME, FREE_BY_ADDRESS = 5, 20, 30
LONGEST_WAIT_S = {"pair": 900.0, "name": 60.0, "address": 900.0}
FORGET_AFTER_S = 3600
MAX_ENTRIES = 10_000


@dataclass(slots=True)
class _Failures:
    count: int
    last_s: float


class Throttle(ABC):
    """Call `check` before a password is looked at, then `failed` or `succeeded`. From any thread but the loop's."""

    @abstractmethod
    def wait_s(self, username: str, address: str) -> float:
        """How long it is too early for another try; 0 or less where it is not."""

    @abstractmethod
    def failed(self, username: str, address: str) -> None:
        """Counts a wrong password."""

    @abstractmethod
    def succeeded(self, username: str, address: str) -> None:
        """Forgets this person's failures at this address."""

    def check(self, username: str, address: str) -> None:
        """Raises TooManyRequests, with the time that is left, where it is too early for another try."""
        wait_s = self.wait_s(username, address)
        if wait_s > 0:
            raise TooManyRequests(
                f"Too many failed logins; try again in {max(1, round(wait_s))} s.", retry_after_s=wait_s
            )


class SharedThrottle(Throttle):
    """Another process's, which counts for all: otherwise a guesser would get as many tries as there are processes.

    `ask` puts a question to that process, where `answers` gives the answer. Raises what `ask` does.
    """

    SUBJECT = "logins"

    def __init__(self, ask: Callable[[str, Any], Any]) -> None:
        self._ask = ask

    def wait_s(self, username: str, address: str) -> float:
        return self._ask(self.SUBJECT, ["wait", username, address])

    def failed(self, username: str, address: str) -> None:
        self._ask(self.SUBJECT, ["failed", username, address])

    def succeeded(self, username: str, address: str) -> None:
        self._ask(self.SUBJECT, ["succeeded", username, address])

    @staticmethod
    def answers(throttle: Throttle) -> Callable[[Any], float]:
        """What answers the questions, with the throttle that counts."""

        def answer(asked: Any) -> float:
            what, username, address = asked
            if what == "failed":
                throttle.failed(username, address)
            elif what == "succeeded":
                throttle.succeeded(username, address)
            return throttle.wait_s(username, address)

        return answer


class LoginThrottle(Throttle):
    """Counts in this process. Thread-safe."""

    def __init__(self, clock_s: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        self._clock_s = clock_s
        self._max_entries = max_entries
        self._entries: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def wait_s(self, username: str, address: str) -> float:
        now_s = self._clock_s()
        with self._lock:
            return max(self._wait_s(key, free, now_s) for key, free in _keys(username, address))

    def failed(self, username: str, address: str) -> None:
        now_s = self._clock_s()
        with self._lock:
            for key, _ in _keys(username, address):
                entry = self._entries.setdefault(key, _Failures(0, now_s))
                if now_s - entry.last_s > FORGET_AFTER_S:
                    entry.count = 0
                entry.count, entry.last_s = entry.count + 1, now_s
                self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def succeeded(self, username: str, address: str) -> None:
        with self._lock:
            self._entries.pop(("pair", f"{address} {username.lower()}"), None)

    def _wait_s(self, key: tuple[str, str], free: int, now_s: float) -> float:
        entry = self._entries.get(key)
        if entry is None or entry.count < free or now_s - entry.last_s > FORGET_AFTER_S:
            return 0
        wait_s = min(LONGEST_WAIT_S[key[0]], 2.0 ** min(entry.count - free, 20))
        return entry.last_s + wait_s - now_s


def _keys(username: str, address: str) -> tuple[tuple[tuple[str, str], int], ...]:
    name = username.lower()[:64]
    return (
        (("pair", f"{address} {name}"), FREE_BY_PAIR),
        (("name", name), FREE_BY_NAME),
        (("address", address), FREE_BY_ADDRESS),
    )
