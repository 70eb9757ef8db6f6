"""The gateway's page in a real browser."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page
from tests.support.gateway import RunningGateway


def test_a_browser_is_shown_the_page(
    page: Page, running: RunningGateway, violations: Callable[[Page], list[str]]
) -> None:
    answer = page.goto(running.url + "/")
    assert answer is not None
    assert answer.status == 200
    assert page.title() == "GemmaPy"
    assert violations(page) == []
