"""Dialects into each other: what is asked, what is answered, whole and streamed."""

from __future__ import annotations

import base64
import json
import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.core.errors import InvalidRequest, UpstreamError
from gemmapy.upstreams.translation import Translation, is_load, load_answer, message_of, openai_error, translate

NOW = datetime(2026, 11, 24, 10, 0, 0, 5000, UTC)
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 30).decode()
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}


def made(path: str, body: dict[str, Any], *, stream: bool = False) -> Translation:
    clock = iter(range(0, 10**12, 10**9))
    return translate(
        "openai" if path.startswith("/v1") else "ollama",
        path,
        json.dumps(body).encode(),
        now=lambda: NOW,
        clock_ns=lambda: next(clock),
        started_ns=0,
        request_id="01890a5d-ac96-774b-bcce-b302099a8057",
        stream=stream,
    )


def asked(path: str, body: dict[str, Any], *, stream: bool = False) -> dict[str, Any]:
    """What the upstream is asked."""
    return json.loads(made(path, {"model": "m", **body}, stream=stream).body)


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def line(data: Any) -> bytes:
    return json.dumps(data).encode() + b"\n"


def streamed(translation: Translation, frames: list[bytes]) -> list[bytes]:
    out = [client for frame in frames for client in translation.frame(frame)]
    return out + translation.end()


