"""Cuts a text into chunks: by headings, then paragraphs, then sentences, then words.

Pure. A chunk is a stretch `content[start:end]` of at most `limit` tokens, within one section; where a section has
several, each begins with the last sentences of the one before. All that is not white space is in some chunk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gemmapy.storage.pieces import NewChunk

CHUNK_TOKENS = 256
"""Small enough for the models that embed (often 512 tokens), and for several of them in a small model's context."""
OVERLAP_TOKENS = 40
BYTES_PER_TOKEN = 4
HEADING_LIMIT = 200
PAGE_BREAK = "\f"
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r"^[ ]{0,3}(```|~~~)")
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n+")
# After a full stop and a space (a closing quote may come between), or right after the full stop of scripts without any.
_SENTENCE_END = re.compile(
    r"(?<=[.!?\u2026])\s+|(?<=[.!?\u2026][\"'\u201d\u2019)])\s+|(?<=[\u3002\uff01\uff1f\uff61])\s*|\n"
)
_WORD_END = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class _Section:
    start: int
    end: int
    heading: str


def tokens_of(text: str) -> int:
    """About how many tokens a text has, by its bytes."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def cut(content: str, *, is_markdown: bool, limit: int = CHUNK_TOKENS, overlap: int = OVERLAP_TOKENS) -> list[NewChunk]:
    """The chunks of a text, in their order; with their headings' path where it is Markdown, with pages where it has."""
    found: list[NewChunk] = []
    for section in _sections(content, is_markdown=is_markdown):
        pieces = list(_pieces(content, section.start, section.end, limit))
        found += [NewChunk(start, end, section.heading) for start, end in _pack(content, pieces, limit, overlap)]
    return found


def _sections(content: str, *, is_markdown: bool) -> list[_Section]:
    """Stretches under one heading each; `#` lines inside a code fence are none. A page break begins a section too."""
    sections: list[_Section] = []
    path: list[tuple[int, str]] = []
    page = 1 if PAGE_BREAK in content else None
    start = position = 0
    fence: str | None = None

    def heading() -> str:
        steps = [title for _, title in path]
        return " > ".join([*([f"Page {page}"] if page is not None else []), *steps])[:HEADING_LIMIT]

    for line in content.splitlines(keepends=True):
        mark = _FENCE.match(line) if is_markdown else None
        if mark is not None:
            fence = mark[1] if fence is None else (None if mark[1] == fence else fence)
        found = _HEADING.match(line.rstrip("\r\n")) if is_markdown and fence is None else None
        if found is not None:
            sections.append(_Section(start, position, heading()))
            level = len(found[1])
            path = [*(step for step in path if step[0] < level), (level, found[2])]
            start = position
        position += len(line)
        if page is not None and line.endswith(PAGE_BREAK):
            sections.append(_Section(start, position, heading()))
            page += 1
            start = position
    sections.append(_Section(start, position, heading()))
    return [section for section in sections if content[section.start : section.end].strip()]


def _pieces(content: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """What is packed: sentences, and where one is too long by itself, words, and in need stretches of characters."""
    for paragraph in _split(content, start, end, _PARAGRAPH_END):
        for sentence in _split(content, *paragraph, _SENTENCE_END):
            if _fits(content, *sentence, limit):
                yield sentence
                continue
            for word in _split(content, *sentence, _WORD_END):
                yield from _hard(content, *word, limit)


def _split(content: str, start: int, end: int, ending: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Stretches between endings, without white space around them; empty ones left out."""
    begin = start
    for found in ending.finditer(content, start, end):
        yield from _trimmed(content, begin, found.start())
        begin = found.end()
    yield from _trimmed(content, begin, end)


def _trimmed(content: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    text = content[start:end]
    stripped = text.strip()
    if stripped:
        begin = start + len(text) - len(text.lstrip())
        yield begin, begin + len(stripped)


def _hard(content: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    """A word without an end, as of encoded data, in stretches that fit: a character has at most four bytes."""
    if _fits(content, start, end, limit):
        yield start, end
        return
    step = max(1, limit * BYTES_PER_TOKEN // 4)
    for begin in range(start, end, step):
        yield begin, min(begin + step, end)


def _fits(content: str, start: int, end: int, limit: int) -> bool:
    return tokens_of(content[start:end]) <= limit


def _pack(content: str, pieces: Sequence[tuple[int, int]], limit: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Joins neighbours while they fit; a new chunk goes back over pieces of the one before, as far as `overlap`."""
    first = 0
    while first < len(pieces):
        start = pieces[first][0]
        last = first
        while last + 1 < len(pieces) and _fits(content, start, pieces[last + 1][1], limit):
            last += 1
        yield start, pieces[last][1]
        if last + 1 == len(pieces):
            return
        following = last + 1
        # Goes back only where the next piece still fits behind what is repeated, so that each chunk has news.
        while (
            following - 1 > first
            and _fits(content, pieces[following - 1][0], pieces[last][1], overlap)
            and _fits(content, pieces[following - 1][0], pieces[last + 1][1], limit)
        ):
            following -= 1
        first = following
