"""The page's delivery: `web/index.html` at `/`, its files under `/web/<hash>/`, and the reference at `/docs`.

The files are read into memory at the first request for one, so nothing outside of them can be asked for. One hash over
all of them stands in their addresses, so that browsers may keep them for ever and never mix two releases; `index.html`
names it, and is asked for anew each time. Whoever edits the files sees it at the next reload.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from starlette.types import Scope, Send

import gemmapy
from gemmapy.api.sending import send_error, send_whole
from gemmapy.core import zstd
from gemmapy.core.errors import GemmaPyError, MethodNotAllowed, NotFound
from gemmapy.gateway.reply import RawHeaders

FOLDER = Path(gemmapy.__file__).parent / "web"
PREFIX = "/web/"
INDEX = "index.html"
SWAGGER = "vendor/swagger-ui"
_PLACEHOLDER = b"{{web}}"
_HASH_LENGTH = 16
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_COMPRESSED_ALREADY = frozenset((".png", ".woff2"))
_ENCODINGS = ("zstd", "gzip")
_PERMISSIONS = ("camera", "geolocation", "microphone", "payment", "usb")
SECURITY: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", ", ".join(f"{name}=()" for name in _PERMISSIONS).encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(slots=True)
class File:
    """One file, and what it is once compressed."""

    data: bytes
    type: str
    encodings: tuple[str, ...] = ()
    """In which it may be sent, besides as it is."""
    compressed: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def encoded(self, encoding: str) -> bytes:
        """Compressed as named, remembered. Takes up to a second for a large file the first time."""
        if encoding not in self.compressed:
            self.compressed[encoding] = (
                zstd.compress(self.data, 19) if encoding == "zstd" else gzip.compress(self.data, 9, mtime=0)
            )
        return self.compressed[encoding]


@dataclass(frozen=True, slots=True)
class Site:
    """All files of one state of the folder, by their paths in it."""

    files: dict[str, File]
    hash: str
    signature: tuple[tuple[str, int, int], ...]
    """By which a change is seen: names, times and sizes."""


class Pages:
    """An ASGI application for `/`, `/web/...` and `/docs`."""

    def __init__(self, base_path: str, folder: Path = FOLDER) -> None:
        self._base_path = base_path
        self._folder = folder
        self._known: Site | None = None

    @property
    def _site(self) -> Site:
        if self._known is None:  # 2 MiB, which a gateway that nobody looks at does not need
            self._known = _read(self._folder, _signature(self._folder))
        return self._known

    @property
    def prefix(self) -> str:
        """The address of the page's files."""
        return f"{self._base_path}{PREFIX}{self._site.hash}"

    async def __call__(self, scope: Scope, send: Send) -> None:
        path: str = scope["path"]
        try:
            if scope["method"] not in ("GET", "HEAD"):
                raise MethodNotAllowed(f"{path} does not take {scope['method']}.")
            if path == "/":
                await self._page(scope, send, self._index(), PAGE_POLICY)
            elif path == "/docs":
                html, policy = _docs(self._base_path, self.prefix)
                await self._page(scope, send, html, policy)
            else:
                await self._file(scope, send, path)
        except GemmaPyError as error:
            allowed = [(b"allow", b"GET, HEAD")] if isinstance(error, MethodNotAllowed) else []
            await send_error(scope, send, error, [*SECURITY, *allowed])

    def _index(self) -> bytes:
        """The page, with the address of its files; read again where somebody has changed them."""
        signature = _signature(self._folder)
        if signature != self._site.signature:
            self._known = _read(self._folder, signature)
        return self._site.files[INDEX].data.replace(_PLACEHOLDER, self.prefix.encode())

    async def _page(self, scope: Scope, send: Send, html: bytes, policy: str) -> None:
        headers = [
            (b"cache-control", b"no-cache"),
            (b"content-security-policy", policy.encode()),
            (b"x-frame-options", b"DENY"),
        ]
        page = File(html, _TYPES[".html"], ("gzip",))
        tag = hashlib.sha256(html).hexdigest()[:_HASH_LENGTH]
        await self._answer(scope, send, page, tag, headers, b"Accept, Accept-Encoding")

    async def _file(self, scope: Scope, send: Send, path: str) -> None:
        asked, _, name = path.removeprefix(PREFIX).partition("/")
        site = self._site
        file = site.files.get(name) if re.fullmatch(r"[0-9a-f]{16}", asked) and name != INDEX else None
        if file is None:
            raise NotFound(f"There is no {path[:200]}.")
        # Another hash is another gateway's, or an older page's: it gets what is here, and may not keep it.
        lasting = b"public, max-age=31536000, immutable" if asked == site.hash else b"no-cache"
        # Files are opened by themselves too (an SVG is a document): they may do nothing.
        headers = [(b"cache-control", lasting), (b"content-security-policy", b"default-src 'none'; sandbox")]
        tag = hashlib.sha256(file.data).hexdigest()[:_HASH_LENGTH]
        await self._answer(scope, send, file, tag, headers, b"Accept-Encoding")

    async def _answer(self, scope: Scope, send: Send, file: File, tag: str, headers: RawHeaders, vary: bytes) -> None:
        encoding = choose_encoding(joined(scope, b"accept-encoding"), file.encodings)
        etag = f'"{tag}{"-" + encoding if encoding else ""}"'
        headers = [*headers, *SECURITY, (b"vary", vary), (b"etag", etag.encode())]
        if _is_known(joined(scope, b"if-none-match"), etag):
            await send_whole(scope, send, 304, headers, None)
            return
        data = file.data
        if encoding:
            known = file.compressed.get(encoding)
            data = known if known is not None else await asyncio.to_thread(file.encoded, encoding)
            headers.append((b"content-encoding", encoding.encode()))
        headers.append((b"content-type", file.type.encode()))
        await send_whole(scope, send, 200, headers, data)


