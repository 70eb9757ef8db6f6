"""A kept answer in another shape than it was made in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.records import Usage
from gemmapy.gateway.asked import ENDPOINTS, Asked, Envelope, read
from gemmapy.gateway.entry import Entry
from gemmapy.gateway.replay import content_type, shaped

USAGE = Usage(12, 7)
CALL = {"function": {"name": "weather", "arguments": {"city": "Ulm"}}}
PIECES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6)


def _asked(path: str, *, stream: bool, wants_usage: bool = False) -> Asked:
    body: dict[str, Any] = {"model": "llama3", "messages": [], "prompt": "x", "stream": stream}
    if wants_usage:
        body["stream_options"] = {"include_usage": True}
    return read(Envelope(ENDPOINTS[path], [], datetime(2026, 11, 25, tzinfo=UTC), 0), json.dumps(body).encode(), 10**6)


def _entry(body: bytes, *, is_stream: bool, has_usage_chunk: bool = False) -> Entry:
    return Entry("llama3", body, is_stream=is_stream, has_usage_chunk=has_usage_chunk, content_type="own", usage=USAGE)


def _lines(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _events(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def _chunks(body: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]


def test_in_the_same_shape_it_is_the_same_bytes() -> None:
    for path in ("/api/chat", "/v1/chat/completions"):
        for stream in (True, False):
            one = _asked(path, stream=stream)
            kept = _entry(b'{"odd" :  1}\n', is_stream=stream)
            assert shaped(kept, one) == kept.body
            assert content_type(kept, one) == "own"


@given(PIECES, st.booleans())
def test_ollamas_lines_become_its_object_and_lines_again(pieces: list[str], is_chat: bool) -> None:
    path = "/api/chat" if is_chat else "/api/generate"

    def said(text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}

    end = {"model": "llama3", "created_at": "t", **said(""), "done": True, "eval_count": 7, "context": [1, 2]}
    stream = _lines(*({"model": "llama3", "created_at": "t", **said(p), "done": False} for p in pieces), end)
    whole = shaped(_entry(stream, is_stream=True), _asked(path, stream=False))
    assert json.loads(whole) == {**end, **said("".join(pieces))}
    again = shaped(_entry(whole, is_stream=False), _asked(path, stream=True))
    lines = [json.loads(line) for line in again.splitlines()]
    assert lines == [{"model": "llama3", "created_at": "t", **said("".join(pieces)), "done": False}, end]


def test_thinking_tools_and_logprobs_of_ollama_are_put_together() -> None:
    stream = _lines(
        {"message": {"role": "assistant", "content": "", "thinking": "h"}, "done": False, "logprobs": [{"token": "a"}]},
        {"message": {"role": "assistant", "content": "", "thinking": "m"}, "done": False, "logprobs": [{"token": "b"}]},
        {"message": {"role": "assistant", "content": "", "tool_calls": [CALL]}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": [CALL]}, "done": False},
        {"message": {"role": "assistant", "content": "So."}, "done": True},
    )
    whole = json.loads(shaped(_entry(stream, is_stream=True), _asked("/api/chat", stream=False)))
    assert whole["message"] == {"role": "assistant", "content": "So.", "thinking": "hm", "tool_calls": [CALL, CALL]}
    assert whole["logprobs"] == [{"token": "a"}, {"token": "b"}]
    back = shaped(_entry(json.dumps(whole).encode(), is_stream=False), _asked("/api/chat", stream=True))
    first, last = (json.loads(line) for line in back.splitlines())
    assert (first["message"], last["message"]) == (whole["message"], {"role": "assistant", "content": ""})


@given(PIECES, st.booleans())
def test_openais_chunks_become_its_object_and_chunks_again(pieces: list[str], is_chat: bool) -> None:
    path = "/v1/chat/completions" if is_chat else "/v1/completions"
    frame = {"id": "c1", "created": 5, "model": "llama3", "system_fingerprint": "fp"}

    def choice(text: str | None, end: str | None) -> dict[str, Any]:
        said = {"delta": {} if text is None else {"content": text}} if is_chat else {"text": text or ""}
        return {**frame, "object": "x.chunk", "choices": [{"index": 0, **said, "finish_reason": end}]}

    stream = _events(*(choice(piece, None) for piece in pieces), choice(None, "length"))
    whole = json.loads(shaped(_entry(stream, is_stream=True), _asked(path, stream=False)))
    text = "".join(pieces)
    (got,) = whole["choices"]
    assert (got["message"] if is_chat else got["text"]) == ({"role": "assistant", "content": text} if is_chat else text)
    assert (got["finish_reason"], whole["id"], whole["object"]) == (
        "length",
        "c1",
        "chat.completion" if is_chat else "text_completion",
    )
    assert whole["usage"] == {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
    kept = _entry(json.dumps(whole).encode(), is_stream=False)
    back = shaped(kept, _asked(path, stream=True))
    assert back.endswith(b"data: [DONE]\n\n")
    first, last = _chunks(back)
    said = first["choices"][0]
    assert (said["delta"]["content"] if is_chat else said["text"]) == text
    assert last["choices"][0]["finish_reason"] == "length"
    with_usage = _chunks(shaped(kept, _asked(path, stream=True, wants_usage=True)))
    assert (with_usage[-1]["choices"], with_usage[-1]["usage"]) == ([], whole["usage"])


def test_openais_tool_calls_in_pieces_and_several_choices_are_put_together() -> None:
    def call(**piece: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **piece}]}}]}

    stream = _events(
        {"id": "c", "choices": [{"index": 1, "delta": {"content": "b"}, "logprobs": {"content": [1]}}]},
        call(id="t1", type="function", function={"name": "weather", "arguments": ""}),
        call(function={"arguments": '{"city":'}),
        call(function={"arguments": '"Ulm"}'}),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [{"index": 1, "delta": {"content": "c"}, "logprobs": {"content": [2]}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 1}},
    )
    kept = _entry(stream, is_stream=True, has_usage_chunk=True)
    whole = json.loads(shaped(kept, _asked("/v1/chat/completions", stream=False)))
    first, second = whole["choices"]
    function = {"name": "weather", "arguments": '{"city":"Ulm"}'}
    assert first["message"]["tool_calls"] == [{"id": "t1", "type": "function", "function": function}]
    assert first["message"]["content"] is None
    assert (second["message"]["content"], second["logprobs"]) == ("bc", {"content": [1, 2]})
    assert whole["usage"] == {"prompt_tokens": 1}
    back = _chunks(
        shaped(_entry(json.dumps(whole).encode(), is_stream=False), _asked("/v1/chat/completions", stream=True))
    )
    assert back[0]["choices"][0]["delta"]["tool_calls"][0]["index"] == 0


def test_the_usage_chunk_is_there_for_those_who_ask_for_it_only() -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    usage = {"id": "c", "choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}}
    plain, full = (
        _asked("/v1/chat/completions", stream=True),
        _asked("/v1/chat/completions", stream=True, wants_usage=True),
    )
    without = _entry(_events(chunk), is_stream=True)
    with_it = _entry(_events(chunk, usage), is_stream=True, has_usage_chunk=True)
    assert _chunks(shaped(without, full)) == [chunk, usage]
    assert shaped(without, full).endswith(b"data: [DONE]\n\n")
    assert shaped(with_it, plain) == without.body
    assert shaped(with_it, full) == with_it.body
