"""Answers on disk: what a restart does not forget, what it must, and that none is unless the operator says so."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, ndjson, whole

ASK: dict[str, Any] = {"model": "llama3", "prompt": "What is my secret?", "temperature": 0}
ANSWER = {
    "model": "llama3",
    "response": "Rosebud and rosebud.",
    "done": True,
    "prompt_eval_count": 26,
    "eval_count": 298,
}
COST_USD = (26 * 150 + 298 * 300) / 1e9


@pytest.fixture
def start(tmp_path: Path, ollama: ScriptedUpstream) -> Callable[..., Any]:
    """Starts a gateway on one data folder, again and again."""
    ollama.on("/api/generate", whole(ANSWER))

    def started(**settings: Any) -> Any:
        return gateway(tmp_path / "data", f"ollama={ollama.url}", **{"cache_disk_mb": 8, **settings})

    return started


def _key(running: RunningGateway) -> str:
    """A key of the admin's: the first one is known to the first start alone."""
    token = running.post("/api/login", {"username": "admin", "password": PASSWORD}, key=None).json["token"]
    running.key = running.post("/api/keys", {"name": "again"}, key=token).json["key"]
    return running.key


def _all_files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_unless_the_operator_says_so_nothing_of_an_answer_is_on_disk(tmp_path: Path, start: Callable[..., Any]) -> None:
    with start(cache_disk_mb=0) as running:
        assert running.post("/api/ollama/generate", ASK).json["cached"] is False
        assert running.post("/api/ollama/generate", ASK).json["cached"] is True
        assert running.get("/api/cache/stats").json["stored"] is None
    assert not (tmp_path / "data" / "answers.db").exists()
    assert b"osebud" not in _all_files(tmp_path / "data")
    assert b"my secret" not in _all_files(tmp_path / "data")


def test_what_was_kept_is_given_after_a_restart_and_costs_nothing(
    tmp_path: Path, start: Callable[..., Any], ollama: ScriptedUpstream
) -> None:
    with start() as running:
        running.post("/api/ollama/generate", ASK)
    assert b"my secret" not in _all_files(tmp_path / "data"), "of a question, only its hash"
    with start() as running:
        _key(running)
        answer = running.post("/api/ollama/generate", ASK)
        assert (answer.json["cached"], answer.json["cost"], answer.json["response"]) == (True, 0, ANSWER["response"])
        assert answer.headers["X-GemmaPy-Cache"] == "hit"
        streamed = running.post("/api/ollama/generate/stream", ASK).lines
        assert "".join(line["response"] for line in streamed) == ANSWER["response"]
        row = running.rows()[1]
        assert (row["cached"], row["cost_nusd"], row["attempts"]) == (1, 0, 0)
        assert row["saved_nusd"] == pytest.approx(COST_USD * 1e9)
        stats = running.get("/api/cache/stats").json
        assert (stats["stored"]["entries"], stats["stored"]["hits"], stats["hits"]) == (1, 1, 2)
        assert stats["by_model"][0]["stored_entries"] == 1
    assert len(ollama.asked("/api/generate")) == 1


def test_after_a_restart_another_person_and_other_weights_get_nothing_of_it(
    start: Callable[..., Any], ollama: ScriptedUpstream
) -> None:
    with start() as running:
        running.post("/api/ollama/generate", ASK)
    with start() as running:
        _key(running)
        user = running.post("/api/admin/users", {"username": "eve", "password": PASSWORD}).json["id"]
        eve = running.post(f"/api/admin/users/{user}/keys", {"name": "k"}).json["key"]
        assert running.post("/api/ollama/generate", ASK, key=eve).json["cached"] is False
    ollama.on("/api/tags", whole({"models": [{"name": "llama3", "model": "llama3", "size": 1, "digest": "another"}]}))
    with start() as running:
        _key(running)
        assert running.post("/api/ollama/generate", ASK).json["cached"] is False


