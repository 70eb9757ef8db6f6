"""A text's words as the full-text index holds them. Pure, and loads nothing: a child process makes them too."""

from __future__ import annotations

import re

# Scripts without spaces between words: each character is a word, and a question's run of them is a phrase.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def words_of(text: str) -> str:
    """A text as it is indexed: its words, separated by spaces."""
    return " ".join(spread(word) for word in WORD.findall(text))


def spread(word: str) -> str:
    """A word, or the characters of a script without spaces, each by itself."""
    return " ".join(word) if _IS_UNSPACED.match(word) else word
