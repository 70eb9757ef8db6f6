"""The child process of `extraction.py`: reads one foreign file from standard input and answers with its text.

`python -m gemmapy.rag.reader_child pdf` (or html). The answer is a line of JSON: `{"title", "text"}`, or `{"error"}`
with what is wrong with the file. What a file can do to its reader (loop, grow, crash) it does in here.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
from typing import Any

from gemmapy.rag.markup import read_html

CPU_LIMIT_S = 60
MEMORY_LIMIT_BYTES = 2 * 1024**3
PAGES_LIMIT = 5_000


class Unreadable(Exception):
    """The file is not what it says; the message says why."""


def main() -> None:
    """Reads, answers, ends."""
    with contextlib.suppress(ValueError, OSError):  # a platform without such limits: the parent's clock is left
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    data = sys.stdin.buffer.read()
    try:
        title, text = _read_pdf(data) if sys.argv[1] == "pdf" else read_html(data.decode())
        answer = {"title": title, "text": text}
    except Unreadable as error:
        answer = {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(answer).encode())


def _read_pdf(data: bytes) -> tuple[str, str]:
    """Title and text, pages separated by form feeds."""
    import pypdf

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it is protected by a password")
        if len(reader.pages) > PAGES_LIMIT:
            raise Unreadable(f"it has {len(reader.pages)} pages, at most {PAGES_LIMIT} are read")
        text = "\f".join(page.extract_text() for page in reader.pages)
        title: Any = reader.metadata.title if reader.metadata is not None else None
    except Unreadable:
        raise
    except Exception as error:  # a broken file can break its reader anywhere
        raise Unreadable(f"it is damaged or of an unknown kind ({type(error).__name__})") from error
    if not text.strip():
        raise Unreadable("it holds no text; pages that were scanned need OCR first")
    return str(title or ""), text


if __name__ == "__main__":
    main()
