"""A document's chunks: short texts are cut here, long ones in a child process that keeps nobody waiting."""

from __future__ import annotations

import subprocess
import sys
import threading

import msgspec
import structlog

from gemmapy.rag.chunks import cut
from gemmapy.storage.pieces import NewChunk

CUTTER = "gemmapy.rag.cutter_child"
LONG = 200_000
"""Characters. Cutting so many takes some 50 ms, a process takes 200 to start."""
CUT_TIMEOUT_S = 120
_CUTTERS = threading.Semaphore(2)
_decode = msgspec.msgpack.Decoder(list[NewChunk]).decode
_log = structlog.stdlib.get_logger()


def chunks_of(content: str, *, is_markdown: bool) -> list[NewChunk]:
    """The chunks of a text, in their order. Blocks."""
    if len(content) < LONG:
        return cut(content, is_markdown=is_markdown)
    with _CUTTERS:
        try:
            ran = subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-m", CUTTER, "markdown" if is_markdown else "plain"],
                input=content.encode(),
                capture_output=True,
                timeout=CUT_TIMEOUT_S,
                check=True,
            )
            return _decode(ran.stdout)
        except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
            _log.warning("a document could not be cut in a process of its own", reason=type(error).__name__)
    return cut(content, is_markdown=is_markdown)  # slower for everybody, and as right
