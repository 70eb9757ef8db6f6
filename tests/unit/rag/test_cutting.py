"""Long texts are cut in a process of their own, and come out the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemmapy.rag import cutting
from gemmapy.rag.chunks import cut
from gemmapy.storage.words import words_of

PART = "# Birds\n\nThe heron stands in the water. \u6771\u4eac. It waits.\n\n## Food\n\nFish and frogs.\n\n"
LONG = PART * (cutting.LONG // len(PART) + 1)


@pytest.mark.parametrize("is_markdown", [False, True])
def test_a_long_text_is_cut_as_a_short_one_is(is_markdown: bool) -> None:
    apart = cutting.chunks_of(LONG, is_markdown=is_markdown)
    assert [replace(chunk, words=None) for chunk in apart] == cut(LONG, is_markdown=is_markdown)
    assert all(chunk.words == words_of(LONG[chunk.start : chunk.end]) for chunk in apart)


def test_where_no_process_can_be_had_it_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "CUTTER", "gemmapy.rag.nothing")
    assert cutting.chunks_of(LONG, is_markdown=True) == cut(LONG, is_markdown=True)


def test_a_short_text_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting.subprocess, "run", lambda *_a, **_k: pytest.fail("a process was started"))
    assert cutting.chunks_of(PART, is_markdown=True) == cut(PART, is_markdown=True)
