"""An Ollama client over a server that speaks OpenAI's dialect (llama.cpp, vLLM, LM Studio).

`/api/generate` becomes a chat, so that the model's own template is applied, as Ollama applies it; only `raw` prompts
and those with a `suffix` become plain completions. Options that llama.cpp and vLLM know by Ollama's names go along.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gemmapy.core.errors import InvalidRequest
from gemmapy.upstreams.frames import sse_data
from gemmapy.upstreams.translation.context import Context, data_url, read_answer, read_arguments, read_request
from gemmapy.upstreams.translation.errors import message_of, ollama_error, ollama_stream_error, text_of

_SAME_OPTIONS = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop", "presence_penalty", "frequency_penalty"),
    *("repeat_penalty", "repeat_last_n", "mirostat", "mirostat_tau", "mirostat_eta"),
)
_EFFORTS = ("low", "medium", "high")


class _Function(msgspec.Struct):
    name: str
    arguments: dict[str, Any] = {}


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Request(msgspec.Struct):
    model: str
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    messages: list[_Message] | None = None
    tools: list[Any] | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class _EmbedRequest(msgspec.Struct):
    model: str
    input: str | list[str] | None = None
    prompt: str | None = None
    dimensions: int | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_DeltaCall] | None = None


class _DeltaFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _DeltaCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _DeltaFunction | None = None


class _Logprobs(msgspec.Struct):
    content: list[Any] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Timings(msgspec.Struct):
    """llama.cpp's own."""

    prompt_ms: float | None = None
    predicted_ms: float | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: Any = None


class _Embedding(msgspec.Struct):
    embedding: msgspec.Raw
    index: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]
    usage: _Usage | None = None


def ollama_over_openai(context: Context, body: bytes) -> OllamaCompletion | OllamaEmbedding:
    """The translation of one request. Raises InvalidRequest."""
    if context.path in ("/api/embed", "/api/embeddings"):
        return OllamaEmbedding(context, body)
    return OllamaCompletion(context, body)


