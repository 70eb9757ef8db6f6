"""The pictures of the README and the guide, taken of `gemmapy demo`: `make screenshots`.

A made-up team's quarter with requests that go on, Debian's Chromium, and a fixed size for each picture. They are WebP,
which the browser writes itself and which is a third of PNG's size.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import APIRequestContext, Browser, Error, Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DEMO = Path(sys.executable).parent / "gemmapy"
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 375, "height": 780}
PATIENCE_MS = 60_000
SIGN_IN = re.compile(r"Sign in as (\S+) .* with (\S+)")


@contextmanager
def demo() -> Generator[tuple[str, dict[str, str]]]:
    """A running demo: its address, and with what its admin signs in."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [DEMO, "demo", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            told = next((found for line in process.stdout if (found := SIGN_IN.search(line))), None)
            if told is None:
                sys.exit("The demo did not start; gemmapy demo says why.")
            yield f"http://127.0.0.1:{port}", {"username": told[1], "password": told[2]}
        finally:
            process.terminate()


def telling(request: APIRequestContext, url: str) -> str:
    """The newest request whose story has every part: a model that was loaded, a price, no error."""
    newest = request.get(f"{url}/api/metrics/requests?limit=300").json()["requests"]
    for entry in newest:
        story = request.get(f"{url}/api/metrics/requests/{entry['id']}").json()
        if (story["load_ms"] or 0) > 500 and story["cost"] and story["prompt_ms"] and not story["error"]:
            return story["request_id"]
    return newest[0]["request_id"]


def shots(story: str) -> list[tuple[str, str, dict[str, int], Any]]:
    """Name, place in the page, size, theme."""
    return [
        ("overview-light", "overview?range=30d", DESKTOP, "light"),
        ("overview-dark", "overview?range=30d", DESKTOP, "dark"),
        ("costs", "costs?range=30d", {"width": 1280, "height": 1120}, "light"),
        ("story", f"requests/{story}?range=30d", DESKTOP, "light"),
        ("patterns", "patterns?range=30d", {"width": 1280, "height": 900}, "light"),
        ("documents", "documents", {"width": 1280, "height": 720}, "light"),
        ("phone", "overview?range=30d", PHONE, "dark"),
    ]


def take(browser: Browser, url: str, who: dict[str, str]) -> None:
    context = browser.new_context()
    wait_for(context.request, url)
    session = context.request.post(f"{url}/api/session", data=who)
    fill_library(context.request, url, session.json()["csrf"])
    story = telling(context.request, url)
    context.close()
    for name, place, size, theme in shots(story):
        context = browser.new_context(
            viewport=size,  # pyright: ignore[reportArgumentType]
            color_scheme=theme,
            locale="en-US",
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
            device_scale_factor=2 if size is PHONE else 1.5,
        )
        context.set_default_timeout(PATIENCE_MS)
        context.request.post(f"{url}/api/session", data=who)
        context.add_init_script("if (location.protocol === 'http:') localStorage.setItem('gemmapy.signed-in', '1')")
        page = context.new_page()
        page.goto(f"{url}/#/{place}")
        page.locator("h1").first.wait_for()
        page.locator(".skeleton").first.wait_for(state="detached")
        if name == "documents":
            page.get_by_label("Question").fill("How much leave do I have, and when does it lapse?")
            page.get_by_role("button", name="Search", exact=True).click()
            page.locator(".try-result .chunk").first.wait_for()
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(1500)
        write(page, IMAGES / f"{name}.webp")
        context.close()


LEAVE = """# Leave

Everybody has 30 days of leave a year.

## When it lapses

What is not taken lapses at the end of March of the next year."""
TRAVEL = "# Travel\n\nTrains are second class. A taxi is paid where no bus goes, and after ten in the evening.\n\n"
STYLE = "# How we write\n\nShort sentences. One word for one thing, in code, tables and letters.\n\n"


def fill_library(request: APIRequestContext, url: str, csrf: str) -> None:
    """A small handbook."""
    for title, source, text in (
        ("How we write", "style.md", STYLE * 9),
        ("Travel expenses", "handbook.pdf, page 9", TRAVEL * 14),
        ("Leave", "handbook.pdf, page 3", LEAVE),
    ):
        document = {"title": title, "source": source, "content": text}
        request.post(f"{url}/api/rag/documents", data=document, headers={"X-CSRF-Token": csrf})


def wait_for(request: APIRequestContext, url: str) -> None:
    """Until the gateway listens, which is a moment after it has said how to sign in."""
    for _ in range(100):
        try:
            request.get(f"{url}/api/health")
        except Error:
            time.sleep(0.2)
        else:
            return
    sys.exit("The demo does not answer.")


def write(page: Page, path: Path) -> None:
    session = page.context.new_cdp_session(page)
    answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": 88})
    path.write_bytes(base64.b64decode(answer["data"]))
    sys.stdout.write(f"docs/images/{path.name}: {path.stat().st_size / 1000:.0f} kB\n")
    sys.stdout.flush()


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("This needs chromium: scripts/setup test")
    IMAGES.mkdir(exist_ok=True)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with demo() as (url, who), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        take(browser, url, who)
        browser.close()


if __name__ == "__main__":
    main()
