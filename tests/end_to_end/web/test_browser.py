"""The gateway's pages in a real browser: they load under their own content policies, and ask nobody else."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect
from tests.support.gateway import RunningGateway


def test_a_browser_is_shown_the_page(
    page: Page, running: RunningGateway, violations: Callable[[Page], list[str]]
) -> None:
    answer = page.goto(running.url + "/")
    assert answer is not None
    assert answer.status == 200
    expect(page.get_by_label("Password")).to_be_visible()
    assert violations(page) == []


def test_the_reference_works_under_its_own_policy(page: Page, running: RunningGateway) -> None:
    page.goto(running.url + "/docs")
    expect(page.get_by_text("/api/metrics/dashboard", exact=True)).to_be_visible()
