"""A kept answer in the shape that is asked for: whole or streamed, in the dialect it was made in.

Pure. Where the shapes are the same, the bytes are those that its first client got. A stream that was made whole is what
the server would have said whole, and the other way round, as far as the one can be read from the other.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gemmapy.core.records import Usage
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.entry import Entry
from gemmapy.upstreams.frames import SseDecoder, sse_data

_DONE = b"data: [DONE]\n\n"
_NDJSON = "application/x-ndjson"
_SSE = "text/event-stream"
_JSON = "application/json; charset=utf-8"
_JOINED = ("content", "reasoning_content", "reasoning", "refusal")


def content_type(entry: Entry, asked: Asked) -> str:
    """Of what `shaped` makes."""
    if entry.is_stream == asked.stream:
        return entry.content_type
    return _JSON if not asked.stream else _NDJSON if asked.endpoint.dialect == "ollama" else _SSE


def shaped(entry: Entry, asked: Asked) -> bytes:
    """The answer as `asked` wants it."""
    if asked.endpoint.dialect == "ollama":
        if entry.is_stream == asked.stream:
            return entry.body
        return _ollama_lines(entry.body) if asked.stream else _ollama_whole(entry.body)
    is_chat = asked.endpoint.kind == "chat"
    if not asked.stream:
        return _openai_whole(entry, is_chat=is_chat) if entry.is_stream else entry.body
    if not entry.is_stream:
        return _openai_events(entry, is_chat=is_chat, with_usage=asked.wants_usage)
    if entry.has_usage_chunk == asked.wants_usage:
        return entry.body
    events = SseDecoder().feed(entry.body)
    if asked.wants_usage:
        return _with_usage(events, entry.usage)
    return b"".join(event for event in events if not _is_usage(event))


def _ollama_whole(body: bytes) -> bytes:
    """Ollama's lines as the one object that it answers to `"stream": false`."""
    lines: list[dict[str, Any]] = [msgspec.json.decode(line) for line in body.splitlines() if line.strip()]
    whole = dict(lines[-1])
    for name in ("response", "thinking"):
        if any(name in line for line in lines):
            whole[name] = "".join(line.get(name) or "" for line in lines)
    if "message" in whole:
        message: dict[str, Any] = {}
        for line in lines:
            piece: dict[str, Any] = line.get("message") or {}
            for name, value in piece.items():
                joins = name != "role" and isinstance(value, str | list)
                message[name] = message[name] + value if joins and name in message else value
        whole["message"] = message
    logprobs = [one for line in lines for one in line.get("logprobs") or ()]
    if logprobs:
        whole["logprobs"] = logprobs
    return msgspec.json.encode(whole)


def _ollama_lines(body: bytes) -> bytes:
    """Ollama's one object as lines: all that was said, then the end."""
    whole: dict[str, Any] = msgspec.json.decode(body)
    said = {name: whole[name] for name in ("model", "created_at") if name in whole}
    end = {name: value for name, value in whole.items() if name not in ("logprobs", "thinking")}
    if "message" in whole:
        message: dict[str, Any] = whole["message"]
        said["message"] = message
        end["message"] = {"role": message.get("role", "assistant"), "content": ""}
        has_text = any(value for name, value in message.items() if name != "role")
    else:
        said |= {name: whole[name] for name in ("response", "thinking") if name in whole}
        end["response"] = ""
        has_text = bool(whole.get("response") or whole.get("thinking"))
    if "logprobs" in whole:
        said["logprobs"] = whole["logprobs"]
    lines = [{**said, "done": False}, end] if has_text else [end]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _openai_whole(entry: Entry, *, is_chat: bool) -> bytes:
    """Chunks as the one object that the server answers without `stream`."""
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    usage: Any = None
    for event in SseDecoder().feed(entry.body):
        data = sse_data(event)
        if data is None or data.strip() in (b"", b"[DONE]"):
            continue
        chunk: dict[str, Any] = msgspec.json.decode(data)
        usage = chunk.get("usage") or usage
        whole |= {name: value for name, value in chunk.items() if name not in ("choices", "usage")}
        for choice in chunk.get("choices") or ():
            index = choice.get("index", 0)
            known = choices.setdefault(index, {"index": index})
            if is_chat:
                _add_delta(
                    known.setdefault("message", {"role": "assistant", "content": None}), choice.get("delta") or {}
                )
            else:
                known["text"] = known.get("text", "") + (choice.get("text") or "")
            _add_logprobs(known, choice.get("logprobs"))
            known["finish_reason"] = choice.get("finish_reason") or known.get("finish_reason")
    whole["object"] = "chat.completion" if is_chat else "text_completion"
    whole["choices"] = [choices[index] for index in sorted(choices)]
    whole["usage"] = usage or _usage(entry.usage)
    return msgspec.json.encode(whole)


