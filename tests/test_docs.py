"""The documents say what is true: settings, commands, routes and the quickstart are compared or run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gemmapy.api import health, relayed
from gemmapy.api.application import ROUTERS
from gemmapy.cli.main import application
from gemmapy.config import Settings
from tests.support.gateway import gateway

ROOT = Path(__file__).parent.parent
DOCS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks/README.md",
]


def test_every_setting_is_documented_and_nothing_else() -> None:
    table = (ROOT / "docs/configuration.md").read_text().split("## Upstreams")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == set(Settings.model_fields)


def test_every_documented_default_is_the_default() -> None:
    for name, default in re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.M):
        actual = Settings.model_fields[name].default
        assert str(actual).removesuffix(".0") == default, name


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    app = application()
    names = [command.name for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        names += [f"{group.name} {command.name}" for command in group.typer_instance.registered_commands]
    for name in names:
        words = str(name).split()
        assert f"gemmapy {name}" in text or re.search(rf"gemmapy {words[0]} .*`{words[-1]}", text), name


def test_every_route_is_on_the_map() -> None:
    text = (ROOT / "docs/api.md").read_text().replace(":path}", "}")
    routes = {*relayed.paths(), *health.paths()}
    for router in ROUTERS:
        routes |= {route.path for route in router.routes}  # pyright: ignore
    for path in routes - {"/"}:
        short = path.replace(":path}", "}").removesuffix("/stream")
        assert f"`{short}`" in text or f" {short}`" in text, path


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)`", document.read_text())) <= targets


def _blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.M | re.S)


def test_python_in_the_documents_compiles() -> None:
    found = [block for document in DOCS for block in _blocks(document, "python")]
    assert found
    for block in found:
        compile(block, "document", "exec")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_quickstart_runs_as_it_stands(tmp_path: Path) -> None:
    quickstart = ROOT / "docs/quickstart.md"
    with gateway(tmp_path / "data", "llamacpp", model_context=1024) as running:
        environment = {**os.environ, "URL": running.url, "KEY": running.key, "MODEL": "smollm2:135m"}
        script = "set -eu\n" + "\necho\n".join(_blocks(quickstart, "sh"))
        ran = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=100)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        for block in _blocks(quickstart, "python"):
            ran = subprocess.run([sys.executable, "-c", block], env=environment, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr
        costs = running.get("/api/admin/costs/all").json
        assert [user["username"] for user in costs["users"]] == ["admin", "ada"]
        assert all(user["total_cost"] > 0 for user in costs["users"])


def test_every_test_that_security_names_is_there() -> None:
    named = re.findall(r"`((?:contract|end_to_end|unit|crash)/[\w/]+(?:\.py)?)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
