"""The books: on disk before they are acknowledged, exactly once, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, create_engine, inspect, select
from tests.support.clock import FixedClock

from gemmapy.core.errors import ConfigurationError, InvalidRequest, StorageUnavailable
from gemmapy.core.ids import RequestIds
from gemmapy.core.records import Attempt, Cost, Intent, Outcome, Timings, Usage
from gemmapy.metering.audit import Audit, audit
from gemmapy.storage import ledger, migrate
from gemmapy.storage.store import Store
from gemmapy.storage.tables import llm_metrics, parse_time, time_text

IDS = RequestIds()


def intent(clock: FixedClock, request_id: bytes | None = None) -> Intent:
    return Intent(request_id or IDS.new(), 1, "llama3", "/api/chat", clock.now(), prompt_estimate=9)


def outcome(clock: FixedClock, of: Intent | None = None) -> Outcome:
    return Outcome(of or intent(clock), 200, Usage(5, 7), Timings(100), cost=Cost(1, 10, 20))


def count(store: Store, table: str) -> int:
    with store.read() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()


def test_a_record_is_on_disk_when_it_is_acknowledged(store: Store, clock: FixedClock) -> None:
    metric_id = store.record(outcome(clock))
    other = sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)
    assert other.execute("SELECT id, total_tokens, cost_nusd FROM llm_metrics").fetchall() == [(metric_id, 12, 30)]
    other.close()


def test_a_row_says_everything_of_its_request_in_the_column_of_that_name(store: Store, clock: FixedClock) -> None:
    who = {"api_key_id": 31, "project_id": 32, "end_user": "eve", "client_request_id": "client-1"}
    how = {"stream": True, "upstream": "ollama", "prompt_estimate": 9, "requested_model": "llama"}
    of = Intent(IDS.new(), 1, "llama3", "/api/chat", clock.now(), **who, **how)  # pyright: ignore[reportArgumentType]
    timings = Timings(101, ttft_ms=102, queue_ms=103, load_ms=104, prompt_ms=105, generation_ms=106)
    tried = (Attempt("one", "llama", 0, 7, 3, 500, "upstream_error"), Attempt("ollama", "llama3", 10, 9))
    log = msgspec.json.encode(tried).decode()
    usage, cost = Usage(5, 7, 3, True), Cost(1, 10, 20, 3)
    store.record(
        Outcome(of, 502, usage, timings, "broke", "in two", "stop", True, cost, 33, 2, attempt_log=tried, speed_mtps=44)
    )
    with store.read() as connection:
        row = dict(connection.execute(select(llm_metrics)).mappings().one())
    assert row == {
        **dict.fromkeys(("cached", "error", "stream", "estimated"), True),
        "id": 1,
        "user_id": 1,
        "model": "llama3",
        "endpoint": "/api/chat",
        "request_id": of.request_id,
        "prompt_tokens": 5,
        "response_tokens": 7,
        "total_tokens": 12,
        "cached_prompt_tokens": 3,
        "duration_ms": 101,
        "ttft_ms": 102,
        "queue_ms": 103,
        "load_ms": 104,
        "prompt_ms": 105,
        "generation_ms": 106,
        "tokens_per_second": 0.044,
        "status": 502,
        "error_code": "broke",
        "error_message": "in two",
        "finish_reason": "stop",
        "created_at": clock.now(),
        "started_at": clock.now(),
        "cost_nusd": 33,
        "prompt_cost_nusd": 10,
        "response_cost_nusd": 20,
        "saved_nusd": 33,
        "price_id": 1,
        "upstream": "ollama",
        "attempts": 2,
        "api_key_id": 31,
        "project_id": 32,
        "end_user": "eve",
        "client_request_id": "client-1",
        "requested_model": "llama",
        "attempt_log": log,
        "user_rating": None,
    }


def test_the_contracts_columns_come_first_and_in_its_order(store: Store) -> None:
    with store.read() as connection:
        names = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(llm_metrics)")]
        indexes = {row[1] for row in connection.exec_driver_sql("PRAGMA index_list(llm_metrics)")}
    assert names[:14] == [
        "id",
        "user_id",
        "model",
        "endpoint",
        "prompt_tokens",
        "response_tokens",
        "total_tokens",
        "duration_ms",
        "tokens_per_second",
        "cached",
        "error",
        "error_message",
        "user_rating",
        "created_at",
    ]
    assert {"idx_metrics_model", "idx_metrics_created", "idx_metrics_user"} <= indexes


def test_the_disk_is_synced_at_every_commit(store: Store) -> None:
    modes = store.write(
        lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    )
    assert modes == ["wal", 2]


def test_readers_cannot_write(store: Store) -> None:
    with store.read() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM users")


async def test_what_is_admitted_is_in_flight_until_it_is_finished(store: Store, clock: FixedClock) -> None:
    begun = intent(clock)
    await store.admit(begun)
    assert (count(store, "inflight"), count(store, "llm_metrics")) == (1, 0)
    await store.finish(outcome(clock, begun), admitted=True)
    assert (count(store, "inflight"), count(store, "llm_metrics")) == (0, 1)


async def test_admitted_and_finished_at_once_is_one_row(store: Store, clock: FixedClock) -> None:
    begun = [intent(clock) for _ in range(50)]
    futures = [f for i in begun for f in (store.admit(i), store.finish(outcome(clock, i), admitted=True))]
    await asyncio.gather(*futures)
    assert (count(store, "inflight"), count(store, "llm_metrics")) == (0, 50)


def test_ids_are_given_in_order_and_never_again(store: Store, clock: FixedClock) -> None:
    with ThreadPoolExecutor(16) as pool:
        ids = list(pool.map(lambda _: store.record(outcome(clock)), range(200)))
    assert sorted(ids) == list(range(1, 201))
    store.write(lambda c: c.exec_driver_sql("DELETE FROM llm_metrics WHERE id > 100"))
    assert store.record(outcome(clock)) == 201


def test_the_same_request_twice_is_one_row_with_one_id(store: Store, clock: FixedClock) -> None:
    one = outcome(clock)
    assert store.record(one) == store.record(one)
    assert count(store, "llm_metrics") == 1


def test_a_bad_record_does_not_take_the_others_along(store: Store, clock: FixedClock) -> None:
    bad = Outcome(Intent(IDS.new(), 1, None, "/x", clock.now()), 200, Usage(), Timings(1))  # pyright: ignore
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(store.record, bad if n == 3 else outcome(clock)) for n in range(8)]
    failed = [future for future in futures if future.exception()]
    assert len(failed) == 1
    assert isinstance(failed[0].exception(), StorageUnavailable)
    assert count(store, "llm_metrics") == 7


def test_a_record_whose_figures_the_database_refuses_is_written_without_them(store: Store, clock: FixedClock) -> None:
    of = intent(clock)
    store.write(lambda c: ledger.write(c, store.slot, [(of, store.slot)], [], clock.now()))
    huge = Outcome(of, 200, Usage(2**70, 1), Timings(100), cost=Cost(1, 2**70, 20))

    async def finish() -> None:
        await store.finish(huge, admitted=True)

    with pytest.raises(StorageUnavailable, match="too large"):
        asyncio.run(finish())
    assert count(store, "inflight") == 0
    with store.read() as connection:
        row = connection.exec_driver_sql(
            "SELECT status, error_code, total_tokens, cost_nusd, estimated FROM llm_metrics"
        ).one()
    assert row == (200, "record_refused", None, None, 1)
    assert list(audit(store, Audit())) == []


def test_a_call_that_fails_leaves_nothing(store: Store) -> None:
    def half(connection: ledger.Connection) -> None:
        connection.exec_driver_sql("UPDATE users SET username = 'x' WHERE id = 1")
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        store.write(half)
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT username FROM users WHERE id = 1").scalar() == "ada"


@pytest.fixture
def locked(store: Store) -> Generator[sqlite3.Connection]:
    """Another program that holds the write lock."""
    lock = sqlite3.connect(store.path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    yield lock
    lock.close()


async def test_while_the_database_is_locked_nothing_new_is_taken_and_nothing_finished_is_lost(
    store: Store, clock: FixedClock, locked: sqlite3.Connection
) -> None:
    refused = store.admit(intent(clock))
    finished = store.finish(outcome(clock), admitted=True)
    new = store.finish(outcome(clock), admitted=False)
    while store._writer._inbox:  # noqa: ASYNC110 - the writer has no event for it
        await asyncio.sleep(0.001)
    with pytest.raises(StorageUnavailable, match="locked"):  # while the writer still tries, and knows of no trouble
        await asyncio.wait_for(store.admit(intent(clock)), 8)
    with pytest.raises(StorageUnavailable, match="locked"):
        await refused
    with pytest.raises(StorageUnavailable, match="locked"):
        await new  # whose row is written all the same
    assert "locked" in (store.trouble or "")
    with pytest.raises(StorageUnavailable):
        store.admit(intent(clock))
    assert not finished.done()
    locked.execute("ROLLBACK")
    assert await asyncio.wait_for(finished, 10) == 1
    assert store.trouble is None
    assert (count(store, "inflight"), count(store, "llm_metrics")) == (0, 2)


async def test_an_in_flight_row_says_everything_of_its_request(store: Store, clock: FixedClock) -> None:
    who = {"api_key_id": 31, "project_id": 32, "end_user": "eve", "client_request_id": "client-1"}
    how = {"stream": True, "upstream": "ollama", "price_id": 7, "prompt_estimate": 9, "requested_model": "llama"}
    of = Intent(IDS.new(), 1, "llama3", "/api/chat", clock.now(), **who, **how)  # pyright: ignore[reportArgumentType]
    await store.admit(of)
    with store.read() as connection:
        (left,) = ledger.interrupted(connection, [store.slot])
    assert left.intent == of


async def test_what_one_turn_of_the_event_loop_hands_over_is_one_batch(store: Store, clock: FixedClock) -> None:
    written: list[int] = []
    commit = store._writer._commit  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]

    def counting(connection: Connection, batch: Sequence[object]) -> object:
        written.append(len(batch))
        return commit(connection, batch)  # pyright: ignore[reportUnknownVariableType]

    store._writer._commit = counting  # pyright: ignore[reportAttributeAccessIssue]
    await asyncio.gather(*(store.finish(outcome(clock), admitted=False) for _ in range(50)))
    assert written == [50]


def test_what_a_dead_writer_left_is_recorded_as_interrupted_once(
    store: Store, clock: FixedClock, tmp_path: Path
) -> None:
    script = (
        "import asyncio, os, sys\n"
        "from datetime import UTC, datetime\n"
        "from gemmapy.core.records import Intent\n"
        "from gemmapy.storage.store import Store\n"
        "async def main():\n"
        "    store = Store.open(sys.argv[1])\n"
        "    for n in range(3):\n"
        "        await store.admit(Intent(bytes([n]) * 16, 1, 'llama3', '/x', datetime.now(UTC), prompt_estimate=9))\n"
        "    os._exit(9)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script, str(store.data_dir)], check=False, timeout=30)
    assert (count(store, "inflight"), count(store, "llm_metrics")) == (3, 0)
    assert store.recover() == 3
    assert store.recover() == 0
    assert (count(store, "inflight"), count(store, "llm_metrics")) == (0, 3)
    with store.read() as connection:
        row = connection.exec_driver_sql("SELECT * FROM llm_metrics").mappings().first()
    assert row is not None
    assert (row["error_code"], row["error"], row["status"], row["estimated"]) == ("interrupted", 1, 0, 1)
    assert (row["prompt_tokens"], row["response_tokens"], row["duration_ms"], row["cost_nusd"]) == (9, None, None, None)


async def test_what_a_living_writer_has_in_flight_is_left_alone(store: Store, clock: FixedClock) -> None:
    await store.admit(intent(clock))
    with Store.open(store.data_dir, clock) as other:
        assert other.recover() == 0
    assert count(store, "inflight") == 1


def test_closing_writes_what_is_waiting(tmp_path: Path, clock: FixedClock) -> None:
    store = Store.open(tmp_path / "d", clock)
    for _ in range(100):
        store.finish_unwatched(outcome(clock), admitted=False)
    store.close()
    with Store.open(tmp_path / "d", clock) as again:
        assert count(again, "llm_metrics") == 100
    with pytest.raises(StorageUnavailable, match="closed"):
        store.record(outcome(clock))


def test_a_call_that_its_caller_gave_up_does_not_happen_later(
    store: Store, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemmapy.storage.store.WRITE_TIMEOUT_S", 0.1)
    with pytest.raises(StorageUnavailable):
        store.write(lambda c: c.exec_driver_sql("UPDATE users SET username = 'late' WHERE id = 1"))
    locked.execute("ROLLBACK")
    with contextlib.suppress(StorageUnavailable):  # it may not have noticed yet
        store.write(lambda _c: None)
    time.sleep(0.5)
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT username FROM users WHERE id = 1").scalar() == "ada"


def test_times_survive_to_the_millisecond(clock: FixedClock) -> None:
    moment = clock.now().replace(microsecond=123_000)
    assert time_text(moment) == "2026-11-24 10:00:00.123"
    assert parse_time(time_text(moment)) == moment
    assert parse_time("2026-11-24 10:00:00") == clock.now()


# Opening and upgrading


def test_a_data_folder_is_for_its_owner_only(store: Store) -> None:
    assert store.data_dir.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Store.open(tmp_path / "file" / "data")


def test_head_is_the_newest_migration() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


def test_data_of_a_newer_release_are_left_alone(store: Store) -> None:
    store.write(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(ConfigurationError, match="newer release"):
        Store.open(store.data_dir)


def test_two_processes_that_open_a_new_folder_at_once_both_get_it(tmp_path: Path) -> None:
    opened: list[Store] = []
    errors: list[BaseException] = []

    def open_one() -> None:
        try:
            opened.append(Store.open(tmp_path / "d"))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test fails with it
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in opened:
        one.close()
    assert errors == []


def test_a_backup_is_whole_or_not_there(store: Store, clock: FixedClock, tmp_path: Path) -> None:
    store.record(outcome(clock))
    target = tmp_path / "copy.db"
    migrate.copy_database(store.path, target)
    engine = create_engine(f"sqlite:///{target}")
    assert "llm_metrics" in inspect(engine).get_table_names()
    engine.dispose()
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == ["copy.db"]
    with pytest.raises(FileExistsError):
        migrate.copy_database(store.path, target)