# Ollama's client over OpenAI's dialect: what is asked


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/api/generate",
            {"prompt": "Why?", "system": "Be brief"},
            {"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Why?"}]},
        ),
        ("/api/generate", {"prompt": "Why?", "raw": True}, {"prompt": "Why?"}),
        ("/api/generate", {"prompt": "def f(", "suffix": "return"}, {"prompt": "def f(", "suffix": "return"}),
        (
            "/api/generate",
            {"prompt": "What?", "images": [PNG]},
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What?"},
                            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                        ],
                    }
                ]
            },
        ),
        (
            "/api/chat",
            {"messages": [], "options": {"temperature": 0, "num_predict": 7, "top_k": 3, "num_ctx": 9, "stop": ["a"]}},
            {"messages": [], "temperature": 0, "max_tokens": 7, "top_k": 3, "stop": ["a"]},
        ),
        ("/api/chat", {"messages": [], "options": {"num_predict": -1}}, {"messages": []}),
        ("/api/chat", {"messages": [], "format": "json"}, {"messages": [], "response_format": {"type": "json_object"}}),
        (
            "/api/chat",
            {"messages": [], "format": SCHEMA},
            {
                "messages": [],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
                },
            },
        ),
        (
            "/api/chat",
            {"messages": [], "think": False},
            {"messages": [], "chat_template_kwargs": {"enable_thinking": False}},
        ),
        (
            "/api/chat",
            {"messages": [], "think": "high"},
            {"messages": [], "reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": True}},
        ),
        ("/api/chat", {"messages": [], "tools": TOOLS}, {"messages": [], "tools": TOOLS}),
        (
            "/api/chat",
            {"messages": [], "logprobs": True, "top_logprobs": 3},
            {"messages": [], "logprobs": True, "top_logprobs": 3},
        ),
        ("/api/chat", {"messages": [], "keep_alive": "5m", "unknown": 1}, {"messages": []}),
    ],
)
def test_ollamas_question_in_openais_words(path: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert asked(path, body) == {"model": "m", "stream": False, **expected}


def test_a_stream_asks_for_usage() -> None:
    question = asked("/api/chat", {"messages": []}, stream=True)
    assert (question["stream"], question["stream_options"]) == (True, {"include_usage": True})


@pytest.mark.parametrize(
    ("path", "body", "upstream_path"),
    [
        ("/api/generate", {"prompt": "x"}, "/v1/chat/completions"),
        ("/api/generate", {"prompt": "x", "raw": True}, "/v1/completions"),
        ("/api/chat", {"messages": []}, "/v1/chat/completions"),
        ("/api/embed", {"input": "x"}, "/v1/embeddings"),
        ("/v1/chat/completions", {"messages": []}, "/api/chat"),
        ("/v1/completions", {"prompt": "x"}, "/api/generate"),
        ("/v1/embeddings", {"input": "x"}, "/api/embed"),
    ],
)
def test_each_path_has_its_counterpart(path: str, body: dict[str, Any], upstream_path: str) -> None:
    assert made(path, {"model": "m", **body}).path == upstream_path


def test_tool_results_find_the_calls_that_they_answer() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Ulm"}}}
    other = {"function": {"name": "time", "arguments": {}}}
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [call, other]},
        {"role": "tool", "content": "12:00", "tool_name": "time"},
        {"role": "tool", "content": "rain", "tool_name": "weather"},
    ]
    said = asked("/api/chat", {"messages": messages})["messages"]
    calls = said[0]["tool_calls"]
    assert calls[0]["function"] == {"name": "weather", "arguments": '{"city":"Ulm"}'}
    assert len({calls[0]["id"], calls[1]["id"]}) == 2
    assert said[1]["tool_call_id"] == calls[1]["id"]
    assert said[2]["tool_call_id"] == calls[0]["id"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"messages": "x"}, r"\$\.messages"),
        ({"messages": [], "format": "xml"}, "format must be"),
        ({"messages": [], "think": "loudly"}, "think must be"),
        ({"messages": [], "options": {"num_predict": "7"}}, "num_predict must be"),
        ({"messages": [{"role": "user", "images": ["not base64!"]}]}, "base64"),
    ],
)
def test_what_makes_no_sense_is_refused(body: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        made("/api/chat", {"model": "m", **body})


# What is answered


USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


def test_a_whole_answer_becomes_ollamas() -> None:
    body = {
        "choices": [{"message": {"content": "Hi", "reasoning_content": "hm"}, "finish_reason": "length"}],
        "usage": USAGE,
        "timings": {"prompt_ms": 1.5, "predicted_ms": 20},
    }
    said = json.loads(made("/api/chat", {"model": "m", "messages": []}).answer(json.dumps(body).encode()))
    assert said == {
        "model": "m",
        "created_at": "2026-11-24T10:00:00.005000Z",
        "message": {"role": "assistant", "content": "Hi", "thinking": "hm"},
        "done": True,
        "done_reason": "length",
        "total_duration": 0,
        "load_duration": 0,
        "prompt_eval_count": 5,
        "prompt_eval_duration": 1_500_000,
        "eval_count": 2,
        "eval_duration": 20_000_000,
    }


def test_a_stream_becomes_lines_and_ends_with_the_counts() -> None:
    translation = made("/api/generate", {"model": "m", "prompt": "x"}, stream=True)
    frames = [
        event({"choices": [{"delta": {"role": "assistant", "content": None}}]}),
        event({"choices": [{"delta": {"reasoning": "hm"}}]}),
        event({"choices": [{"delta": {"content": "Hi"}, "logprobs": {"content": [{"token": "Hi", "logprob": -1}]}}]}),
        event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
        event({"choices": [], "usage": USAGE}),
        event(b"[DONE]"),
    ]
    lines = [json.loads(raw) for raw in streamed(translation, frames)]
    assert [(entry["response"], entry["done"]) for entry in lines] == [("", False), ("Hi", False), ("", True)]
    assert lines[0]["thinking"] == "hm"
    assert lines[1]["logprobs"] == [{"token": "Hi", "logprob": -1}]
    assert (lines[2]["done_reason"], lines[2]["prompt_eval_count"], lines[2]["eval_count"]) == ("stop", 5, 2)


@given(st.lists(st.integers(min_value=0, max_value=24), max_size=6))
def test_a_tool_call_is_the_same_however_its_arguments_are_cut(cuts: list[int]) -> None:
    arguments = '{"city":"Ulm","days":[1,2]}'
    ends = [*sorted(set(cuts)), len(arguments)]
    pieces = [arguments[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    first = {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": ""}}
    frames = [event({"choices": [{"delta": {"tool_calls": [first]}}]})]
    frames += [
        event({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}]})
        for piece in pieces
    ]
    frames.append(event({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}))
    lines = [
        json.loads(raw) for raw in streamed(made("/api/chat", {"model": "m", "messages": []}, stream=True), frames)
    ]
    assert lines[0]["message"]["tool_calls"] == [
        {"id": "call_1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Ulm", "days": [1, 2]}}}
    ]
    assert lines[1]["done"] is True


