"""The API against its own description: whatever is sent, the answer is one that OpenAPI names, and never a 500."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("openapi")
    with ScriptedUpstream() as upstream, gateway(folder / "data", f"ollama={upstream.url}") as running:
        upstream.on("/api/show", whole({"details": {}}))
        upstream.on("/api/ps", whole({"models": []}))
        yield running


@pytest.mark.timeout(300)
def test_every_answer_is_one_that_is_described(described: RunningGateway) -> None:
    loaded = schemathesis.openapi.from_url(f"{described.url}/openapi.json")
    # Deleting oneself, and what is Ollama's to answer, say nothing about this API.
    chosen = loaded.exclude(path_regex="^/api/(blobs|pull|push|create|copy|delete|show)").exclude(
        path_regex="users/.user_id.|keys/.key_id.", method=["PATCH", "DELETE"]
    )
    chosen = chosen.exclude(path="/api/live")  # a stream without an end
    tried = 0
    for found in chosen.get_all_operations():
        operation = found.ok()
        tried += 1

        @settings(
            max_examples=15,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            database=None,
        )
        @given(case=operation.as_strategy())
        def is_described(case: Any) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {described.key}"})
            case.validate_response(
                answer, checks=[not_a_server_error, status_code_conformance, response_schema_conformance]
            )

        is_described()
    assert tried > 30
