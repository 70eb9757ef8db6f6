"""The page's session: a cookie that counts for the page alone, and every way of using it from elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from tests.support.gateway import PASSWORD, Answered, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole

HELLO = {"model": "llama3", "messages": [{"role": "user", "content": "Hi"}], "stream": False}


@pytest.fixture(scope="module")
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream() as started:
        said = {"message": {"role": "assistant", "content": "Hi"}, "done": True}
        started.on("/api/chat", whole({**said, "prompt_eval_count": 1, "eval_count": 1}))
        started.on("/v1/chat/completions", whole({"choices": [{"message": {"content": "Hi"}}], "usage": {}}))
        yield started


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    with gateway(tmp_path_factory.mktemp("sessions") / "data", f"ollama={upstream.url}") as started:
        yield started


@dataclass
class Browser:
    """Keeps a cookie, as a browser does, and has the page's CSRF text."""

    api: RunningGateway
    username: str
    user_id: int
    cookie: str
    csrf: str

    def ask(self, method: str, path: str, body: Any = None, *, csrf: str | None = "", **headers: str) -> Answered:
        sent = {
            "Cookie": f"other=1; gemmapy_session={self.cookie}",
            **{k.replace("_", "-"): headers[k] for k in headers},
        }
        text = self.csrf if csrf == "" else csrf
        if text is not None:
            sent["X-CSRF-Token"] = text
        return self.api.request(method, path, body, key=None, headers=sent)


def cookie_of(answer: Answered) -> Morsel[str]:
    return SimpleCookie(answer.headers["Set-Cookie"])["gemmapy_session"]


def sign_in(api: RunningGateway, username: str, user_id: int) -> Browser:
    answer = api.post("/api/session", {"username": username, "password": PASSWORD}, key=None)
    assert answer.status == 200, answer.body
    return Browser(api, username, user_id, cookie_of(answer).value, answer.json["csrf"])


_made = iter(range(10_000))


@pytest.fixture
def browser(api: RunningGateway) -> Browser:
    """Somebody new, signed in."""
    name = f"user{next(_made)}"
    made = api.post("/api/admin/users", {"username": name, "password": PASSWORD}).json
    return sign_in(api, name, made["id"])


def refused(answer: Answered, status: int, code: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, code), answer.body


def test_signing_in_gives_a_cookie_that_no_script_and_no_other_site_can_use(api: RunningGateway) -> None:
    answer = api.post("/api/session", {"username": "admin", "password": PASSWORD}, key=None)
    cookie = cookie_of(answer)
    assert cookie["httponly"] is True
    assert (cookie["samesite"].lower(), cookie["path"], cookie["secure"]) == ("strict", "/", "")
    assert 86_390 <= int(cookie["max-age"]) <= 86_400
    assert set(answer.json) == {"user", "csrf", "expires_at"}
    assert answer.json["user"] == {"id": 1, "username": "admin", "is_admin": True}
    assert datetime.fromisoformat(answer.json["expires_at"]).utcoffset() == timedelta(0)
    assert cookie.value not in answer.body.decode()


def test_a_session_says_who_it_is_with_the_same_csrf_text_each_time(browser: Browser) -> None:
    for _ in range(2):
        answer = browser.ask("GET", "/api/session", csrf=None)
        assert answer.status == 200
        assert answer.json["user"]["username"] == browser.username
        assert answer.json["csrf"] == browser.csrf
        assert "Set-Cookie" not in answer.headers  # it is young


def test_a_wrong_password_is_401_and_is_slowed_down_as_a_login_is(api: RunningGateway) -> None:
    statuses = [
        api.post("/api/session", {"username": "guessed", "password": "wrong"}, key=None).status for _ in range(6)
    ]
    assert statuses == [401, 401, 401, 401, 401, 429]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": "gemmapy_session="},
        {"Cookie": "gemmapy_session=x.y.z"},
        {"Cookie": f"gemmapy_session={'x' * 5000}"},
    ],
)
def test_without_a_session_there_is_none(api: RunningGateway, headers: dict[str, str]) -> None:
    refused(api.request("GET", "/api/session", key=None, headers=headers), 401, "unauthorized")


def test_an_api_key_has_no_session_and_does_not_work_as_a_cookie(api: RunningGateway) -> None:
    refused(api.get("/api/session"), 401, "unauthorized")
    refused(api.get("/api/profile", key=None, headers={"Cookie": f"gemmapy_session={api.key}"}), 401, "unauthorized")