def test_arguments_that_are_no_object_are_the_upstreams_fault() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": "{oops"}}
    translation = made("/api/chat", {"model": "m", "messages": []}, stream=True)
    with pytest.raises(UpstreamError, match="arguments"):
        streamed(translation, [event({"choices": [{"delta": {"tool_calls": [call]}}]})])


def test_an_error_inside_a_stream_becomes_the_other_dialects() -> None:
    over_openai = made("/api/chat", {"model": "m", "messages": []}, stream=True)
    assert over_openai.frame(event({"error": {"message": "boom"}})) == [b'{"error":"boom"}\n']
    over_ollama = made("/v1/chat/completions", {"model": "m", "messages": []}, stream=True)
    said = json.loads(over_ollama.frame(line({"error": "boom"}))[0][6:])
    assert said["error"]["message"] == "boom"


def test_error_bodies_change_their_shape() -> None:
    over_openai = made("/api/chat", {"model": "m", "messages": []})
    assert over_openai.error(404, b'{"error":{"message":"no such model"}}') == b'{"error":"no such model"}'
    assert over_openai.error(500, b"") == b'{"error":"the model server answered 500"}'
    over_ollama = made("/v1/chat/completions", {"model": "m", "messages": []})
    said = json.loads(over_ollama.error(404, b'{"error":"model not found"}'))
    assert said["error"]["message"] == "model not found"
    assert said["error"]["type"] == "not_found_error"


def test_embeddings_become_ollamas() -> None:
    body = b'{"data":[{"index":1,"embedding":[3e-1]},{"index":0,"embedding":[0.10]}],"usage":{"prompt_tokens":4}}'
    said = made("/api/embed", {"model": "m", "input": ["a", "b"]}).answer(body)
    assert b'"embeddings":[[0.10],[3e-1]]' in said  # the numbers' own digits
    assert json.loads(said)["prompt_eval_count"] == 4
    assert made("/api/embeddings", {"model": "m", "prompt": "a"}).answer(body) == b'{"embedding":[0.10]}'
    assert asked("/api/embeddings", {"prompt": "a"})["input"] == "a"


# OpenAI's client over Ollama's dialect


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "developer", "content": "Be brief"}, {"role": "user", "content": "Why?"}]},
            {"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Why?"}]},
        ),
        (
            "/v1/chat/completions",
            {"messages": [], "max_completion_tokens": 9, "stop": "a", "temperature": 0.5, "seed": 1},
            {"messages": [], "options": {"num_predict": 9, "stop": ["a"], "temperature": 0.5, "seed": 1}},
        ),
        (
            "/v1/chat/completions",
            {"messages": [], "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            {"messages": [], "format": SCHEMA},
        ),
        ("/v1/chat/completions", {"messages": [], "reasoning_effort": "none"}, {"messages": [], "think": False}),
        ("/v1/chat/completions", {"messages": [], "tools": TOOLS}, {"messages": [], "tools": TOOLS}),
        ("/v1/chat/completions", {"messages": [], "tools": TOOLS, "tool_choice": "none"}, {"messages": []}),
        ("/v1/completions", {"prompt": ["Why?"], "suffix": "."}, {"prompt": "Why?", "suffix": "."}),
    ],
)
def test_openais_question_in_ollamas_words(path: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert asked(path, body) == {"model": "m", "stream": False, **expected}


def test_parts_tools_and_results_reach_ollama() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
    parts = [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
    ]
    assert asked("/v1/chat/completions", {"messages": messages})["messages"] == [
        {"role": "user", "content": "What?", "images": [PNG]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Ulm"}}}],
        },
        {"role": "tool", "content": "rain", "tool_name": "weather"},
    ]


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/chat/completions", {"messages": [], "n": 2}, "n must be 1"),
        (
            "/v1/chat/completions",
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}
                ]
            },
            "data: URL",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "text or image_url"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "one text"),
        ("/v1/embeddings", {"input": [1, 2]}, "takes no tokens"),
        ("/v1/embeddings", {"input": "x", "encoding_format": "int8"}, "float or base64"),
    ],
)
def test_what_ollama_has_no_word_for_is_refused(path: str, body: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        made(path, {"model": "m", **body})


END = {"done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2}


def test_a_whole_answer_becomes_openais() -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Ulm"}}}
    body = {"message": {"content": "", "thinking": "hm", "tool_calls": [call]}, **END}
    said = json.loads(made("/v1/chat/completions", {"model": "m", "messages": []}).answer(json.dumps(body).encode()))
    choice = said["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning"] == "hm"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Ulm"}'}
    assert said["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert (said["object"], said["model"], said["created"]) == ("chat.completion", "m", int(NOW.timestamp()))


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_stream_becomes_events(wants_usage: bool) -> None:
    body = {"model": "m", "messages": [], "stream_options": {"include_usage": wants_usage}}
    translation = made("/v1/chat/completions", body, stream=True)
    events = streamed(translation, [line({"message": {"content": "Hi"}}), line({"message": {"content": ""}, **END})])
    assert events[-1] == b"data: [DONE]\n\n"
    chunks = [json.loads(raw[6:]) for raw in events[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "Hi"}
    assert chunks[1]["choices"][0]["finish_reason"] == "stop"
    assert len(chunks) == (3 if wants_usage else 2)
    if wants_usage:
        assert (chunks[2]["choices"], chunks[2]["usage"]["total_tokens"]) == ([], 7)
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_embeddings_become_openais_also_in_base64() -> None:
    body = b'{"embeddings":[[0.5,-2.0]],"prompt_eval_count":3}'
    plain = json.loads(made("/v1/embeddings", {"model": "m", "input": "x"}).answer(body))
    assert plain["data"] == [{"object": "embedding", "embedding": [0.5, -2.0], "index": 0}]
    packed = json.loads(made("/v1/embeddings", {"model": "m", "input": "x", "encoding_format": "base64"}).answer(body))
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (0.5, -2.0)


# Loading


@pytest.mark.parametrize(
    ("path", "body", "loads"),
    [
        ("/api/generate", {}, True),
        ("/api/generate", {"prompt": ""}, True),
        ("/api/generate", {"prompt": "x"}, False),
        ("/api/generate", {"images": [PNG]}, False),
        ("/api/chat", {"messages": []}, True),
        ("/api/chat", {"messages": [{"role": "user"}]}, False),
        ("/api/embed", {"input": ""}, False),
    ],
)
def test_a_question_without_a_prompt_loads(path: str, body: dict[str, Any], loads: bool) -> None:
    assert is_load(path, json.dumps({"model": "m", **body}).encode()) is loads


def test_keep_alive_zero_unloads() -> None:
    said = json.loads(load_answer("/api/generate", b'{"model":"m","keep_alive":0}', NOW))
    assert (said["response"], said["done"], said["done_reason"]) == ("", True, "unload")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":"a"}', "a"),
        (b'{"error":{"message":"b"}}', "b"),
        (b'{"detail":"c"}', "c"),
        (b"plain", "plain"),
        (b"[1]", None),
        (b"", None),
        (openai_error("d", status=404), "d"),
    ],
)
def test_a_message_is_found_in_any_shape(body: bytes, message: str | None) -> None:
    assert message_of(body) == message
