"""An OpenAI client over a server that speaks only Ollama's own dialect.

Follows what Ollama's own `/v1` does with the same requests, `system_fingerprint` included.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.foreign import UNREADABLE
from gemmapy.upstreams.translation.context import Context, base64_of, read_answer, read_request
from gemmapy.upstreams.translation.errors import message_of, openai_error, openai_stream_error, text_of

FINGERPRINT = "fp_ollama"
_SAME_OPTIONS = ["temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty"]


class _Url(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    image_url: _Url | str | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Schema(msgspec.Struct):
    schema: dict[str, Any] | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message] | None = None
    prompt: str | list[Any] | None = None
    suffix: str | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    reasoning: _Reasoning | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    stream_options: _StreamOptions | None = None


class _EmbedRequest(msgspec.Struct):
    model: str
    input: str | list[Any]
    encoding_format: str | None = None
    dimensions: int | None = None


class _SaidFunction(msgspec.Struct):
    name: str = ""
    arguments: Any = None


class _SaidCall(msgspec.Struct):
    function: _SaidFunction
    id: str | None = None


class _SaidMessage(msgspec.Struct):
    content: str = ""
    thinking: str = ""
    tool_calls: list[_SaidCall] | None = None


class _Line(msgspec.Struct):
    message: _SaidMessage | None = None
    response: str = ""
    thinking: str = ""
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[Any] | None = None
    error: Any = None


class _Embeddings(msgspec.Struct):
    embeddings: list[msgspec.Raw]
    prompt_eval_count: int | None = None


def openai_over_ollama(context: Context, body: bytes) -> OpenAICompletion | OpenAIEmbedding:
    """The translation of one request. Raises InvalidRequest."""
    if context.path == "/v1/embeddings":
        return OpenAIEmbedding(context, body)
    return OpenAICompletion(context, body)


class OpenAICompletion:
    """`/v1/chat/completions` and `/v1/completions`."""

    def __init__(self, context: Context, body: bytes) -> None:
        asked = read_request(body, _Request)
        if asked.n is not None and asked.n != 1:
            raise InvalidRequest(f"n must be 1: this model server gives one answer a request, got {asked.n}.")
        self._context = context
        self._model = asked.model
        self._is_chat = context.path == "/v1/chat/completions"
        self.path = "/api/chat" if self._is_chat else "/api/generate"
        self.body = msgspec.json.encode(_question(context, asked, is_chat=self._is_chat))
        self._wants_usage = asked.stream_options is not None and asked.stream_options.include_usage is True
        self._id = f"{'chatcmpl' if self._is_chat else 'cmpl'}-{context.request_id}"
        self._created = int(context.now().timestamp())
        self._began = False
        self._calls = 0

    @property
    def content_type(self) -> str:
        return "text/event-stream" if self._context.stream else "application/json"

    def answer(self, body: bytes) -> bytes:
        said = read_answer(body, _Line)
        message: dict[str, Any] = {"role": "assistant"}
        text, thinking, calls = self._pieces(said)
        message["content"] = text
        if thinking:
            message["reasoning"] = thinking
        if calls:
            message["tool_calls"] = calls
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._finish_reason(said)}
        choice["message" if self._is_chat else "text"] = message if self._is_chat else text
        if said.logprobs:
            choice["logprobs"] = {"content": said.logprobs}
        kind = "chat.completion" if self._is_chat else "text_completion"
        return msgspec.json.encode({**self._head(kind), "choices": [choice], "usage": _usage(said)})

    def frame(self, frame: bytes) -> list[bytes]:
        if not frame.strip():
            return []
        said = read_answer(frame, _Line)
        if said.error:
            return [openai_stream_error(text_of(said.error) or "the model server failed", status=500)]
        text, thinking, calls = self._pieces(said)
        events: list[bytes] = []
        if text or thinking or calls or (not self._began and self._is_chat):
            delta: dict[str, Any] = {"role": "assistant"} if not self._began else {}
            self._began = True
            delta["content"] = text
            if thinking:
                delta["reasoning"] = thinking
            if calls:
                delta["tool_calls"] = calls
            events.append(self._chunk(delta, text, None, said.logprobs))
        if said.done:
            events.append(self._chunk({}, "", self._finish_reason(said), None))
            if self._wants_usage:
                events.append(_event({**self._head(self._chunk_kind), "choices": [], "usage": _usage(said)}))
            events.append(b"data: [DONE]\n\n")
        return events

    def end(self) -> list[bytes]:
        return []

    def error(self, status: int, body: bytes) -> bytes:
        return openai_error(message_of(body) or f"the model server answered {status}", status=status)

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._is_chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": FINGERPRINT,
        }

    def _chunk(self, delta: dict[str, Any], text: str, finish_reason: str | None, logprobs: list[Any] | None) -> bytes:
        choice: dict[str, Any] = {"index": 0}
        choice["delta" if self._is_chat else "text"] = delta if self._is_chat else text
        if logprobs:
            choice["logprobs"] = {"content": logprobs}
        choice["finish_reason"] = finish_reason
        return _event({**self._head(self._chunk_kind), "choices": [choice]})

    def _pieces(self, said: _Line) -> tuple[str, str, list[dict[str, Any]]]:
        if said.message is None:
            return said.response, said.thinking, []
        calls: list[dict[str, Any]] = []
        for call in said.message.tool_calls or ():
            arguments = msgspec.json.encode(call.function.arguments or {}).decode()
            calls.append(
                {
                    "index": self._calls,
                    "id": call.id or f"call_{self._context.request_id[-8:]}{self._calls}",
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": arguments},
                }
            )
            self._calls += 1
        return said.message.content, said.message.thinking, calls

    def _finish_reason(self, said: _Line) -> str:
        if self._calls:
            return "tool_calls"
        return "length" if said.done_reason == "length" else "stop"


class OpenAIEmbedding:
    """`/v1/embeddings`."""

    path = "/api/embed"
    content_type = "application/json"

    def __init__(self, context: Context, body: bytes) -> None:
        asked = read_request(body, _EmbedRequest)
        if isinstance(asked.input, list) and not all(isinstance(text, str) for text in asked.input):
            raise InvalidRequest("input must be a text or a list of texts; this model server takes no tokens.")
        if asked.encoding_format not in (None, "float", "base64"):
            raise InvalidRequest(f"encoding_format must be float or base64, got {asked.encoding_format[:40]!r}.")
        self._context = context
        self._model = asked.model
        self._as_base64 = asked.encoding_format == "base64"
        question: dict[str, Any] = {"model": asked.model, "input": asked.input}
        if asked.dimensions is not None:
            question["dimensions"] = asked.dimensions
        self.body = msgspec.json.encode(question)

    def answer(self, body: bytes) -> bytes:
        said = read_answer(body, _Embeddings)
        tokens = said.prompt_eval_count or 0
        return msgspec.json.encode(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "embedding": _base64(vector) if self._as_base64 else vector, "index": place}
                    for place, vector in enumerate(said.embeddings)
                ],
                "model": self._model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    def frame(self, frame: bytes) -> list[bytes]:
        return [frame]

    def end(self) -> list[bytes]:
        return []

    def error(self, status: int, body: bytes) -> bytes:
        return openai_error(message_of(body) or f"the model server answered {status}", status=status)


def _question(context: Context, asked: _Request, *, is_chat: bool) -> dict[str, Any]:
    question: dict[str, Any] = {"model": asked.model, "stream": context.stream}
    if is_chat:
        question["messages"] = _messages(asked.messages or [])
        if asked.tools and asked.tool_choice != "none":
            question["tools"] = asked.tools
    else:
        question["prompt"] = _prompt(asked.prompt)
        if asked.suffix:
            question["suffix"] = asked.suffix
    options: dict[str, Any] = {}
    for name in _SAME_OPTIONS:
        value = getattr(asked, name)
        if value is not None:
            options[name] = value
    if asked.stop is not None:
        options["stop"] = [asked.stop] if isinstance(asked.stop, str) else asked.stop
    limit = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    if limit is not None:
        options["num_predict"] = limit
    if options:
        question["options"] = options
    if asked.response_format is not None:
        wanted = asked.response_format
        if wanted.type == "json_object":
            question["format"] = "json"
        elif wanted.type == "json_schema" and wanted.json_schema is not None:
            question["format"] = wanted.json_schema.schema
    effort = asked.reasoning_effort or (asked.reasoning.effort if asked.reasoning is not None else None)
    if effort is not None:
        question["think"] = False if effort == "none" else effort
    if asked.logprobs is not None and asked.logprobs is not False:
        question["logprobs"] = True
        top = asked.top_logprobs if is_chat else asked.logprobs
        if top is not None and top is not True and top > 0:
            question["top_logprobs"] = top
    return question


def _prompt(prompt: str | list[Any] | None) -> str:
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise InvalidRequest("prompt must be one text: this model server takes neither several nor tokens.")
        return prompt[0]
    return prompt or ""


def _messages(messages: list[_Message]) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    translated: list[dict[str, Any]] = []
    for message in messages:
        role = "system" if message.role == "developer" else message.role
        text, images = _content(message.content)
        entry: dict[str, Any] = {"role": role, "content": text}
        if images:
            entry["images"] = images
        thinking = message.reasoning or message.reasoning_content
        if thinking:
            entry["thinking"] = thinking
        if message.tool_calls:
            calls: list[dict[str, Any]] = []
            for call in message.tool_calls:
                if call.id is not None:
                    names[call.id] = call.function.name
                try:
                    arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, Any])
                except UNREADABLE:
                    raise InvalidRequest("A tool call's arguments must be a JSON object in a text.") from None
                calls.append({"function": {"name": call.function.name, "arguments": arguments}})
            entry["tool_calls"] = calls
        if role == "tool":
            name = message.name or names.get(message.tool_call_id or "")
            if name:
                entry["tool_name"] = name
        translated.append(entry)
    return translated


def _content(content: str | list[_Part] | None) -> tuple[str, list[str]]:
    if content is None or isinstance(content, str):
        return content or "", []
    texts: list[str] = []
    images: list[str] = []
    for part in content:
        if part.type == "text":
            texts.append(part.text or "")
        elif part.type == "image_url" and part.image_url is not None:
            images.append(base64_of(part.image_url if isinstance(part.image_url, str) else part.image_url.url))
        else:
            raise InvalidRequest(f"A message's part must be text or image_url, got {part.type[:40]!r}.")
    return "\n".join(texts), images


def _usage(said: _Line) -> dict[str, int]:
    prompt, response = said.prompt_eval_count or 0, said.eval_count or 0
    return {"prompt_tokens": prompt, "completion_tokens": response, "total_tokens": prompt + response}


def _base64(vector: msgspec.Raw) -> str:
    """A vector as OpenAI's clients unpack it: little-endian 32-bit floats."""
    numbers = msgspec.json.decode(vector, type=list[float])
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
