"""Counts tokens where an upstream reports none, with the upstream's own tokenizer.

llama.cpp's server has `/apply-template` and `/tokenize`, vLLM has `/tokenize`. A server that has neither is not asked
again for a while, and the gateway estimates. Nothing here fails a request: None means that nobody could count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gemmapy.core.errors import GemmaPyError
from gemmapy.core.foreign import UNREADABLE
from gemmapy.upstreams.transport import Transport
from gemmapy.upstreams.upstream import Upstream

ASK_AGAIN_S = 300
TIMEOUT_S = 5
_LIMIT = 64 * 1024 * 1024
_unable_until: dict[str, float] = {}


class _Counted(msgspec.Struct):
    count: int | None = None
    tokens: list[Any] | None = None


class _Templated(msgspec.Struct):
    prompt: str


async def count_prompt(upstream: Upstream, transport: Transport, kind: str, body: bytes) -> int | None:
    """The tokens of an OpenAI request's prompt (`kind` is generate, chat or embed), the chat template included."""
    asked: dict[str, Any] = msgspec.json.decode(body)
    model = asked.get("model")
    if kind == "chat" or "messages" in asked:
        messages = asked.get("messages")
        tools = {"tools": asked["tools"]} if asked.get("tools") else {}
        templated = await _post(upstream, transport, "/apply-template", {"messages": messages, **tools})
        if templated is not None:
            try:
                prompt = msgspec.json.decode(templated, type=_Templated).prompt
            except UNREADABLE:
                return None
            return await _tokenize(upstream, transport, model, [prompt])
        counted = await _post(upstream, transport, "/tokenize", {"model": model, "messages": messages, **tools})
        return _count(counted)
    texts = asked.get("input") if kind == "embed" else asked.get("prompt")
    listed: list[Any] = texts if isinstance(texts, list) else [texts]  # pyright: ignore[reportUnknownVariableType]
    if not all(isinstance(text, str) for text in listed):
        return None
    return await _tokenize(upstream, transport, model, listed)


async def count_response(upstream: Upstream, transport: Transport, model: str, pieces: Sequence[bytes]) -> int | None:
    """The tokens of an answer, of which `pieces` are the JSON texts in order."""
    texts: list[str] = []
    for piece in pieces:
        said: Any = msgspec.json.decode(piece)
        texts.append(said if isinstance(said, str) else piece.decode())
    return await _tokenize(upstream, transport, model, ["".join(texts)]) if texts else 0


async def _tokenize(upstream: Upstream, transport: Transport, model: Any, texts: list[str]) -> int | None:
    total = 0
    for text in texts:
        # llama.cpp reads `content`, vLLM `prompt`; each ignores the other's.
        question = {"model": model, "content": text, "prompt": text, "parse_special": True}
        count = _count(await _post(upstream, transport, "/tokenize", question))
        if count is None:
            return None
        total += count
    return total


def _count(body: bytes | None) -> int | None:
    if body is None:
        return None
    try:
        said = msgspec.json.decode(body, type=_Counted)
    except UNREADABLE:
        return None
    return said.count if said.count is not None else (None if said.tokens is None else len(said.tokens))


async def _post(upstream: Upstream, transport: Transport, path: str, question: dict[str, Any]) -> bytes | None:
    memory = f"{upstream.name} {path}"
    if _unable_until.get(memory, 0) > time.monotonic():
        return None
    headers = [("Content-Type", "application/json"), ("Accept-Encoding", "identity"), *upstream.headers()]
    try:
        answer = await transport.send(
            "POST",
            upstream.root + path,
            headers,
            msgspec.json.encode(question),
            where=upstream.title,
            first_byte_s=TIMEOUT_S,
        )
        try:
            body = await answer.read(_LIMIT)
        finally:
            answer.close()
    except GemmaPyError:
        return None  # it has answered the request itself; the count is estimated
    if answer.status != 200:
        if answer.status in (404, 405, 501):
            _unable_until[memory] = time.monotonic() + ASK_AGAIN_S
        return None
    return body
