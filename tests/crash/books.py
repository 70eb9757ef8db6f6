"""What clients saw, held against what the ledger says: the promises, as code."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from gemmapy.core.clock import SystemClock
from gemmapy.metering.audit import Audit, audit
from gemmapy.storage.engine import open_reader
from gemmapy.storage.store import Store
from tests.crash.load import INPUT_NUSD, OUTPUT_NUSD, Seen, tokens

Row = dict[str, Any]


class Remains:
    """What a dead gateway left, copied, so that nothing touches the original before the gateway itself does.

    The database and its log are copied without the shared index beside them, as they would lie after a restart of the
    machine. Has of a `Store` what the audit asks for; one object for many copies, so that queries are compiled once.
    """

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(exist_ok=True)
        self._path = scratch / "gemmapy.db"
        self._engine = open_reader(self._path)
        self.clock = SystemClock()

    def take(self, data: Path) -> tuple[list[Row], set[bytes]]:
        """Copies what lies in a data folder, and returns what `ledger` does."""
        self._engine.dispose()
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(f"gemmapy.db{suffix}").unlink(missing_ok=True)
        for suffix in ("", "-wal"):
            if (data / f"gemmapy.db{suffix}").exists():
                shutil.copyfile(data / f"gemmapy.db{suffix}", self._path.with_name(f"gemmapy.db{suffix}"))
        return ledger(self._path)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection

    def audit(self) -> list[str]:
        """What `gemmapy audit` would find."""
        found = audit(self, Audit())  # pyright: ignore[reportArgumentType]
        return [f"{finding.day} {finding.what}" for finding in found]

    def close(self) -> None:
        self._engine.dispose()


def ledger(path: Path) -> tuple[list[Row], set[bytes]]:
    """The rows of `llm_metrics`, and the request ids of `inflight`."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM llm_metrics ORDER BY id")]
        running = {row[0] for row in connection.execute("SELECT request_id FROM inflight")}
    return rows, running


def check(
    rows: Sequence[Row], running: set[bytes], seen: Sequence[Seen], errors: Collection[str] = ("interrupted",)
) -> None:
    """Fails where a promise is broken. `running` is what is in flight; empty after a recovery. `errors` are the error
    codes that rows may have."""
    by_id = Counter(row["request_id"] for row in rows)
    by_client = Counter(row["client_request_id"] for row in rows)
    assert max(by_id.values(), default=1) == 1, "a request is in the ledger twice"
    assert max(by_client.values(), default=1) == 1, "a request is in the ledger twice, under two ids"
    assert not running & by_id.keys(), "a request is in the ledger and in flight"
    known = {row["request_id"]: row for row in rows}
    asked = {one.asked_as: one for one in seen}
    for one in seen:
        if one.status != 200:
            continue  # not a byte of an answer: nothing came, or a refusal, which has no row where there are no books
        assert one.request_id in known or one.request_id in running, f"a byte went out of no record: {one}"
        if one.is_complete:
            assert one.request_id in known, f"a complete answer has no row: {one}"
            _check_answer(one, known[one.request_id])
    for row in rows:
        one = asked[row["client_request_id"]]
        assert row["error_code"] in (None, *errors), row
        if row["error_code"] is None and row["status"] == 200:
            _check_counts(one, row)
        elif row["error_code"] == "interrupted":
            assert not one.is_complete
            assert (row["response_tokens"], row["cost_nusd"], row["estimated"]) == (None, None, 1), row
        elif row["error_code"] is None:
            assert (row["status"], one.kind.leaves) == (499, True), row
        else:
            assert not one.is_complete, row


def _check_answer(one: Seen, row: Row) -> None:
    """A complete answer's row, and what the answer itself says of it."""
    left_late = one.kind.leaves and row["status"] == 499  # it had everything, and was gone before the row was written
    assert (row["status"], row["error"], row["client_request_id"]) == (499 if left_late else 200, 0, one.asked_as), row
    if not left_late:
        _check_counts(one, row)
    if one.kind.path.startswith("/api/ollama/"):
        said = one.last
        assert (said["metric_id"], said["cached"]) == (row["id"], bool(row["cached"]))
        assert round(said["cost"] * 1e9) == row["cost_nusd"]


def _check_counts(one: Seen, row: Row) -> None:
    prompt, response = tokens(one.number)
    if one.kind.path == "/api/embed":
        response = 0
    cost = prompt * INPUT_NUSD + response * OUTPUT_NUSD
    assert (row["prompt_tokens"], row["response_tokens"], row["estimated"]) == (prompt, response, 0), (row, one)
    paid, saved = (0, cost) if row["cached"] else (cost, None)
    assert (row["cost_nusd"], row["saved_nusd"]) == (paid, saved), (row, one)
    assert one.kind.repeated or not row["cached"]


def audit_of(data: Path) -> list[str]:
    """What `gemmapy audit` finds in a data folder, also of a gateway that runs."""
    with Store.open(data) as store:
        return [f"{finding.day} {finding.what}" for finding in audit(store, Audit())]
