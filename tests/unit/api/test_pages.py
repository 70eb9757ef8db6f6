"""What a client would rather have, and which files there are to be had."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.api.pages import Pages, choose_encoding, wants_page
from gemmapy.core import zstd

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "is_wanted"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML ; Q=0.5", True),
        ("text/html,*/*", True),
        ("text/*;q=0.3, text/html;q=0.7", True),
        ("text/plain;q=0.5, text/html;q=0.6", True),
        (None, False),
        ("", False),
        ("*/*", False),  # curl, and Ollama's clients
        ("application/json", False),
        ("text/*", False),
        ("text/html, text/plain", False),  # as welcome as what Ollama says
        ("text/html;q=0", False),
        ("text/html;q=0, */*", False),
        ("text/plain, text/html;q=0.9", False),
        ("text/html;q=0.4, */*;q=0.8", False),
        ("application/xhtml+xml;x=text/html", False),
        ("text/html;q=2", False),
        ("text/html;q=nonsense", False),
    ],
)
def test_the_page_is_for_whom_html_is_welcome_most(accept: str | None, is_wanted: bool) -> None:
    assert wants_page(accept) is is_wanted


@given(st.text(max_size=80))
def test_any_accept_header_is_understood_somehow(header: str) -> None:
    assert wants_page(header) in (True, False)
    assert choose_encoding(header, ("zstd", "gzip")) in ("zstd", "gzip", None)


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("identity", None),
        ("*", "zstd"),
        ("zstd;q=0, *;q=0.1", "gzip"),
    ],
)
def test_the_encoding_is_the_one_a_client_likes_best(header: str | None, chosen: str | None) -> None:
    assert choose_encoding(header, ("zstd", "gzip")) == chosen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "web" / "core").mkdir(parents=True)
    (tmp_path / "web" / "index.html").write_text('<script src="{{web}}/main.js"></script>' + " " * 300)
    (tmp_path / "web" / "main.js").write_text("export const one = 1;\n" * 100)
    (tmp_path / "web" / "core" / "tiny.js").write_text("1")
    (tmp_path / "web" / ".hidden").write_text("hidden")
    (tmp_path / "outside.txt").write_text("outside")
    return tmp_path / "web"


class Got:
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status: int = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body: bytes = messages[1]["body"]


async def get(pages: Pages, path: str, method: str = "GET", **headers: str) -> Got:
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        messages.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    await pages({"type": "http", "method": method, "path": path, "headers": raw}, send)
    return Got(messages)


async def test_a_file_is_kept_for_ever_and_the_page_is_asked_for_anew(folder: Path) -> None:
    pages = Pages("/llm", folder)
    page = await get(pages, "/")
    assert page.headers["cache-control"] == "no-cache"
    assert f'src="{pages.prefix}/main.js"' in page.body.decode()
    assert pages.prefix.startswith("/llm/web/")
    file = await get(pages, pages.prefix.removeprefix("/llm") + "/main.js")
    assert (file.status, file.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert file.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_who_edits_a_file_sees_it_at_the_next_reload(folder: Path) -> None:
    pages = Pages("", folder)
    await get(pages, "/")
    before = pages.prefix
    (folder / "main.js").write_text("export const two = 2;\n")
    page = await get(pages, "/")
    assert pages.prefix != before
    assert pages.prefix in page.body.decode()
    assert (await get(pages, f"{pages.prefix}/main.js")).body == b"export const two = 2;\n"
    old = await get(pages, f"{before}/main.js")  # of a page that was open meanwhile, or of another gateway
    assert (old.status, old.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/core/../../outside.txt",
        "/core/../main.js",
        "//main.js",
        "/.hidden",
        "/",
        "",
        "/core",
        "/core/",
        "/index.html",
        "/main.js/",
        "/main.js\0",
        "/..%2foutside.txt",
        "/\\..\\outside.txt",
    ],
)
async def test_nothing_outside_of_the_folder_can_be_asked_for(folder: Path, path: str) -> None:
    pages = Pages("", folder)
    assert (await get(pages, pages.prefix + path)).status == 404


@pytest.mark.parametrize(
    "path", ["/web/", "/web/main.js", "/web/0123/main.js", "/web/../web/main.js", "/web/zzzzzzzzzzzzzzzz/main.js"]
)
async def test_an_address_without_a_hash_is_none(folder: Path, path: str) -> None:
    assert (await get(Pages("", folder), path)).status == 404


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_compressed_is_the_same_and_said_so(folder: Path, encoding: str) -> None:
    pages = Pages("", folder)
    plain = await get(pages, f"{pages.prefix}/main.js")
    for _ in range(2):
        packed = await get(pages, f"{pages.prefix}/main.js", accept_encoding=encoding)
        assert packed.headers["content-encoding"] == encoding
        assert packed.headers["vary"] == "Accept-Encoding"
        assert packed.headers["etag"] != plain.headers["etag"]
        assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body)
        unpack = gzip.decompress if encoding == "gzip" else zstd.ZstdDecompressor().decompress
        assert unpack(packed.body) == plain.body
    tiny = await get(pages, f"{pages.prefix}/core/tiny.js", accept_encoding=encoding)
    assert "content-encoding" not in tiny.headers


async def test_what_is_known_is_not_sent_again(folder: Path) -> None:
    pages = Pages("", folder)
    for path in ("/", f"{pages.prefix}/main.js"):
        tag = (await get(pages, path, accept_encoding="gzip")).headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = await get(pages, path, accept_encoding="gzip", if_none_match=known)
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
            assert "content-type" not in again.headers
        assert (await get(pages, path, accept_encoding="gzip", if_none_match='"other"')).status == 200
        assert (await get(pages, path, if_none_match=tag)).status == 200  # another encoding is another thing


async def test_a_head_is_the_head_of_what_get_sends(folder: Path) -> None:
    pages = Pages("", folder)
    for path in ("/", f"{pages.prefix}/main.js", "/docs"):
        got, head = await get(pages, path), await get(pages, path, "HEAD")
        assert (head.status, head.headers, head.body) == (got.status, got.headers, b"")


async def test_only_reading_is_allowed(folder: Path) -> None:
    pages = Pages("", folder)
    for path in ("/", f"{pages.prefix}/main.js", "/docs"):
        got = await get(pages, path, "POST")
        assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")
