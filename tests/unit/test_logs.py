"""Whatever looks like a credential is blanked before it is written."""

from __future__ import annotations

import io
import logging
import sys
from typing import Literal

import pytest
import structlog

from gemmapy import logs


@pytest.mark.parametrize(
    "secret",
    [
        "gp-" + "a" * 43,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ],
)
@pytest.mark.parametrize("around", ["{}", "/k/{}/api/chat", "Authorization: Bearer {}", "https://u:{}@h"])
def test_credentials_are_blanked(secret: str, around: str) -> None:
    assert secret not in logs.redact(around.format(secret))


def test_paths_and_headers_hide_any_key() -> None:
    assert logs.redact("GET /k/odd.key/api/tags") == "GET /k/[redacted]/api/tags"
    assert logs.redact("bearer sk-1234 x") == "bearer [redacted] x"


def test_a_traceback_is_redacted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("info", "json")
        try:
            raise ValueError("gp-" + "s" * 43)
        except ValueError:
            structlog.stdlib.get_logger().exception("failed", password="hunter2", note="key gp-" + "t" * 43)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.reset_defaults()
    said = written.getvalue()
    assert "Traceback" in said
    for secret in ("sssss", "ttttt", "hunter2"):
        assert secret not in said


@pytest.mark.parametrize("form", ["console", "json"])
def test_nothing_that_is_logged_looks_like_another_line_or_commands_a_terminal(
    monkeypatch: pytest.MonkeyPatch, form: Literal["console", "json"]
) -> None:
    nasty = "x\n2026-11-25T10:00:00Z [info     ] all is well\r\x1b[2J\u2028\x85\x00"
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("info", form)
        structlog.stdlib.get_logger().warning("a request failed", reason=nasty, path=nasty, inside={"name": [nasty]})
        logging.getLogger("library").warning("somebody said %s", nasty)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        structlog.reset_defaults()
    lines = written.getvalue().splitlines()  # by every character that ends a line
    assert len(lines) == 2
    assert not any(character in written.getvalue() for character in "\x00\x1b\r\x85\u2028")
