"""A complete answer, as it is kept and given again."""

from __future__ import annotations

from dataclasses import dataclass

from gemmapy.core.records import Usage


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete answer."""

    model: str
    body: bytes
    """As the client got it, without what GemmaPy adds for one request: a whole object, or all frames of a stream."""
    is_stream: bool
    has_usage_chunk: bool
    """An OpenAI stream whose client had asked for the usage chunk."""
    content_type: str
    usage: Usage
    compute_ms: int | None = None
    finish_reason: str | None = None


NOTHING_YET = Entry("", b"", is_stream=False, has_usage_chunk=False, content_type="", usage=Usage())
"""What a request has that waits for another's answer."""
