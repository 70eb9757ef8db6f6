"""The pictures of the README and the guide, taken from the page itself: `make screenshots`.

A gateway with a made-up team's weeks, Debian's Chromium, and a fixed size for each picture. They are WebP, which the
browser writes itself and which is a third of PNG's size.
"""

from __future__ import annotations

import base64
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support import team
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 375, "height": 780}


def shots(newest: int) -> list[tuple[str, str, dict[str, int], Any]]:
    """Name, place in the page, size, theme."""
    return [
        ("overview-light", "overview?range=30d", DESKTOP, "light"),
        ("overview-dark", "overview?range=30d", DESKTOP, "dark"),
        ("costs", "costs?range=30d", {"width": 1280, "height": 1120}, "light"),
        ("story", f"requests/{newest}?range=30d", DESKTOP, "light"),
        ("patterns", "patterns?range=30d", {"width": 1280, "height": 900}, "light"),
        ("phone", "overview?range=30d", PHONE, "dark"),
    ]


def take(browser: Browser, served: RunningGateway, name: str, place: str, size: dict[str, int], theme: Any) -> None:
    context = browser.new_context(
        viewport=size,  # pyright: ignore[reportArgumentType]
        color_scheme=theme,
        locale="en-US",
        timezone_id="Europe/Berlin",
        reduced_motion="reduce",
        device_scale_factor=2 if size is PHONE else 1.5,
    )
    context.request.post(f"{served.url}/api/session", data={"username": "admin", "password": PASSWORD})
    context.add_init_script("if (location.protocol === 'http:') localStorage.setItem('gemmapy.signed-in', '1')")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{served.url}/#/{place}")
    page.locator("h1").first.wait_for()
    page.locator(".skeleton, [aria-busy=true]").first.wait_for(state="detached")
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(800)
    write(page, IMAGES / f"{name}.webp")
    context.close()


def write(page: Page, path: Path) -> None:
    session = page.context.new_cdp_session(page)
    answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": 88})
    path.write_bytes(base64.b64decode(answer["data"]))
    sys.stdout.write(f"docs/images/{path.name}: {path.stat().st_size / 1000:.0f} kB\n")


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("This needs chromium: scripts/setup test")
    IMAGES.mkdir(exist_ok=True)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedUpstream(*team.MODELS) as upstream,
        gateway(Path(folder) / "data", f"ollama={upstream.url}") as served,
        sync_playwright() as playwright,
    ):
        team.fill(served.store, datetime.now(UTC), requests=6000, days=75, owner=1)
        newest = next(row["id"] for row in reversed(served.rows()) if row["load_ms"] and not row["error"])
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for shot in shots(newest):
            take(browser, served, *shot)
        browser.close()


if __name__ == "__main__":
    main()
