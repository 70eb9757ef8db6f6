"""An uploaded file as text: what it is, by its bytes rather than by its name, and what it says.

Text and Markdown are taken as they are. HTML and PDF are read in a child process with limits of time and memory, since
their readers have met files that were made to hurt them.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Literal

from gemmapy.core.errors import InvalidRequest

READER = "gemmapy.rag.reader_child"
READ_TIMEOUT_S = 90
TEXT_LIMIT = 10_000_000
"""Characters of a document's text."""
TITLE_LIMIT = 300
_READERS = threading.Semaphore(2)
_PDF_MAGIC = b"%PDF-"
_MAGIC_WITHIN = 1024
_CHARSET = re.compile(rb"""<meta[^>]+charset=["']?([A-Za-z0-9_-]+)""", re.I)
_HTML_START = re.compile(r"\s*(<!doctype html|<html|<\?xml[^>]*>\s*(<!doctype html|<html))", re.I)
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
Kind = Literal["text/plain", "text/markdown", "text/html", "application/pdf"]
_SUFFIXES: dict[str, Kind] = {
    "md": "text/markdown",
    "markdown": "text/markdown",
    "html": "text/html",
    "htm": "text/html",
    "xhtml": "text/html",
    "pdf": "application/pdf",
}


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file's text, and what it says of itself."""

    kind: Kind
    title: str
    text: str

    @property
    def is_markdown(self) -> bool:
        """Whether `#` begins a heading; HTML is read as Markdown."""
        return self.kind in ("text/markdown", "text/html")


def extract(data: bytes, filename: str, declared: str | None) -> Extracted:
    """Reads a file. Blocks. Raises InvalidRequest where it is of no known kind, damaged, or holds no text.

    `declared` is the media type that came with it; both it and the name only decide what bytes cannot.
    """
    if _PDF_MAGIC in data[:_MAGIC_WITHIN]:
        if importlib.util.find_spec("pypdf") is None:
            raise InvalidRequest("Reading PDF needs pypdf.", hint="The operator can: pip install 'gemmapy[rag]'")
        title, text = _in_child("pdf", data)
        return Extracted("application/pdf", title_of(title), normal(text))
    kind = _kind(filename, declared)
    if kind == "application/pdf":
        raise InvalidRequest("The file says that it is a PDF, but it does not begin as one.")
    text = _decoded(data, kind)
    if kind == "text/html" or _HTML_START.match(text):
        title, text = _in_child("html", text.encode("utf-8", "replace"))
        return Extracted("text/html", title_of(title), normal(text))
    plain = normal(text)
    return Extracted(kind, _first_heading(plain) if kind == "text/markdown" else "", plain)


def as_text(content: str) -> Extracted:
    """Text that came in JSON. Its Markdown headings count, if it has any."""
    kind: Kind = "text/markdown" if re.search(r"^#{1,6} \S", content, re.M) else "text/plain"
    plain = normal(content)
    return Extracted(kind, _first_heading(plain) if kind == "text/markdown" else "", plain)


def normal(text: str) -> str:
    """A text as it is stored: Unix line ends, no NULs, nothing that is no character. Raises InvalidRequest for
    one that is empty or too long."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    plain = plain.encode("utf-8", "replace").decode()
    if not plain.strip():
        raise InvalidRequest("The document holds no text.")
    if len(plain) > TEXT_LIMIT:
        raise InvalidRequest(
            f"The document's text has {len(plain)} characters, at most {TEXT_LIMIT} are taken.",
            hint="Split it into several documents.",
        )
    return plain


def title_of(text: str) -> str:
    """A title on one line, at most `TITLE_LIMIT` characters long."""
    return " ".join(text.encode("utf-8", "replace").decode().replace("\x00", "").split())[:TITLE_LIMIT]


def first_words(text: str) -> str:
    """A title for a document that has none: how it begins."""
    return title_of(next(line for line in text.splitlines() if line.strip()))[:100] or "Untitled"


def _first_heading(text: str) -> str:
    """The heading that a Markdown text begins with; empty where it begins with something else."""
    first = text.lstrip().partition("\n")[0]
    return title_of(first.lstrip("#")) if first.startswith("#") else ""


def _kind(filename: str, declared: str | None) -> Kind:
    _, dot, suffix = filename.rpartition(".")
    if dot and suffix.lower() in _SUFFIXES:
        return _SUFFIXES[suffix.lower()]
    media_type = (declared or "").split(";")[0].strip().lower()
    for kind in ("text/markdown", "text/html", "application/pdf"):
        if media_type == kind or (kind == "text/html" and media_type == "application/xhtml+xml"):
            return kind
    return "text/plain"


def _decoded(data: bytes, kind: Kind) -> str:
    """Bytes as text: UTF-8, UTF-16 with its mark, what an HTML page names, else Windows-1252."""
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    if encoding is None and kind == "text/html":
        named = _CHARSET.search(data[:_MAGIC_WITHIN])
        encoding = named[1].decode() if named is not None else None
    for attempt in (encoding, "utf-8", "cp1252"):
        try:
            text = data.decode(attempt) if attempt is not None else ""
        except (UnicodeDecodeError, LookupError):
            continue
        if attempt is not None:
            break
    else:
        text = "\x00"
    if _BINARY.search(text[:100_000]):
        raise InvalidRequest(
            "The file is no text that this gateway can read.", hint="Upload plain text, Markdown, HTML or PDF."
        )
    return text


def _in_child(kind: Literal["pdf", "html"], data: bytes) -> tuple[str, str]:
    name = kind.upper()
    with _READERS:
        try:
            ran = subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-m", READER, kind],
                input=data,
                capture_output=True,
                timeout=READ_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InvalidRequest(f"The {name} took longer than {READ_TIMEOUT_S} s to read.") from None
    if ran.returncode != 0 or not ran.stdout:
        raise InvalidRequest(f"The {name} could not be read: it needs more time or memory than a document gets.")
    answer = json.loads(ran.stdout)
    if "error" in answer:
        raise InvalidRequest(f"The {name} could not be read: {answer['error']}.")
    return answer["title"], answer["text"]