def _add_delta(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name in _JOINED:
            if value is not None:
                message[name] = (message.get(name) or "") + value
        elif name == "tool_calls":
            calls: list[dict[str, Any]] = message.setdefault("tool_calls", [])
            for place, piece in enumerate(value or ()):
                _add_call(calls, piece.get("index", place), piece)
        elif value is not None:
            message[name] = value


def _add_call(calls: list[dict[str, Any]], index: int, piece: dict[str, Any]) -> None:
    while len(calls) <= index:
        calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[index]
    function: dict[str, str | None] = piece.get("function") or {}
    for part in ("name", "arguments"):
        call["function"][part] += function.get(part) or ""
    call |= {name: value for name, value in piece.items() if name not in ("index", "function") and value is not None}


def _add_logprobs(choice: dict[str, Any], said: Any) -> None:
    if not isinstance(said, dict):
        choice.setdefault("logprobs", None)
        return
    known: dict[str, Any] = choice.get("logprobs") or {}
    for name, value in said.items():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        known[str(name)] = [*(known.get(str(name)) or ()), *value] if isinstance(value, list) else value  # pyright: ignore
    choice["logprobs"] = known


def _openai_events(entry: Entry, *, is_chat: bool, with_usage: bool) -> bytes:
    """One object as chunks: what was said, how it ended, and the usage where that is asked for."""
    whole: dict[str, Any] = msgspec.json.decode(entry.body)
    frame = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    frame["object"] = "chat.completion.chunk" if is_chat else "text_completion"
    chunks: list[dict[str, Any]] = []
    for choice in whole.get("choices") or ():
        index, logprobs = choice.get("index", 0), choice.get("logprobs")
        said: dict[str, Any] = {"index": index, "logprobs": logprobs, "finish_reason": None}
        end: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": choice.get("finish_reason")}
        if is_chat:
            delta = dict(choice.get("message") or {})
            if delta.get("tool_calls"):
                delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(delta["tool_calls"])]
            said["delta"], end["delta"] = delta, {}
        else:
            said["text"], end["text"] = choice.get("text") or "", ""
        chunks += [{**frame, "choices": [said]}, {**frame, "choices": [end]}]
    if with_usage:
        chunks.append({**frame, "choices": [], "usage": whole.get("usage") or _usage(entry.usage)})
    return b"".join(_event(chunk) for chunk in chunks) + _DONE


def _with_usage(events: list[bytes], usage: Usage) -> bytes:
    """A stream with the usage chunk that its first client had not asked for."""
    frame: dict[str, Any] = {}
    for event in events:
        data = sse_data(event)
        if data is not None and data.startswith(b"{"):
            frame = msgspec.json.decode(data)
            break
    chunk = _event({**frame, "choices": [], "usage": _usage(usage)})
    place = next((n for n, event in enumerate(events) if (sse_data(event) or b"").strip() == b"[DONE]"), len(events))
    return b"".join([*events[:place], chunk, *events[place:]])


class _Chunk(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw()


def _is_usage(event: bytes) -> bool:
    data = sse_data(event)
    if data is None or b'"usage"' not in data:
        return False
    said = msgspec.json.decode(data, type=_Chunk)
    return said.choices == [] and bytes(said.usage) not in (b"", b"null")


def _usage(usage: Usage) -> dict[str, Any]:
    prompt, response = usage.prompt_tokens or 0, usage.response_tokens or 0
    said: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": response, "total_tokens": prompt + response}
    if usage.cached_prompt_tokens is not None:
        said["prompt_tokens_details"] = {"cached_tokens": usage.cached_prompt_tokens}
    return said


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
