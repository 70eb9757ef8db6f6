"""A model server that understands nothing and answers at the pace of the team's models, in Ollama's words.

So that the demo needs no model and no network: each machine of the team is a path on one port of 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gemmapy.api.server import Server, listen
from gemmapy.demo.team import MODELS, Model

PIECE_S = 0.08
LONGEST = 220
FAILING = 0.012
_OPENING = "This is the demo's built-in model. It understands nothing, and says so at the pace of {}."
_SENTENCES = (
    "The queue was empty, so the first token came at once.",
    "A larger model would have thought longer about this.",
    "Every one of these words is counted, priced and written down before the answer ends.",
    "If this were a real machine, its fans would be audible by now.",
    "You can stop reading here; the meter runs all the same.",
    "In the list of requests this answer is already under way.",
    "What it costs is shown beside it, to the billionth of a dollar.",
    "Rate it, if you like: a thumb is worth more than a benchmark.",
)


class DemoModels:
    """The server. Use as an asynchronous context manager."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._by_name = {model.name: model for model in MODELS}
        app = Starlette(
            routes=[
                Route("/{machine}/api/tags", self._tags),
                Route("/{machine}/api/ps", self._tags),
                Route("/{machine}/api/version", self._version),
                Route("/{machine}/api/show", self._show, methods=["POST"]),
                Route("/{machine}/api/chat", self._answer, methods=["POST"]),
                Route("/{machine}/api/generate", self._answer, methods=["POST"]),
                Route("/{machine}/api/embed", self._embed, methods=["POST"]),
            ]
        )
        self._server = Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
        self.port = 0

    async def __aenter__(self) -> DemoModels:
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True  # what is being answered is a demo's
        await self._serving

    def url(self, machine: str) -> str:
        """Where a machine of the team stands."""
        return f"http://127.0.0.1:{self.port}/{machine}"

    async def _tags(self, request: Request) -> Response:
        machine = request.path_params["machine"]
        there = [model.name for model in MODELS if model.upstream == machine]
        return JSONResponse({"models": [{"name": n, "model": n, "size": 4_700_000_000, "digest": n} for n in there]})

    async def _version(self, _request: Request) -> Response:
        return JSONResponse({"version": "0.30.0"})

    async def _show(self, request: Request) -> Response:
        asked = await request.json()
        return JSONResponse({"details": {"family": "demo"}, "model_info": {}, "model": asked.get("model")})

    async def _embed(self, request: Request) -> Response:
        asked = await request.json()
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        count = sum(len(str(text).split()) for text in texts)
        await asyncio.sleep(0.02 + count / 9000)
        vectors = [[round(self._chance.uniform(-1, 1), 4) for _ in range(8)] for _ in texts]
        return JSONResponse({"model": asked["model"], "embeddings": vectors, "prompt_eval_count": max(1, count)})

    async def _answer(self, request: Request) -> Response:
        asked: dict[str, Any] = await request.json()
        model = self._by_name.get(asked.get("model", ""))
        if model is None:
            return JSONResponse({"error": f"model '{asked.get('model')}' not found"}, 404)
        if self._chance.random() < FAILING:
            return JSONResponse({"error": "llama runner process has terminated: CUDA error"}, 500)
        is_chat = request.url.path.endswith("/chat")
        prompt = _prompt_tokens(asked)
        prompt_s = prompt / model.prompt_tokens_per_second
        await asyncio.sleep(0.03 + prompt_s)
        words = self._words(model, asked)
        pace = model.tokens_per_second * self._chance.uniform(0.85, 1.08)
        head = {"model": model.name, "created_at": datetime.now(UTC).isoformat()}
        end = {
            "done": True,
            "done_reason": "stop",
            "total_duration": int((prompt_s + len(words) / pace + 0.03) * 1e9),
            "load_duration": 20_000_000,
            "prompt_eval_count": prompt,
            "prompt_eval_duration": int(prompt_s * 1e9),
            "eval_count": len(words),
            "eval_duration": int(len(words) / pace * 1e9),
        }
        if asked.get("stream") is False:
            await asyncio.sleep(len(words) / pace)
            return JSONResponse({**head, **_said(is_chat, " ".join(words)), **end})

        async def lines() -> AsyncIterator[bytes]:
            for piece in _pieces(words, max(1, round(pace * PIECE_S))):
                yield _line({**head, **_said(is_chat, piece), "done": False})
                await asyncio.sleep(PIECE_S)
            yield _line({**head, **_said(is_chat, ""), **end})

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    def _words(self, model: Model, asked: dict[str, Any]) -> list[str]:
        options: Any = asked.get("options") or {}
        limit = options.get("num_predict")
        most = LONGEST if not isinstance(limit, int) or limit <= 0 else min(limit, LONGEST)
        count = min(most, max(12, int(self._chance.lognormvariate(4.1, 0.6))))
        words = _OPENING.format(model.name).split()
        while len(words) < count:
            words += self._chance.choice(_SENTENCES).split()
        return words[:count]


def _prompt_tokens(asked: dict[str, Any]) -> int:
    texts = [str(message.get("content", "")) for message in asked.get("messages") or ()]
    texts += [str(asked.get("prompt") or ""), str(asked.get("system") or "")]
    return max(1, round(sum(len(text) for text in texts) / 4))


def _said(is_chat: bool, text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}


def _pieces(words: list[str], length: int) -> Iterator[str]:
    for start in range(0, len(words), length):
        yield (" " if start else "") + " ".join(words[start : start + length])


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"
