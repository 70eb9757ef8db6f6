"""A piece of a document as it comes in. Loads nothing: a child process makes them too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NewChunk:
    """Where a chunk stands in its document's content, in characters, and under which headings."""

    start: int
    end: int
    heading: str
    words: str | None = None
    """Of its text, as the full-text index holds them; None: they are made as it is written."""
