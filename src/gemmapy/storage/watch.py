"""Sees what other processes change: polls the revisions, and calls back for each subject that has moved on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog

from gemmapy.storage import revisions
from gemmapy.storage.store import Store

POLL_S = 0.1
_log = structlog.stdlib.get_logger()


class RevisionWatch:
    """One thread; `on_change` holds what to call for each subject. A call back that fails is called again."""

    def __init__(self, store: Store, on_change: Mapping[str, Callable[[], None]], poll_s: float = POLL_S) -> None:
        self._store = store
        self._on_change = on_change
        self._poll_s = poll_s
        self._stopped = threading.Event()
        self._seen: dict[
            str, int
        ] = {}  # so that what changed between a part's first reading and this start is seen too
        self._thread = threading.Thread(target=self._run, name="gemmapy-revisions", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _look(self) -> dict[str, int]:
        with self._store.read() as connection:
            return revisions.current(connection)

    def _run(self) -> None:
        failing = False
        while not self._stopped.wait(self._poll_s):
            try:
                for subject, revision in self._look().items():
                    if self._seen.get(subject) != revision:
                        if subject in self._on_change:
                            self._on_change[subject]()
                        self._seen[subject] = revision
                failing = False
            except Exception:  # noqa: BLE001
                # The thread must live: without it, revoked keys would go on working.
                if not failing:
                    _log.exception("changes made by other processes cannot be seen; trying again")
                failing = True
