"""Imports point down: no module imports from a floor above its own (docs/design.md has the picture)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "gemmapy"
FLOORS = {
    "core": 0,
    "config": 0,
    "logs": 0,
    "pricing": 1,
    "metrics": 1,
    "storage": 2,
    "upstreams": 2,
    "metering": 3,
    "workers": 3,
    "gateway": 4,
    "rag": 5,
    "api": 6,
    "app": 7,
    "serving": 7,
    "processes": 7,
    "demo": 8,
    "cli": 8,
}
ROOM = "gemmapy."


def _floor(module: str) -> int | None:
    """The floor of `gemmapy.x.y`; None for the package itself, whose names are loaded only when asked for."""
    return FLOORS[module.removeprefix(ROOM).split(".")[0]] if module.startswith(ROOM) else None


def _modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"]


def _imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith(ROOM) and name != "gemmapy.__version__"}


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_floor_or_below(path: Path) -> None:
    module = ROOM + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    own = _floor(module)
    assert own is not None
    above = [name for name in _imports(ast.parse(path.read_text())) if (_floor(name) or 0) > own]
    assert not above, f"{module} (floor {own}) imports from above: {above}"


def test_every_folder_has_a_floor() -> None:
    rooms = {p.stem for p in PACKAGE.iterdir() if (p.is_dir() or p.suffix == ".py") and not p.name.startswith("__")}
    assert rooms - {"web"} <= set(FLOORS)
