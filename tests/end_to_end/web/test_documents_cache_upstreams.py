"""The dashboard's pages for documents, kept answers and upstreams, and a request's attempts, in a real browser."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from tests.end_to_end.web.conftest import Watch
from tests.support.embedding import embed
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import Request, ScriptedUpstream, ndjson, whole
from tests.unit.rag.test_extraction import pdf

KNOWN = "if (location.protocol === 'http:') localStorage.setItem('gemmapy.signed-in', '1')"
PATIENCE_MS = 30_000
"""Other tests may run beside these."""
expect.set_options(timeout=PATIENCE_MS)
LEAVE = "# Leave\n\nEverybody has 30 days of leave a year.\n\n## Lapse\n\nWhat is not taken lapses in March."
DONE = {"response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 60, "eval_count": 9}


def says(request: Request) -> Any:
    model = request.json["model"]
    if request.json.get("stream"):
        pieces = ({"model": model, "response": piece, "done": False} for piece in ("Thirty ", "days [1]."))
        return ndjson(*pieces, {**DONE, "model": model})
    return whole({**DONE, "model": model, "response": "Thirty days [1]."})


@pytest.fixture
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream("llama3", "mistral", "embedder") as opened:
        opened.on("/api/generate", says)
        opened.on("/api/embed", embed())
        yield opened


@pytest.fixture
def served(tmp_path: Path, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    with (
        ScriptedUpstream("llama3") as second,
        gateway(
            tmp_path / "data",
            f"gpu-1:ollama={upstream.url}",
            f"gpu-2:ollama={second.url}",
            embedding_model="embedder",
            fallbacks="llama3>mistral",
            retry_wait_s=0.01,
            cache_disk_mb=8,
        ) as started,
    ):
        second.on("/api/generate", whole({"error": "out of memory"}, 503))
        yield started


@pytest.fixture
def at(served: RunningGateway, context: BrowserContext, page: Page) -> Callable[..., Page]:
    def opened(place: str, username: str = "admin") -> Page:
        context.request.post(f"{served.url}/api/session", data={"username": username, "password": PASSWORD})
        context.add_init_script(KNOWN)
        context.set_default_timeout(PATIENCE_MS)
        page.goto(f"{served.url}/#/{place}")
        page.locator("h1").first.wait_for()
        settled(page)
        return page

    return opened


def settled(page: Page) -> None:
    expect(page.locator(".skeleton, [aria-busy=true]")).to_have_count(0)


def figure(page: Page, label: str) -> Any:
    exactly = page.locator(".figure-label", has_text=re.compile(f"^{label}$"))
    return page.locator(".figure", has=exactly).locator(".figure-value")


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def test_an_empty_library_teaches_and_takes_files_and_texts(at: Callable[..., Page], served: RunningGateway) -> None:
    page = at("documents")
    expect(page.get_by_role("heading", name="No document yet")).to_be_visible()
    button(page, "Add the first document").click()
    page.get_by_label("Files", exact=True).set_input_files(
        [
            {"name": "leave.md", "mimeType": "text/markdown", "buffer": LEAVE.encode()},
            {"name": "paper.pdf", "mimeType": "application/pdf", "buffer": pdf("A heron waits.", title="Herons")},
        ]
    )
    expect(page.get_by_text("2 documents are in.")).to_be_visible()
    expect(page.get_by_role("table", name="Documents").locator("tbody tr")).to_have_count(2)
    button(page, "Add documents").click()
    button(page, "Paste a text").click()
    page.get_by_label("Title").fill("Taxi")
    page.get_by_label("Text", exact=True).fill("A taxi is paid after ten.")
    button(page, "Add the text").click()
    expect(page.get_by_text("Taxi is in: 1 chunk.")).to_be_visible()
    expect(page.get_by_role("table", name="Documents")).to_contain_text("Taxi")
    titles = [entry["title"] for entry in served.get("/api/rag/documents").json["documents"]]
    assert titles == ["Taxi", "Herons", "Leave"]
    expect(figure(page, "Embedded")).to_have_text("4")


def test_files_can_be_dropped_and_what_is_wrong_with_one_is_said(
    at: Callable[..., Page], served: RunningGateway, watch: Watch
) -> None:
    page = at("documents")
    files = """() => {
        const data = new DataTransfer();
        data.items.add(new File(['A heron.'], 'heron.txt', {type: 'text/plain'}));
        data.items.add(new File(['\\x00\\x01\\x02'], 'bad.bin'));
        return data;
    }"""
    data = page.evaluate_handle(files)
    place = page.get_by_role("region", name="Documents")
    place.dispatch_event("dragenter", {"dataTransfer": data})
    expect(page.get_by_text("Drop files to add them")).to_be_visible()
    place.dispatch_event("drop", {"dataTransfer": data})
    expect(page.get_by_role("alert")).to_contain_text("bad.bin: The file is no text")
    watch.expected("400")
    page.keyboard.press("Escape")
    expect(page.get_by_role("table", name="Documents")).to_contain_text("heron.txt")
    expect(page.get_by_text("Drop files to add them")).to_be_hidden()
    assert len(served.get("/api/rag/documents").json["documents"]) == 1


@pytest.fixture
def leave(served: RunningGateway) -> int:
    return served.post("/api/rag/documents", {"title": "Leave", "content": LEAVE, "source": "handbook"}).json["id"]


def test_chunks_search_and_an_answer_with_sources(at: Callable[..., Page], served: RunningGateway, leave: int) -> None:
    page = at("documents")
    page.get_by_role("link", name="Leave").click()
    drawer = page.get_by_role("dialog", name="Leave")
    expect(drawer.locator(".chunk")).to_have_count(2)
    expect(drawer.locator(".chunk").nth(1)).to_contain_text("Leave > Lapse")
    expect(drawer).to_contain_text("all, by embedder")
    page.keyboard.press("Escape")
    page.get_by_label("Question").fill("How many days of leave?")
    button(page, "Search").click()
    found = page.locator(".try-result .chunk").first
    expect(found).to_contain_text("30 days")
    expect(found).to_contain_text("words: place 1")
    found.get_by_role("link").click()
    expect(page.locator(".chunk.is-found")).to_contain_text("30 days")
    page.keyboard.press("Escape")
    button(page, "Words").click()
    button(page, "Search").click()
    expect(page.get_by_text("Found by words.")).to_be_visible()
    page.get_by_label("Model").select_option("mistral")
    button(page, "Ask").click()
    expect(page.get_by_text("Thirty days [1].")).to_be_visible()
    expect(page.locator(".sources li").first).to_contain_text("cited")
    row = served.row()
    assert (row["endpoint"], row["model"]) == ("/api/rag/generate", "mistral")
    page.get_by_role("link", name="Its story").click()
    expect(page.get_by_role("dialog", name="One request")).to_contain_text("/api/rag/generate")


def test_a_document_is_deleted_and_the_list_is_saved(
    at: Callable[..., Page], served: RunningGateway, leave: int
) -> None:
    page = at("documents")
    with page.expect_download() as download:
        page.get_by_role("region", name="Documents").get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [(row["title"], row["source"], row["chunks"]) for row in rows] == [("Leave", "handbook", "2")]
    button(page, "Delete Leave").click()
    button(page, "Keep it").click()
    button(page, "Delete Leave").click()
    button(page, "Delete the document").click()
    expect(page.get_by_role("heading", name="No document yet")).to_be_visible()
    assert served.get(f"/api/rag/documents/{leave}").status == 404


def test_a_collection_is_shared_and_read_by_others_who_cannot_change_it(
    at: Callable[..., Page], served: RunningGateway
) -> None:
    served.post("/api/admin/users", {"username": "visitor", "password": PASSWORD})
    page = at("documents")
    button(page, "Collections").click()
    page.get_by_label("Name of the new collection").fill("handbook")
    button(page, "Add").click()
    page.get_by_role("button", name=re.compile("^handbook")).click()
    page.get_by_label("Who sees it").select_option("all")
    expect(page.get_by_role("dialog", name="Collections")).to_contain_text("0 documents, everybody")
    page.keyboard.press("Escape")
    served.post("/api/rag/documents", {"title": "Leave", "content": LEAVE, "collection": "handbook"})
    page.context.clear_cookies()
    page = at("documents", "visitor")
    page.reload()
    settled(page)
    expect(page.get_by_role("table", name="Documents")).to_contain_text("Leave")
    expect(page.get_by_role("button", name=re.compile("^Delete"))).to_have_count(0)
    button(page, "Collections").click()
    page.get_by_role("button", name=re.compile("^handbook")).click()
    expect(page.get_by_role("dialog", name="Collections")).to_contain_text("You can read it.")


ASK = {"model": "mistral", "prompt": "Why?", "temperature": 0}


def test_the_cache_teaches_counts_and_is_cleared(at: Callable[..., Page], served: RunningGateway) -> None:
    page = at("cache")
    expect(page.get_by_role("heading", name="No answer is kept yet")).to_be_visible()
    for model in ("mistral", "llama3"):
        for _ in range(3):
            served.post("/api/ollama/generate", {**ASK, "model": model})
    table = page.get_by_role("table", name="The cache by model")
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(figure(page, "Answers in memory")).to_have_text("2")
    expect(figure(page, "Answers on disk")).to_have_text("2")
    expect(figure(page, "Hits")).to_have_text("4")
    saved = served.get("/api/cache/stats").json["saved_cost"]
    assert saved > 0
    expect(figure(page, "Saved since the start")).to_have_attribute("title", re.compile(re.escape(f"{saved:.7f}"[:8])))
    with page.expect_download() as download:
        page.get_by_role("region", name="Since the start").get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert {(row["model"], row["hits"], row["stored_entries"]) for row in rows} == {
        ("mistral", "2", "1"),
        ("llama3", "2", "1"),
    }
    button(page, "Clear the answers of mistral").click()
    button(page, "Clear them").click()
    expect(figure(page, "Answers in memory")).to_have_text("1")
    button(page, "Clear by pattern").click()
    page.get_by_label("Names of models").fill("ll*3")
    button(page, "Clear them").click()
    expect(figure(page, "Answers on disk")).to_have_text("0")
    button(page, "Clear what is too old").click()
    expect(page.get_by_text("0 answers were too old.")).to_be_visible()
    button(page, "Clear all").click()
    page.get_by_role("dialog").get_by_role("button", name="Clear all").click()
    expect(page.get_by_text("0 answers are forgotten.")).to_be_visible()


def test_users_see_the_cache_and_cannot_clear_it(at: Callable[..., Page], served: RunningGateway) -> None:
    served.post("/api/admin/users", {"username": "visitor", "password": PASSWORD})
    served.post("/api/ollama/generate", ASK)
    served.post("/api/ollama/generate", ASK)
    page = at("cache", "visitor")
    expect(page.get_by_role("region", name="Since the start")).to_contain_text("Misses")
    expect(page.get_by_role("button", name=re.compile("^Clear"))).to_have_count(0)


def test_upstreams_show_who_answers_who_has_what_and_what_was_tried_again(
    at: Callable[..., Page], served: RunningGateway, upstream: ScriptedUpstream
) -> None:
    for number in range(6):
        served.post("/api/ollama/generate", {"model": "llama3", "prompt": f"{number}"})
    retries = served.get("/api/retry/stats").json["retries"]
    assert retries > 0
    page = at("upstreams")
    table = page.get_by_role("table", name="Upstreams", exact=True)
    expect(table.locator("tbody tr")).to_have_count(2)
    expect(table.locator("tbody tr").first).to_contain_text("answers")
    expect(figure(page, "Tried again")).to_have_text(str(retries))
    models = page.get_by_role("table", name="Models and their upstreams")
    expect(models.locator("tr", has_text="llama3")).to_contain_text("gpu-1gpu-2")
    expect(page.get_by_role("region", name="Models that take another's place")).to_contain_text("llama3 → then mistral")
    upstream.close()
    served.services.catalogue.outdate()
    expect(page.get_by_text("gpu-1 does not answer.")).to_be_visible()
    expect(table.locator("tbody tr").first).to_contain_text("does not answer")


def test_a_request_tells_each_of_its_attempts(
    at: Callable[..., Page], served: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.on("/api/generate", lambda r: says(r) if r.json["model"] == "mistral" else whole({"error": "x"}, 503))
    answer = served.post("/api/ollama/generate", {"model": "llama3", "prompt": "Why?"}).json
    assert answer["fallback_from"] == "llama3"
    page = at(f"requests/{answer['metric_id']}")
    attempts = page.get_by_role("table", name="Attempts, in their order").locator("tbody tr")
    expect(attempts).to_have_count(4)
    expect(attempts.nth(0)).to_contain_text("status 503")
    expect(attempts.nth(2)).to_contain_text("after")
    expect(attempts.nth(3)).to_contain_text("mistral")
    expect(attempts.nth(3)).to_contain_text("answered")
    expect(page.get_by_role("dialog")).to_contain_text("mistral took its place")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("place", ["documents", "documents/1", "cache", "upstreams"])
def test_the_pages_have_nothing_that_axe_finds_and_fit_a_phone(
    at: Callable[..., Page],
    served: RunningGateway,
    leave: int,
    violations: Callable[[Page], list[str]],
    theme: Any,
    place: str,
) -> None:
    for _ in range(2):
        served.post("/api/ollama/generate", ASK)
    page = at(place)
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    assert violations(page) == []
    page.set_viewport_size({"width": 375, "height": 780})
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("name", ["Add documents", "Collections"])
def test_the_dialogs_have_nothing_that_axe_finds(
    at: Callable[..., Page], leave: int, violations: Callable[[Page], list[str]], name: str
) -> None:
    page = at("documents")
    button(page, name).click()
    settled(page)
    if name == "Collections":
        page.get_by_role("button", name=re.compile("^default")).click()
    assert violations(page) == []


def test_trouble_is_said_in_words_that_help(
    at: Callable[..., Page], served: RunningGateway, watch: Watch, leave: int
) -> None:
    page = at("documents")
    page.route("**/api/rag/search", lambda route: route.fulfill(status=503, json={"error": "No.", "hint": "Wait."}))
    page.get_by_label("Question").fill("leave")
    button(page, "Search").click()
    expect(page.get_by_role("alert")).to_contain_text("No. Wait.")
    watch.expected("503")
