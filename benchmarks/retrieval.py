"""How well documents are found: `python -m benchmarks.retrieval`, recall@1 and @5 by words, by vectors, by both.

A gateway in this process takes in the passages of `passages.py`, each a document, and is asked each one's question. The
embedding model is the bundled SmolLM2-135M (mean pooling), which is none by trade; with `--minilm FOLDER` it is
all-MiniLM-L6-v2, served by `minilm.py`.

Two kinds of questions, the two ends of what people ask: those of `passages.py`, which avoid the passage's words, and
three words of the passage, chosen by chance among its longer ones, as somebody types who knows what it says.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import minilm
from benchmarks.passages import PASSAGES
from gemmapy import logs
from gemmapy.app import build
from gemmapy.config import Settings
from gemmapy.gateway.auth import Caller
from gemmapy.rag.extraction import as_text
from gemmapy.rag.retrieval import Mode, Query
from gemmapy.storage.store import Store
from gemmapy.upstreams.llamacpp import BUNDLED_NAME

MODES: tuple[Mode, ...] = ("text", "vector", "hybrid")


async def measure(store: Store, settings: Settings) -> None:
    """Prints the table."""
    async with build(settings, store) as services:
        services.auth.first_admin("not a secret here")
        caller = Caller(1, "admin", is_admin=True)
        library = services.library
        began = time.monotonic()
        title_of: dict[int, str] = {}
        for title, text, _ in PASSAGES:
            added = await asyncio.to_thread(
                library.add, caller, as_text(text), title=title, size_bytes=len(text.encode())
            )
            title_of[added["id"]] = title
        taken_in = time.monotonic() - began
        await library.embedder.idle()
        print(f"{len(PASSAGES)} passages taken in in {taken_in:.1f} s, embedded in {time.monotonic() - began:.1f} s")
        print(f"embedding model: {settings.embedding_model}, {library.stats(caller)['embedded']}")
        print("| questions | mode | recall@1 | recall@5 | median ms |\n|---|---|---|---|---|")
        for kind, questions in (("in other words", in_other_words()), ("three of its words", in_its_words())):
            for mode in MODES:
                first = five = 0
                took_ms: list[float] = []
                for title, question in questions:
                    asked = time.monotonic()
                    found = await library.retriever.find(caller, Query(question, 5, mode))
                    took_ms.append((time.monotonic() - asked) * 1000)
                    assert found.mode == mode, found.note
                    titles = [title_of[hit.passage.document_id] for hit in found.hits]
                    first += titles[:1] == [title]
                    five += title in titles
                count, middle = len(questions), statistics.median(took_ms)
                print(f"| {kind} | {mode} | {first / count:.2f} | {five / count:.2f} | {middle:.1f} |")


def in_other_words() -> list[tuple[str, str]]:
    """Each passage's title and the question that was written for it."""
    return [(title, question) for title, _, question in PASSAGES]


def in_its_words() -> list[tuple[str, str]]:
    """Each passage's title and three of its words of five letters or more, none of them in the title."""
    chance = random.Random(7)
    asked: list[tuple[str, str]] = []
    for title, text, _ in PASSAGES:
        words = sorted(set(re.findall(r"[a-z]{5,}", text.lower())) - set(re.findall(r"\w+", title.lower())))
        asked.append((title, " ".join(chance.sample(words, 3))))
    return asked


def main() -> None:
    """Reads the command line and measures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minilm", type=Path, help="the folder of all-MiniLM-L6-v2")
    chosen = arguments.parse_args()
    logs.configure("error", "console")
    upstream, model = "llamacpp", BUNDLED_NAME
    if chosen.minilm is not None:
        upstream, model = f"openai={minilm.serve(chosen.minilm)}", minilm.NAME
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder) / "data", upstreams=upstream, embedding_model=model)  # pyright: ignore
        with Store.open(settings.data) as store:
            asyncio.run(measure(store, settings))


if __name__ == "__main__":
    main()