def test_what_is_cleared_is_gone_from_the_disk_and_after_a_restart(tmp_path: Path, start: Callable[..., Any]) -> None:
    lines = ({"model": "llama3", "response": f"{n} rosebud ", "done": False} for n in range(2_000))
    with ScriptedUpstream("mistral") as other, start() as running:
        other.on("/api/generate", ndjson(*lines, {**ANSWER, "response": ""}))
        running.post("/api/ollama/generate", ASK)
        running.post("/api/ollama/generate/stream", {**ASK, "prompt": "more"})
        assert running.post("/api/cache/clear", {"pattern": "llama*"}).json["removed"] == 2
        assert running.get("/api/cache/stats").json["stored"]["entries"] == 0
    with start() as running:
        _key(running)
        assert running.post("/api/ollama/generate", ASK).json["cached"] is False


def test_what_is_too_old_is_not_given_after_a_restart(start: Callable[..., Any]) -> None:
    with start() as running:
        running.post("/api/ollama/generate", ASK)
    with start(cache_ttl_s=0.001) as running:
        _key(running)
        assert running.post("/api/ollama/generate", ASK).json["cached"] is False


def test_turned_off_again_it_deletes_what_there_was(tmp_path: Path, start: Callable[..., Any]) -> None:
    with start() as running:
        running.post("/api/ollama/generate", ASK)
    assert (tmp_path / "data" / "answers.db").exists()
    with start(cache_disk_mb=0):
        assert not (tmp_path / "data" / "answers.db").exists()


def test_a_person_who_is_deleted_takes_their_answers_along(start: Callable[..., Any]) -> None:
    with start() as running:
        user = running.post("/api/admin/users", {"username": "eve", "password": PASSWORD}).json["id"]
        eve = running.post(f"/api/admin/users/{user}/keys", {"name": "k"}).json["key"]
        running.post("/api/ollama/generate", ASK)
        running.post("/api/ollama/generate", ASK, key=eve)
        stored = lambda: running.get("/api/cache/stats").json["stored"]["entries"]  # noqa: E731
        _until(lambda: stored() == 2)
        assert running.request("DELETE", f"/api/admin/users/{user}").status == 200
        _until(lambda: stored() == 1)


def test_a_damaged_file_is_a_miss_and_no_error(tmp_path: Path, start: Callable[..., Any]) -> None:
    with start() as running:
        running.post("/api/ollama/generate", ASK)
    path = tmp_path / "data" / "answers.db"
    path.write_bytes(b"\xa5" * path.stat().st_size)
    with start() as running:
        _key(running)
        assert running.post("/api/ollama/generate", ASK).json["cached"] is False
        assert running.post("/api/ollama/generate", ASK).json["cached"] is True
        _until(lambda: running.get("/api/cache/stats").json["stored"]["trouble"] is None)
    with start() as running:
        _key(running)
        assert running.post("/api/ollama/generate", ASK).json["cached"] is True


def test_an_answer_from_the_disk_takes_hardly_longer_than_one_from_memory(start: Callable[..., Any]) -> None:
    with start() as running:
        for number in range(40):
            running.post("/api/ollama/generate", {**ASK, "prompt": f"{number}"})
    with start() as running:
        _key(running)
        running.post("/api/ollama/generate", ASK)
        took: list[list[float]] = [[], []]
        for number in range(40):
            for place in (0, 1):  # from the disk, then from memory; side by side, since other work goes on here
                began = time.perf_counter()
                answer = running.post("/api/ollama/generate", {**ASK, "prompt": f"{number}"})
                took[place].append((time.perf_counter() - began) * 1000)
                assert answer.json["cached"] is True
        assert running.get("/api/cache/stats").json["stored"]["hits"] == 40
        disk, memory = (statistics.median(one) for one in took)
        assert disk < memory + 5


def _until(holds: Callable[[], bool]) -> None:
    """What is put on disk is put there by a thread that nobody waits for."""
    pause = threading.Event()
    for _ in range(500):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError("not within ten seconds")