def test_reading_needs_the_cookie_alone(browser: Browser) -> None:
    for path in ("/api/profile", "/api/metrics/dashboard", "/api/keys", "/v1/models", "/api/tags"):
        assert browser.ask("GET", path, csrf=None).status == 200, path


def test_the_page_chats_and_changes_things_with_its_csrf_text(browser: Browser) -> None:
    answer = browser.ask("POST", "/api/ollama/chat", HELLO, Sec_Fetch_Site="same-origin")
    assert answer.status == 200
    assert browser.api.row()["user_id"] == browser.user_id
    rated = browser.ask("POST", f"/api/metrics/{answer.json['metric_id']}/rate", {"rating": 1})
    assert rated.status == 200
    made = browser.ask("POST", "/api/keys", {"name": "laptop"})
    assert made.status == 201
    assert browser.ask("DELETE", f"/api/keys/{made.json['id']}").status == 200


CHANGES = [
    ("POST", "/api/keys", {"name": "stolen"}),
    ("DELETE", "/api/session", None),
    ("DELETE", "/api/sessions", None),
    ("POST", "/api/profile/password", {"current_password": PASSWORD, "new_password": PASSWORD}),
    ("POST", "/api/ollama/chat", HELLO),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_without_the_csrf_text_nothing_is_changed(browser: Browser, method: str, path: str, body: Any) -> None:
    refused(browser.ask(method, path, body, csrf=None), 403, "csrf")
    assert browser.ask("GET", "/api/keys").json == {"keys": []}
    assert browser.ask("GET", "/api/session").status == 200


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
def test_another_sessions_csrf_text_is_none(browser: Browser, method: str, path: str, body: Any) -> None:
    others = sign_in(browser.api, browser.username, browser.user_id)
    assert others.csrf != browser.csrf
    refused(browser.ask(method, path, body, csrf=others.csrf), 403, "csrf")
    for wrong in ("x", browser.cookie, "\xe9" * 43, browser.csrf + "x"):
        refused(browser.ask(method, path, body, csrf=wrong), 403, "csrf")


def test_the_refusal_has_the_shape_of_the_api_that_was_called(browser: Browser) -> None:
    native = browser.ask("POST", "/api/chat", HELLO, csrf=None)
    assert native.status == 403
    assert set(native.json) == {"error"}
    openai = browser.ask("POST", "/v1/chat/completions", HELLO, csrf=None)
    assert openai.status == 403
    assert openai.json["error"]["code"] == "csrf"
    assert browser.api.rows() == [] or browser.api.row()["user_id"] != browser.user_id


def test_a_foreign_pages_form_is_refused_even_if_a_browser_sends_the_cookie(browser: Browser) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded", "Sec_Fetch_Site": "cross-site"}
    refused(browser.ask("POST", "/api/keys", b"name=stolen", csrf=None, **form), 403, "csrf")
    refused(browser.ask("POST", "/api/keys", b'{"name": "x"}', csrf=None, Content_Type="text/plain"), 403, "csrf")
    # Had it got hold of the text, it is refused for what the browser says of it.
    refused(browser.ask("POST", "/api/keys", {"name": "x"}, Sec_Fetch_Site="cross-site"), 403, "csrf")
    refused(browser.ask("POST", "/api/keys", {"name": "x"}, Sec_Fetch_Site="same-site"), 403, "csrf")
    refused(browser.ask("GET", "/api/profile", Sec_Fetch_Site="cross-site"), 403, "csrf")


def test_a_foreign_page_cannot_sign_somebody_in(api: RunningGateway) -> None:
    body = {"username": "admin", "password": PASSWORD}
    for site in ("cross-site", "same-site"):
        refused(api.post("/api/session", body, key=None, headers={"Sec-Fetch-Site": site}), 403, "csrf")
    form = api.post(
        "/api/session", b'{"username": "admin", "password": "x"}', key=None, headers={"Content-Type": "text/plain"}
    )
    assert form.status == 400


def test_a_bearer_credential_needs_no_csrf_text_and_wins_over_the_cookie(browser: Browser) -> None:
    headers = {"Cookie": f"gemmapy_session={browser.cookie}", "Sec-Fetch-Site": "cross-site"}
    assert browser.api.get("/api/profile", headers=headers).json["username"] == "admin"
    assert browser.api.post("/api/ollama/chat", HELLO, headers=headers).status == 200
    assert browser.api.row()["user_id"] == 1
    refused(browser.api.get("/api/profile", key="wrong", headers=headers), 401, "unauthorized")
    by_path = browser.api.request("GET", f"/k/{browser.api.key}/api/profile", key=None, headers=headers)
    assert by_path.json["username"] == "admin"


def test_signing_out_here_forgets_the_cookie(browser: Browser) -> None:
    answer = browser.ask("DELETE", "/api/session")
    assert answer.status == 200
    cookie = cookie_of(answer)
    assert (cookie.value, cookie["max-age"], cookie["path"]) == ("", "0", "/")


def test_signing_out_everywhere_ends_every_session_of_the_user_and_of_nobody_else(
    browser: Browser, api: RunningGateway
) -> None:
    elsewhere = sign_in(api, browser.username, browser.user_id)
    token = api.post("/api/login", {"username": browser.username, "password": PASSWORD}, key=None).json["token"]
    key = browser.ask("POST", "/api/keys", {"name": "script"}).json["key"]
    somebody_else = sign_in(api, "admin", 1)
    assert browser.ask("DELETE", "/api/sessions").status == 200
    for gone in (browser, elsewhere):
        refused(gone.ask("GET", "/api/session"), 401, "unauthorized")
        refused(gone.ask("POST", "/api/keys", {"name": "x"}), 401, "unauthorized")
        refused(gone.ask("POST", "/api/ollama/chat", HELLO), 401, "unauthorized")
    refused(api.get("/api/profile", key=token), 401, "unauthorized")
    assert somebody_else.ask("GET", "/api/session").status == 200
    assert api.get("/api/profile", key=key).status == 200
    assert sign_in(api, browser.username, browser.user_id).ask("GET", "/api/session").status == 200


def test_a_new_password_ends_the_others_and_goes_on_here_without_showing_the_token(browser: Browser) -> None:
    elsewhere = sign_in(browser.api, browser.username, browser.user_id)
    body = {"current_password": PASSWORD, "new_password": "another long one"}
    answer = browser.ask("POST", "/api/profile/password", body)
    assert answer.status == 200
    assert set(answer.json) == {"user", "csrf", "expires_at"}
    for gone in (browser, elsewhere):
        refused(gone.ask("GET", "/api/session"), 401, "unauthorized")
    here = Browser(browser.api, browser.username, browser.user_id, cookie_of(answer).value, answer.json["csrf"])
    assert here.ask("POST", "/api/keys", {"name": "x"}).status == 201
    refused(here.ask("POST", "/api/keys", {"name": "x"}, csrf=browser.csrf), 403, "csrf")


def test_a_disabled_users_session_is_over(browser: Browser) -> None:
    browser.api.request("PATCH", f"/api/admin/users/{browser.user_id}", {"disabled": True})
    refused(browser.ask("GET", "/api/session"), 401, "unauthorized")
    refused(browser.ask("POST", "/api/ollama/chat", HELLO), 401, "unauthorized")
    browser.api.request("PATCH", f"/api/admin/users/{browser.user_id}", {"disabled": False})
    refused(browser.ask("GET", "/api/session"), 401, "unauthorized")


def test_a_limited_key_cannot_sign_its_user_out(browser: Browser) -> None:
    key = browser.ask("POST", "/api/keys", {"name": "n", "routes": ["/api"]}).json["key"]
    refused(browser.api.request("DELETE", "/api/sessions", key=key), 403, "forbidden")


def test_behind_a_trusted_proxy_with_tls_the_cookie_is_secure_and_under_its_path(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    settings: dict[str, Any] = {"base_path": "/llm", "trusted_proxies": "127.0.0.1"}
    with gateway(tmp_path / "data", f"ollama={upstream.url}", **settings) as started:
        body = {"username": "admin", "password": PASSWORD}
        answer = started.post("/llm/api/session", body, key=None, headers={"X-Forwarded-Proto": "https"})
        cookie = cookie_of(answer)
        assert (cookie["secure"], cookie["path"]) == (True, "/llm")


def test_another_origins_page_may_not_use_the_cookie_though_it_may_call_the_api(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with gateway(tmp_path / "data", f"ollama={upstream.url}", cors_origins="https://app.example") as started:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        answer = started.request("OPTIONS", "/api/keys", key=None, headers=asked)
        assert answer.headers["Access-Control-Allow-Origin"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
