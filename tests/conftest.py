"""What tests share: a scripted upstream, and a gateway in front of it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support import quick
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream

quick.install()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts servers, models or browsers is slow by its folder, so that nobody has to remember to say so."""
    for item in items:
        if {"end_to_end", "crash"} & set(item.path.parts):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def ollama() -> Generator[ScriptedUpstream]:
    """An upstream that is an Ollama with the model llama3, and says what the test tells it."""
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
def running(tmp_path: Path, ollama: ScriptedUpstream) -> Generator[RunningGateway]:
    """A gateway in front of `ollama`, to which it speaks both dialects."""
    with gateway(tmp_path / "data", f"ollama={ollama.url}") as started:
        yield started


@pytest.fixture
def over_openai(tmp_path: Path, ollama: ScriptedUpstream) -> Generator[RunningGateway]:
    """A gateway to which the same upstream is a server that speaks OpenAI's dialect only."""
    with gateway(tmp_path / "data", f"vllm:openai={ollama.url}/v1") as started:
        yield started
