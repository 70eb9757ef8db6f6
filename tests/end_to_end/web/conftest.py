"""A real Chromium for the page's tests, and what every test of the page checks without asking for it.

The browser is started once a file, since each start costs a second or two. Playwright's own loop stands in this thread
for as long as it is open, so no asynchronous test may share a file with these.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, expect, sync_playwright

AXE = Path(__file__).parents[1] / "javascript" / "node_modules" / "axe-core" / "axe.min.js"
expect.set_options(timeout=15_000)
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """Debian's Chromium, headless, that asks nobody for anything by itself."""
    path = shutil.which("chromium")
    assert path is not None, "these tests need chromium: scripts/setup test"
    as_root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=[*QUIET, *as_root])
        try:
            yield started
        finally:
            started.close()


class Watch:
    """What the browser did and suffered: console errors and uncaught exceptions, requests, answers' statuses.

    A test that provokes an error takes it off its list with `expected`.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.statuses: list[tuple[int, str]] = []
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))
        context.on("request", self._on_request)
        context.on("response", self._on_response)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _on_response(self, response: Response) -> None:
        self.statuses.append((response.status, response.url))

    @property
    def origins(self) -> set[str]:
        """The origins that were asked for something, `data:` and `blob:` left out."""
        split = [urlsplit(url) for url in self.asked]
        return {f"{url.scheme}://{url.netloc}" for url in split if url.scheme not in ("data", "blob", "about")}

    def expected(self, *parts: str) -> None:
        """Takes off the errors that hold one of `parts`; fails where there was none such."""
        found = [error for error in self.errors if any(part in error for part in parts)]
        assert found, (parts, self.errors)
        self.errors = [error for error in self.errors if error not in found]


@pytest.fixture
def watch(context: BrowserContext) -> Watch:
    return Watch(context)


@pytest.fixture
def context(browser: Browser) -> Generator[BrowserContext]:
    """Cookies and storage of the test's own. Time zone and language are set, so that machines agree."""
    made = browser.new_context(locale="en-US", timezone_id="Europe/Berlin", viewport={"width": 1280, "height": 900})
    made.set_default_timeout(20_000)  # patience costs nothing where nothing is slow
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def page(context: BrowserContext, watch: Watch) -> Generator[Page]:
    """An empty page. At the test's end, it has had no error, and asked one origin at most."""
    opened = context.new_page()
    yield opened
    assert watch.errors == []
    assert len(watch.origins) <= 1, watch.origins


@pytest.fixture
def violations() -> Callable[..., list[str]]:
    """What axe finds wrong with a page as it stands (WCAG 2.2 A and AA), each with where; or only within a selector."""

    def look(page: Page, within: str = "html") -> list[str]:
        # Evaluated by the debugger, not put into the page, so that its Content-Security-Policy may be as strict as it
        # is.
        page.evaluate(AXE.read_text())
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
        run = "([within, tags]) => axe.run(document.querySelector(within), {runOnly: tags})"
        found: Any = page.evaluate(run, [within, tags])
        return [
            f"{violation['id']}: {violation['help']} ({', '.join(str(node['target']) for node in violation['nodes'])})"
            for violation in found["violations"]
        ]

    return look
