"""The child process of `cutting.py`: cuts one long text from standard input into chunks, and makes their words.

`python -m gemmapy.rag.cutter_child markdown` (or plain). The answer is MessagePack: a list of `NewChunk`. It is a
process because cutting takes seconds of computing, during which Python would keep every request waiting.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace

import msgspec

from gemmapy.rag.chunks import cut
from gemmapy.storage.words import words_of


def main() -> None:
    """Reads, answers, ends."""
    with contextlib.suppress(OSError):
        os.nice(10)  # requests first
    content = sys.stdin.buffer.read().decode()
    chunks = cut(content, is_markdown=sys.argv[1] == "markdown")
    with_words = [replace(chunk, words=words_of(content[chunk.start : chunk.end])) for chunk in chunks]
    sys.stdout.buffer.write(msgspec.msgpack.encode(with_words))


if __name__ == "__main__":
    main()
