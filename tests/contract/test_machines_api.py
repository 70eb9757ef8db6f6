"""One's own hardware over HTTP: described, priced, and what it cost, with requests through a real gateway."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole

MACHINES = "/api/admin/machines"
MACHINE = {
    "name": "box",
    "upstreams": ["ollama"],
    "watts_busy": 360,
    "watts_idle": 36,
    "kwh_cost": 0.25,
    "purchase_cost": "3155.76",
    "lifetime_years": 4,
    "parallel": 2,
}
COMPUTE = (360 / 3.6e6 * 0.25 + 3155.76 / (4 * 365.25 * 86_400)) / 2


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("machines")
    with ScriptedUpstream("llama3") as upstream, gateway(folder / "d", f"ollama={upstream.url}") as running:
        counts = {"prompt_eval_count": 1000, "eval_count": 500}
        times = {"prompt_eval_duration": 1_500_000_000, "eval_duration": 6_500_000_000}
        upstream.on("/api/generate", whole({"response": "Hi", "done": True, **counts, **times}))
        yield running


def test_a_machine_is_described_priced_and_its_requests_cost_their_seconds(api: RunningGateway) -> None:
    since = datetime.now(UTC) - timedelta(days=1)
    added = api.post(MACHINES, {**MACHINE, "effective_at": since.isoformat()})
    assert added.status == 201
    number = added.json["id"]
    (listed,) = api.get(MACHINES).json["machines"]
    assert (listed["id"], listed["in_force"], listed["entered_by"]) == (number, True, "admin")
    assert listed["compute_cost"] == pytest.approx(COMPUTE, abs=1e-9)

    priced = api.post(f"{MACHINES}/{number}/price", {"model": "llama3"})
    assert priced.status == 201
    assert "machine box, record" in priced.json["source"]
    answer = api.post("/api/ollama/generate", {"model": "llama3", "prompt": "x"}).json
    assert answer["cost"] == pytest.approx(8 * COMPUTE, abs=1e-8)
    story = api.get(f"/api/metrics/requests/{answer['metric_id']}").json
    assert (story["prompt_cost"], story["response_cost"], story["other_cost"]) == (0, 0, answer["cost"])
    assert story["price"]["source"] == priced.json["source"]

    said = api.get(f"{MACHINES}/{number}/cost?days=30").json
    assert (said["requests"], said["compute_seconds"], said["busy_seconds"]) == (1, 8, 4)
    assert said["wall_seconds"] == pytest.approx(86_400, abs=60)  # not thirty days: it is one day old
    assert said["stamped_cost"] == answer["cost"]
    assert said["busy_cost"] == pytest.approx(answer["cost"], abs=1e-8)
    assert said["total_cost"] == pytest.approx(said["energy_cost"] + said["amortisation"])
    assert said["cost_per_million_tokens"] == pytest.approx(said["total_cost"] / 1_500 * 1e6)
    (model,) = said["models"]
    assert model["input_cost_per_million"] == pytest.approx(1.5 * COMPUTE / 1_000 * 1e6)
    assert model["output_cost_per_million"] == pytest.approx(6.5 * COMPUTE / 500 * 1e6)


def test_new_figures_split_the_window_where_they_take_effect(api: RunningGateway) -> None:
    number = api.get(MACHINES).json["machines"][0]["id"]
    change = datetime.now(UTC) - timedelta(hours=6)
    newer = api.post(MACHINES, {**MACHINE, "kwh_cost": 0.5, "effective_at": change.isoformat()}).json["id"]
    said = api.get(f"{MACHINES}/{number}/cost?days=1").json
    assert [period["record"] for period in said["periods"]] == [number, newer]
    assert [period["energy_cost_per_kwh"] for period in said["periods"]] == [0.25, 0.5]
    start = (change + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert len(api.get(f"{MACHINES}/{newer}/cost?from={start}").json["periods"]) == 1


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"watts_busy": -1}, 400, "watts_busy"),
        ({"watts_idle": 400}, 400, "at most watts_busy"),
        ({"parallel": 0}, 400, "parallel"),
        ({"parallel": True}, 400, "parallel"),
        ({"lifetime_years": 0}, 400, "lifetime_years"),
        ({"kwh_cost": None}, 400, "kwh_cost"),
        ({"effective_at": "2026-01-01T00:00:00"}, 400, "effective_at"),
        ({"upstreams": "ollama"}, 400, "upstreams"),
        ({"color": "red"}, 400, "there is no such field"),
        ({"name": "other"}, 409, "is the upstream 'ollama'"),
    ],
)
def test_a_machine_that_makes_no_sense_is_refused(
    api: RunningGateway, change: dict[str, Any], status: int, says: str
) -> None:
    answer = api.post(MACHINES, {**MACHINE, **change})
    assert answer.status == status
    assert says in answer.json["error"]


def test_hardware_is_for_admins_and_what_is_not_there_is_404(api: RunningGateway) -> None:
    api.post("/api/admin/users", {"username": "eve", "password": "a long password"})
    token = api.post("/api/login", {"username": "eve", "password": "a long password"}, key=None).json["token"]
    assert api.get(MACHINES, key=token).status == 403
    assert api.post(MACHINES, MACHINE, key=token).status == 403
    assert api.get(f"{MACHINES}/1/cost", key=token).status == 403
    assert api.post(f"{MACHINES}/1/price", {"model": "llama3"}, key=token).status == 403
    assert api.get(f"{MACHINES}/999/cost").status == 404
    assert api.post(f"{MACHINES}/999/price", {"model": "llama3"}).status == 404
    for bad in (
        "days=0",
        "to=2026-01-01T00:00:00Z",
        "from=yesterday",
        "from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z",
    ):
        assert api.get(f"{MACHINES}/1/cost?{bad}").status == 400, bad