def wants_page(accept: str | None) -> bool:
    """Whether a client would rather have HTML than plain text, which is what Ollama says at `/`.

    By quality, then by how closely it was named: `*/*` alone, as Ollama's clients and curl send, is not a browser.
    """
    html, plain = (_quality(_listed(accept or ""), kind) for kind in ("text/html", "text/plain"))
    return html > plain and html[0] > 0


def choose_encoding(accept_encoding: str | None, offered: tuple[str, ...]) -> str | None:
    """The offered encoding that a client likes best, the first of equals; None for none."""
    listed = dict(_listed(accept_encoding or ""))
    qualities = [(listed.get(name, listed.get("*", 0.0)), name) for name in offered]
    best = max(qualities, key=lambda entry: entry[0], default=(0.0, ""))
    return best[1] if best[0] > 0 else None


def _listed(header: str) -> list[tuple[str, float]]:
    """The names of an Accept header with their qualities; what has no valid one is left out."""
    found: list[tuple[str, float]] = []
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = float(value) if re.fullmatch(r"\s*(0(\.\d{0,3})?|1(\.0{0,3})?)\s*", value) else -1.0
        if name and quality >= 0:
            found.append((name, quality))
    return found


def _quality(listed: list[tuple[str, float]], kind: str) -> tuple[float, int]:
    """What a client thinks of a media type: the quality of the range that names it most closely, and how closely."""
    ranges = (kind, kind.partition("/")[0] + "/*", "*/*")
    for closeness, name in zip((3, 2, 1), ranges, strict=True):
        qualities = [quality for listed_name, quality in listed if listed_name == name]
        if qualities:
            return max(qualities), closeness
    return 0.0, 0


def _is_known(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in if_none_match.split(","))


def _signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    found: list[tuple[str, int, int]] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith((".", "_")) for part in name.split("/")):
            stat = path.stat()
            found.append((name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


@lru_cache(maxsize=2)
def _read(folder: Path, signature: tuple[tuple[str, int, int], ...]) -> Site:
    files: dict[str, File] = {}
    digest = hashlib.sha256()
    for name, _, _ in signature:
        path = folder / name
        data = path.read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
        small = len(data) < 256 or path.suffix in _COMPRESSED_ALREADY
        files[name] = File(data, _TYPES.get(path.suffix, "text/plain; charset=utf-8"), () if small else _ENCODINGS)
    return Site(files, digest.hexdigest()[:_HASH_LENGTH], signature)


_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>GemmaPy: API reference</title>
<link rel="icon" href="{assets}/favicon-32x32.png" type="image/png">
<link rel="stylesheet" href="{assets}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script>{script}</script>
</body>
</html>
"""


def _docs(base_path: str, prefix: str) -> tuple[bytes, str]:
    """The reference, and a policy that lets its one script run and nothing be loaded from elsewhere."""
    script = f'SwaggerUIBundle({{url: "{base_path}/openapi.json", dom_id: "#swagger-ui", deepLinking: true}});'
    html = _DOCS.format(assets=f"{prefix}/{SWAGGER}", script=script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Its styles are set by its script, also as text.
    policy = PAGE_POLICY.replace("script-src 'self'", f"script-src 'self' 'sha256-{digest}'").replace(
        "style-src 'self'", "style-src 'self' 'unsafe-inline'"
    )
    return html.encode(), policy


def joined(scope: Scope, name: bytes) -> str | None:
    """All values of a header, as one list; None where there is none."""
    found = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
    return ",".join(found) if found else None
