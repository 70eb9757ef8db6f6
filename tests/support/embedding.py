"""An embedding model for the scripted upstream: words of one meaning have one direction."""

from __future__ import annotations

import re
import zlib
from typing import Any

from tests.support.scripted import Request, Script, whole

MEANINGS = {"feline": "cat", "kitten": "cat", "cats": "cat", "automobile": "car", "cars": "car", "money": "cost"}


def vector(text: str, dimension: int = 64) -> list[float]:
    """The sum of the directions of its words; never without one."""
    numbers = [0.0] * dimension
    numbers[0] = 0.01
    for word in re.findall(r"\w+", text.lower()):
        numbers[zlib.crc32(MEANINGS.get(word, word).encode()) % dimension] += 1.0
    return numbers


def embed(dimension: int = 64) -> Any:
    """A handler of `/api/embed`."""

    def answer(request: Request) -> Script:
        texts = request.json["input"]
        rows = [vector(text, dimension) for text in texts]
        tokens = sum(len(text.split()) for text in texts)
        return whole({"model": request.json["model"], "embeddings": rows, "prompt_eval_count": tokens})

    return answer