class OllamaCompletion:
    """`/api/generate` and `/api/chat`."""

    def __init__(self, context: Context, body: bytes) -> None:
        asked = read_request(body, _Request)
        self._context = context
        self._model = asked.model
        self._is_chat = context.path == "/api/chat"
        is_plain = not self._is_chat and (asked.raw or bool(asked.suffix))
        self.path = "/v1/completions" if is_plain else "/v1/chat/completions"
        self.body = msgspec.json.encode(_question(context, asked, is_plain=is_plain))
        self._finish_reason = "stop"
        self._usage = _Usage()
        self._timings = _Timings()
        self._calls: dict[int, _DeltaCall] = {}
        self._first_ns: int | None = None

    @property
    def content_type(self) -> str:
        return "application/x-ndjson" if self._context.stream else "application/json; charset=utf-8"

    def answer(self, body: bytes) -> bytes:
        said = read_answer(body, _Chunk)
        self._take(said)
        text, thinking, logprobs = "", "", None
        for choice in said.choices[:1]:
            text, thinking, logprobs = self._pieces(choice)
        line = self._line(text, thinking, self._take_calls(), logprobs)
        return msgspec.json.encode({**line, **self._ending()})

    def frame(self, frame: bytes) -> list[bytes]:
        data = sse_data(frame)
        if data is None or data.strip() in (b"", b"[DONE]"):
            return []
        said = read_answer(data, _Chunk)
        if said.error:
            return [ollama_stream_error(text_of(said.error) or "the model server failed")]
        self._take(said)
        lines: list[bytes] = []
        for choice in said.choices[:1]:
            text, thinking, logprobs = self._pieces(choice)
            if text or thinking:
                if self._first_ns is None:
                    self._first_ns = self._context.elapsed_ns()
                lines.append(_ndjson({**self._line(text, thinking, None, logprobs), "done": False}))
        return lines

    def end(self) -> list[bytes]:
        lines: list[bytes] = []
        calls = self._take_calls()
        if calls:
            lines.append(_ndjson({**self._line("", "", calls, None), "done": False}))
        lines.append(_ndjson({**self._line("", "", None, None), **self._ending()}))
        return lines

    def error(self, status: int, body: bytes) -> bytes:
        return ollama_error(message_of(body) or f"the model server answered {status}")

    def _take(self, said: _Chunk) -> None:
        """Keeps what belongs into the last line."""
        if said.usage is not None:
            self._usage = said.usage
        if said.timings is not None:
            self._timings = said.timings
        for choice in said.choices[:1]:
            if choice.finish_reason is not None:
                self._finish_reason = choice.finish_reason

    def _pieces(self, choice: _Choice) -> tuple[str, str, list[Any] | None]:
        """The text and the thinking in a choice; its tool calls are put together until they are whole."""
        piece = choice.delta or choice.message or _Delta(content=choice.text)
        for place, call in enumerate(piece.tool_calls or ()):
            self._add_call(place if call.index is None else call.index, call)
        logprobs = choice.logprobs.content if choice.logprobs is not None else None
        return piece.content or "", piece.reasoning_content or piece.reasoning or "", logprobs

    def _add_call(self, index: int, call: _DeltaCall) -> None:
        known = self._calls.setdefault(index, _DeltaCall(function=_DeltaFunction("", "")))
        known.id = call.id or known.id
        if call.function is not None and known.function is not None:
            known.function.name = (known.function.name or "") + (call.function.name or "")
            known.function.arguments = (known.function.arguments or "") + (call.function.arguments or "")

    def _take_calls(self) -> list[dict[str, Any]] | None:
        """The tool calls as Ollama has them. Raises UpstreamError where their arguments are not an object."""
        calls: list[dict[str, Any]] = []
        for place, (_, call) in enumerate(sorted(self._calls.items())):
            function = call.function or _DeltaFunction()
            entry: dict[str, Any] = {"id": call.id} if call.id else {}
            arguments = read_arguments(function.arguments or "")
            entry["function"] = {"index": place, "name": function.name or "", "arguments": arguments}
            calls.append(entry)
        self._calls.clear()
        return calls or None

    def _line(
        self, text: str, thinking: str, calls: list[dict[str, Any]] | None, logprobs: list[Any] | None
    ) -> dict[str, Any]:
        line: dict[str, Any] = {"model": self._model, "created_at": self._context.timestamp()}
        if self._is_chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if thinking:
                message["thinking"] = thinking
            if calls:
                message["tool_calls"] = calls
            line["message"] = message
        else:
            line["response"] = text
            if thinking:
                line["thinking"] = thinking
        if logprobs:
            line["logprobs"] = logprobs
        return line

    def _ending(self) -> dict[str, Any]:
        """The last line's fields: nanoseconds, the engine's own where it has said them."""
        total_ns = self._context.elapsed_ns()
        prompt_ns = self._first_ns or 0
        generation_ns = total_ns - prompt_ns
        if self._timings.prompt_ms is not None and self._timings.predicted_ms is not None:
            prompt_ns = round(self._timings.prompt_ms * 1e6)
            generation_ns = round(self._timings.predicted_ms * 1e6)
        ending: dict[str, Any] = {
            "done": True,
            "done_reason": "length" if self._finish_reason == "length" else "stop",
            "total_duration": total_ns,
            "load_duration": 0,
        }
        if self._usage.prompt_tokens is not None:
            ending |= {"prompt_eval_count": self._usage.prompt_tokens, "prompt_eval_duration": prompt_ns}
        if self._usage.completion_tokens is not None:
            ending |= {"eval_count": self._usage.completion_tokens, "eval_duration": generation_ns}
        return ending


class OllamaEmbedding:
    """`/api/embed`, and the older `/api/embeddings` with its one prompt."""

    path = "/v1/embeddings"
    content_type = "application/json; charset=utf-8"

    def __init__(self, context: Context, body: bytes) -> None:
        asked = read_request(body, _EmbedRequest)
        self._context = context
        self._model = asked.model
        self._is_old = context.path == "/api/embeddings"
        texts = asked.prompt if self._is_old else asked.input
        question: dict[str, Any] = {"model": asked.model, "input": texts or "", "encoding_format": "float"}
        if asked.dimensions:
            question["dimensions"] = asked.dimensions
        self.body = msgspec.json.encode(question)

    def answer(self, body: bytes) -> bytes:
        said = read_answer(body, _Embeddings)
        vectors = [entry.embedding for entry in sorted(said.data, key=lambda entry: entry.index)]
        if self._is_old:
            return msgspec.json.encode({"embedding": vectors[0] if vectors else []})
        return msgspec.json.encode(
            {
                "model": self._model,
                "embeddings": vectors,
                "total_duration": self._context.elapsed_ns(),
                "load_duration": 0,
                "prompt_eval_count": (said.usage.prompt_tokens if said.usage else None) or 0,
            }
        )

    def frame(self, frame: bytes) -> list[bytes]:
        return [frame]

    def end(self) -> list[bytes]:
        return []

    def error(self, status: int, body: bytes) -> bytes:
        return ollama_error(message_of(body) or f"the model server answered {status}")


