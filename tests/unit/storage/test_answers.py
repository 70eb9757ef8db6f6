"""Answers on disk: bounded, forgotten when told, and never more than a miss whatever becomes of the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy.storage.answers import AnswerFile, remove

MB = 1024 * 1024


def _key(number: int) -> bytes:
    return number.to_bytes(32)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def file(tmp_path: Path, clock: FixedClock) -> Generator[AnswerFile]:
    opened = AnswerFile(tmp_path, 4 * MB, 60, clock)
    yield opened
    opened.close()


def _found(file: AnswerFile, number: int) -> bytes | None:
    found = file.get(_key(number))
    return None if found is None else found.answer


def test_what_is_put_in_is_there_for_the_next_process_with_its_age(
    file: AnswerFile, tmp_path: Path, clock: FixedClock
) -> None:
    file.put(_key(1), "llama3", 1, b"Because.")
    file.close()
    clock.go_on(seconds=59)
    another = AnswerFile(tmp_path, 4 * MB, 60, clock)
    found = another.get(_key(1))
    assert found is not None
    assert (found.answer, found.age_s) == (b"Because.", 59)
    clock.go_on(seconds=1)
    assert another.get(_key(1)) is None
    assert another.clear_expired() == {_key(1)}
    another.close()
    assert tmp_path.joinpath("answers.db").stat().st_mode & 0o077 == 0


def test_two_processes_share_one_file(file: AnswerFile, tmp_path: Path, clock: FixedClock) -> None:
    another = AnswerFile(tmp_path, 4 * MB, 60, clock)
    file.put(_key(1), "llama3", 1, b"one")
    another.put(_key(2), "llama3", 1, b"two")
    assert (_found(file, 2), _found(another, 1)) == (b"two", b"one")
    assert another.clear() == {_key(1), _key(2)}
    assert _found(file, 1) is None
    another.close()


def test_a_clock_that_was_set_back_makes_no_answer_live_longer(file: AnswerFile, clock: FixedClock) -> None:
    file.put(_key(1), "llama3", 1, b"Because.")
    clock.go_on(seconds=-10)
    assert file.get(_key(1)) is None
    assert file.clear_expired() == {_key(1)}


def test_answers_are_cleared_by_model_and_by_person(file: AnswerFile) -> None:
    for number, (model, user_id) in enumerate([("llama3", 1), ("llama3", 2), ("mistral", 1)], 1):
        file.put(_key(number), model, user_id, b"x" * number)
    assert file.held() == {"llama3": (2, 3), "mistral": (1, 3)}
    assert file.keep_only({1, 7}) == {_key(2)}
    assert file.clear(lambda model: model.startswith("mi")) == {_key(3)}
    assert file.held() == {"llama3": (1, 1)}


def test_what_is_cleared_is_overwritten_and_its_space_given_back(file: AnswerFile, tmp_path: Path) -> None:
    for number in range(40):
        file.put(_key(number), "llama3", 1, b"a secret answer " * 4_000)
    file.clear()
    file.close()
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"a secret answer" not in left
    assert len(left) < 200_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 120_000), max_size=60))
def test_the_file_never_outgrows_its_limit_and_the_newest_stays(tmp_path: Path, sizes: list[int]) -> None:
    remove(tmp_path)
    clock = FixedClock()
    file = AnswerFile(tmp_path, MB, 3_600, clock)
    for number, size in enumerate(sizes):
        clock.go_on(seconds=1)
        file.put(_key(number), "llama3", 1, b"x" * size)
        assert _found(file, number) == b"x" * size
    file.close()
    if sizes:
        assert tmp_path.joinpath("answers.db").stat().st_size <= MB * 1.1


def test_those_used_longest_ago_make_room(file: AnswerFile, clock: FixedClock) -> None:
    for number in range(10):
        clock.go_on(seconds=1)
        file.put(_key(number), "llama3", 1, bytes(500_000), used=[_key(0)])
    assert _found(file, 0) is not None
    assert _found(file, 1) is None
    assert file.evictions > 0
    file.put(_key(10), "llama3", 1, bytes(600_000))  # more than an eighth of the file
    assert _found(file, 10) is None


@pytest.mark.parametrize("damage", ["garbage", "header", "middle", "gone", "empty"])
def test_a_damaged_file_is_a_miss_and_begun_anew(
    file: AnswerFile, tmp_path: Path, clock: FixedClock, damage: str
) -> None:
    for number in range(50):
        file.put(_key(number), "llama3", 1, b"x" * 10_000)
    file.close()
    path = tmp_path / "answers.db"
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        for begin, end in {"header": [(0, 100)], "middle": [(4096, len(data))], "garbage": [(0, len(data))]}.get(
            damage, [(0, 0)]
        ):
            data[begin:end] = b"\xa5" * (end - begin)
        path.write_bytes(data if damage != "empty" else b"")
    another = AnswerFile(tmp_path, 4 * MB, 60, clock)
    for number in range(50):
        assert another.get(_key(number)) is None
    another.put(_key(1), "llama3", 1, b"new")
    another.put(_key(2), "llama3", 1, b"new")
    assert _found(another, 2) == b"new"
    assert another.trouble is None
    another.close()


def test_a_file_of_another_release_is_begun_anew(file: AnswerFile, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "answers.db")) as connection:
        connection.execute("CREATE TABLE answers (something TEXT)")
        connection.execute("PRAGMA user_version=99")
        connection.commit()
    file.put(_key(1), "llama3", 1, b"new")
    assert _found(file, 1) == b"new"


def test_a_file_that_is_locked_or_full_is_a_miss_that_says_why_and_heals(
    file: AnswerFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemmapy.storage.engine.BUSY_TIMEOUT_MS", 10)
    file.put(_key(1), "llama3", 1, b"one")
    with closing(sqlite3.connect(tmp_path / "answers.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        file.put(_key(2), "llama3", 1, b"two")
        assert file.trouble is not None
        assert "locked" in file.trouble
        assert file.clear(lambda _model: True) is None
        assert _found(file, 1) == b"one"
        other.execute("ROLLBACK")
    file.put(_key(2), "llama3", 1, b"two")
    assert (_found(file, 2), file.trouble) == (b"two", None)


def test_a_folder_that_cannot_be_written_is_a_miss(tmp_path: Path, clock: FixedClock) -> None:
    file = AnswerFile(tmp_path / "nowhere", MB, 60, clock)
    file.put(_key(1), "llama3", 1, b"one")
    assert file.get(_key(1)) is None
    assert file.trouble is not None
    assert file.held() == {}
    assert not remove(tmp_path / "nowhere")
