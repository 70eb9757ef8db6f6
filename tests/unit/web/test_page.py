"""The page's files: what is vendored is what npm holds, and nothing is written that the content policy would refuse."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

import gemmapy

WEB = Path(gemmapy.__file__).parent / "web"
VENDOR = WEB / "vendor"
PACKAGES = sorted(path.name for path in VENDOR.iterdir() if path.is_dir())
OWN = sorted(path for path in WEB.rglob("*.js") if VENDOR not in path.parents)
IMPORT = re.compile(r"""(?:^(?:import|export)\b[^;]*?\sfrom\s+|\bimport\()["']([^"']+)["']""", re.MULTILINE)

REFUSED = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", 'style="')


def listed() -> dict[str, str]:
    lines = (VENDOR / "checksums.sha256").read_text("utf-8").splitlines()
    pairs = [line.split() for line in lines if not line.startswith("#")]
    return {name: digest for digest, name in pairs}


def test_vendored_files_are_the_packages_own() -> None:
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in PACKAGES
        for path in (VENDOR / folder).iterdir()
    }
    assert found == listed()


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_vendored_package_has_its_licence(folder: str) -> None:
    assert (VENDOR / folder / "LICENSE").stat().st_size > 500


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.relative_to(WEB).as_posix())
def test_module_says_what_it_is_for_and_imports_what_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("// "), "a module begins with a comment that says what it is for"
    for wanted in IMPORT.findall(text):
        assert wanted.startswith("."), f"{wanted} is no relative path"
        assert (path.parent / wanted).resolve().is_file(), f"{wanted} does not exist"


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.relative_to(WEB).as_posix())
def test_module_escapes_by_construction_and_names_no_other_origin(path: Path) -> None:
    text = path.read_text("utf-8")
    for refused in REFUSED:
        assert refused not in text
    addresses = set(re.findall(r"https?://[\w.-]+", text)) - {"http://www.w3.org", "http://localhost"}
    assert not addresses


def test_the_entry_page_has_nothing_inline() -> None:
    text = (WEB / "index.html").read_text("utf-8")
    assert "{{web}}/main.js" in text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert "<style" not in text
    assert "style=" not in text
    assert " on" not in re.sub(r"<title>.*?</title>|<noscript>.*?</noscript>", "", text)


def reached(path: Path, seen: set[Path]) -> set[Path]:
    """The module and all that it imports before it runs."""
    if path not in seen:
        seen.add(path)
        for wanted in re.findall(
            r"""^(?:import|export)\b[^;]*?\sfrom\s+["']([^"']+)["']""", path.read_text(), re.MULTILINE
        ):
            reached((path.parent / wanted).resolve(), seen)
    return seen


def test_the_entry_page_names_the_modules_of_the_first_view_so_that_none_waits_for_another() -> None:
    named = re.findall(r'rel="modulepreload" href="{{web}}/([^"]+)"', (WEB / "index.html").read_text("utf-8"))
    needed = reached(WEB / "pages" / "overview.js", reached(WEB / "main.js", set())) - {WEB / "main.js"}
    assert sorted(named) == sorted(path.relative_to(WEB).as_posix() for path in needed)


def test_all_of_it_compressed_is_under_400_kb() -> None:
    files = [path for path in WEB.rglob("*") if path.is_file() and "swagger-ui" not in path.parts]
    sent = [path for path in files if path.suffix in {".js", ".css", ".html", ".svg"}]
    assert sum(len(gzip.compress(path.read_bytes())) for path in sent) < 400_000
