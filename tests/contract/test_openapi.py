"""The API against its own description: whatever is sent, the answer is one that OpenAPI names, and never a 500.

Every operation, with requests that fit its description and with such that do not, as an admin and as a user.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
WITHOUT_END = "/api/live"


@pytest.fixture
def described(tmp_path: Path) -> Generator[RunningGateway]:
    with ScriptedUpstream() as upstream, gateway(tmp_path / "data", f"ollama={upstream.url}") as running:
        said = {"done": True, "eval_count": 1, "prompt_eval_count": 1}
        for path, answer in (
            ("/api/show", {"details": {}}),
            ("/api/ps", {"models": []}),
            ("/api/generate", {"response": "x", **said}),
            ("/api/chat", {"message": {"content": "x"}, **said}),
            ("/api/embed", {"embeddings": [[1.0]]}),
            ("/api/embeddings", {"embedding": [1.0]}),
            ("/v1/chat/completions", {"choices": [{"message": {"content": "x"}}], "usage": {}}),
            ("/v1/completions", {"choices": [{"text": "x"}], "usage": {}}),
            ("/v1/embeddings", {"data": [], "usage": {}}),
            *((f"/api/{name}", {"status": "success"}) for name in ("pull", "push", "create", "copy", "delete")),
        ):
            upstream.on(path, whole(answer))
        yield running


def user_of(running: RunningGateway) -> str:
    """A login token of somebody who is no admin."""
    running.post("/api/admin/users", {"username": "somebody", "password": PASSWORD})
    return running.post("/api/login", {"username": "somebody", "password": PASSWORD}, key=None).json["token"]


@pytest.mark.parametrize("who", ["admin", "user"])
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
def test_every_answer_is_one_that_is_described(described: RunningGateway, who: str, mode: GenerationMode) -> None:
    key = described.key if who == "admin" else user_of(described)
    loaded = schemathesis.openapi.from_url(f"{described.url}/openapi.json").exclude(path=WITHOUT_END)
    tried = 0
    for found in loaded.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=12 if who == "admin" else 4,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            phases=[Phase.generate, Phase.shrink],
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def is_described(case: Any) -> None:
            deletes = case.method == "DELETE" and case.path == "/api/admin/users/{user_id}"
            if deletes and str(case.path_parameters.get("user_id")) == "1":
                return  # the one who asks
            answer = case.call(headers={"Authorization": f"Bearer {key}"})
            case.validate_response(answer, checks=CHECKS)

        try:
            is_described()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # it takes nothing that could be unfitting
            continue
        tried += 1
    assert tried > (70 if mode is GenerationMode.NEGATIVE else 85)
    assert described.services.store.trouble is None
