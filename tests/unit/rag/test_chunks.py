"""Chunks: whatever the text, nothing is lost, nothing is too long, offsets are right."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.rag.chunks import cut, tokens_of

GUIDE = """# Guide

Welcome. It begins here.

## Install

Run the installer. Then restart.

```sh
# not a heading
make run
```

### On Debian

Use apt.

## Use

Open the page.
"""
_texts = st.text(st.sampled_from("ab .\n#!?`\f\tß語。"), max_size=400) | st.text(max_size=200)


@given(_texts, st.booleans(), st.integers(1, 40), st.integers(0, 20))
def test_every_character_that_is_no_space_is_in_a_chunk_and_no_chunk_is_too_long(
    content: str, is_markdown: bool, limit: int, overlap: int
) -> None:
    chunks = cut(content, is_markdown=is_markdown, limit=limit, overlap=overlap)
    covered: set[int] = set()
    for chunk in chunks:
        text = content[chunk.start : chunk.end]
        assert text.strip() == text
        assert text
        assert tokens_of(text) <= limit or len(text) == 1
        covered |= set(range(chunk.start, chunk.end))
    assert all(content[place].isspace() for place in set(range(len(content))) - covered)
    assert [chunk.start for chunk in chunks] == sorted({chunk.start for chunk in chunks})
    assert [chunk.end for chunk in chunks] == sorted({chunk.end for chunk in chunks})


def test_chunks_stand_under_their_headings() -> None:
    chunks = cut(GUIDE, is_markdown=True)
    assert [chunk.heading for chunk in chunks] == [
        "Guide",
        "Guide > Install",
        "Guide > Install > On Debian",
        "Guide > Use",
    ]
    assert "# not a heading" in GUIDE[chunks[1].start : chunks[1].end]


def test_text_that_is_not_markdown_has_no_headings() -> None:
    assert {chunk.heading for chunk in cut(GUIDE, is_markdown=False)} == {""}


def test_pages_are_told_apart() -> None:
    assert [chunk.heading for chunk in cut("one\ftwo\n\f\fthree", is_markdown=False)] == ["Page 1", "Page 2", "Page 4"]


def test_neighbours_share_whole_sentences() -> None:
    content = " ".join(f"Sentence number {number} is here." for number in range(40))
    chunks = cut(content, is_markdown=False, limit=50, overlap=20)
    assert len(chunks) > 5
    for one, next_one in pairwise(chunks):
        shared = content[next_one.start : one.end]
        assert shared.startswith("Sentence number")
        assert shared.endswith(".")
        assert tokens_of(shared) <= 20


@pytest.mark.parametrize("content", ["", " \n\f\n ", "\n\n"])
def test_nothing_makes_no_chunks(content: str) -> None:
    assert cut(content, is_markdown=True) == []


def test_scripts_without_spaces_end_sentences_at_their_own_stops() -> None:
    content = "これは文です。これも文です。" * 20
    chunks = cut(content, is_markdown=False, limit=60, overlap=0)
    assert len(chunks) > 2
    assert all(content[chunk.start : chunk.end].endswith("。") for chunk in chunks)