def _question(context: Context, asked: _Request, *, is_plain: bool) -> dict[str, Any]:
    question: dict[str, Any] = {"model": asked.model}
    if is_plain:
        question["prompt"] = asked.prompt or ""
        if asked.suffix:
            question["suffix"] = asked.suffix
    elif context.path == "/api/chat":
        question["messages"] = _messages(context, asked.messages or [])
    else:
        system = [_Message("system", asked.system)] if asked.system else []
        prompt = _Message("user", asked.prompt or "", images=asked.images)
        question["messages"] = _messages(context, [*system, prompt])
    if asked.tools:
        question["tools"] = asked.tools
    question |= _options(asked.options or {})
    response_format = _response_format(asked.format)
    if response_format is not None:
        question["response_format"] = response_format
    if asked.think is not None and not is_plain:
        question |= _thinking(asked.think)
    if asked.logprobs:
        question["logprobs"] = (asked.top_logprobs or 1) if is_plain else True
        if asked.top_logprobs and not is_plain:
            question["top_logprobs"] = asked.top_logprobs
    question["stream"] = context.stream
    if context.stream:
        question["stream_options"] = {"include_usage": True}
    return question


def _options(options: dict[str, Any]) -> dict[str, Any]:
    translated = {name: options[name] for name in _SAME_OPTIONS if options.get(name) is not None}
    if "repeat_penalty" in translated:
        translated["repetition_penalty"] = translated["repeat_penalty"]  # vLLM's word for it
    limit = options.get("num_predict")
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise InvalidRequest("options.num_predict must be a whole number.")
        if limit >= 0:  # -1 and -2 are Ollama's "no limit"
            translated["max_tokens"] = limit
    return translated


def _thinking(think: bool | str) -> dict[str, Any]:
    if isinstance(think, bool):
        return {"chat_template_kwargs": {"enable_thinking": think}}
    if think not in _EFFORTS:
        raise InvalidRequest(f"think must be true, false, {', '.join(_EFFORTS)}; got {think[:40]!r}.")
    return {"reasoning_effort": think, "chat_template_kwargs": {"enable_thinking": True}}


def _response_format(asked: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if not asked:
        return None
    if isinstance(asked, dict):
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": asked, "strict": True}}
    if asked != "json":
        raise InvalidRequest(f'format must be "json" or a JSON schema, got {asked[:40]!r}.')
    return {"type": "json_object"}


def _messages(context: Context, messages: list[_Message]) -> list[dict[str, Any]]:
    """Messages as OpenAI has them. Tool calls without an id get one, and the results find theirs."""
    translated: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []
    """The calls (name, id) that have no result yet."""
    made = 0
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": _content(message)}
        if message.thinking and message.role == "assistant":
            entry["reasoning_content"] = message.thinking
        if message.tool_calls:
            calls: list[dict[str, Any]] = []
            for call in message.tool_calls:
                call_id = call.id or f"call_{context.request_id[-8:]}{made}"
                made += 1
                waiting.append((call.function.name, call_id))
                arguments = msgspec.json.encode(call.function.arguments).decode()
                function = {"name": call.function.name, "arguments": arguments}
                calls.append({"id": call_id, "type": "function", "function": function})
            entry["tool_calls"] = calls
        if message.role == "tool":
            entry["tool_call_id"] = _answered(message, waiting)
        translated.append(entry)
    return translated


def _answered(message: _Message, waiting: list[tuple[str, str]]) -> str:
    """The id of the call that a result answers: as it says, else the first of its name, else the first of all."""
    chosen = next((call for call in waiting if message.tool_call_id == call[1]), None)
    if chosen is None and message.tool_call_id is None:
        named = (call for call in waiting if call[0] == message.tool_name)
        chosen = next(named, waiting[0] if waiting and message.tool_name is None else None)
    if chosen is None:
        return message.tool_call_id or "call_0"
    waiting.remove(chosen)
    return chosen[1]


def _content(message: _Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.content or ""
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    return parts + [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in message.images]


def _ndjson(line: dict[str, Any]) -> bytes:
    return msgspec.json.encode(line) + b"\n"
