"""Whether two requests ask the same: a key of everything that shapes an answer, and of nothing else.

The key is a hash of the path in its dialect, who may share the answer, which weights the model's name means, and the
body in a canonical form: JSON's order of keys and spacing do not matter, every value does. Left out is only what says
how the answer is delivered or kept. A field that nobody here knows counts, since it may matter to the upstream.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Literal

import msgspec

from gemmapy.core.foreign import UNREADABLE
from gemmapy.gateway.asked import Asked
from gemmapy.gateway.exchange import plain_fields
from gemmapy.upstreams.translation import is_load

Policy = Literal["off", "auto", "on"]
SHAPES_NOTHING = frozenset(("stream", "stream_options", "keep_alive", "use_cache", "use_retry", "user"))
_FORMAT = b"1"


def concerns(asked: Asked, policy: Policy) -> bool:
    """Whether the policy, or the request, lets the cache look at it at all."""
    if policy == "off" or asked.use_cache is False:
        return False
    return asked.use_cache is not None or policy != "auto" or asked.endpoint.is_contract


def question(asked: Asked, policy: Policy) -> dict[str, Any] | None:
    """The fields that shape the answer, where it may come from the cache or go there; else None.

    Asked for by the request, any answer may. By default only `/api/ollama/*` (policy `on`: every path), and only where
    the same question has the same answer: at temperature 0, with a seed, embeddings. Never: loading a model, images
    that the upstream fetches from the web. Raises InvalidRequest for a body that `/api/ollama/*` do not take.
    """
    if not concerns(asked, policy):
        return None
    try:
        fields = plain_fields(asked.body) if asked.endpoint.is_contract else msgspec.json.decode(asked.body)
    except UNREADABLE:
        return None  # whatever it is, the upstream will say so
    if asked.use_cache is None and not is_deterministic(asked, fields):
        return None
    if len({name.lower() for name in fields}) != len(fields):
        return None  # Ollama reads names in any case, and the order decides: which is lost in a canonical form
    if asked.endpoint.dialect == "ollama" and is_load(asked.endpoint.relayed_as, asked.body):
        return None
    if b'"image_url"' in asked.body and b'"http' in asked.body:
        return None
    return {name: value for name, value in fields.items() if name not in SHAPES_NOTHING}


def is_deterministic(asked: Asked, fields: dict[str, Any]) -> bool:
    """Whether the same question has the same answer, as far as the engine keeps its word."""
    if asked.endpoint.kind == "embed":
        return True
    options: Any = fields if asked.endpoint.dialect == "openai" else fields.get("options")
    if not isinstance(options, dict):
        return False
    temperature: Any = options.get("temperature")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    seed: Any = options.get("seed")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    is_greedy = isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0
    is_seeded = isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0  # -1 is "by chance"
    return is_greedy or is_seeded


def key_of(path: str, fields: dict[str, Any], *, scope: str, fingerprint: bytes) -> bytes:
    """The key of a question. `path` is the one in the upstream's dialect, so that `/api/ollama/chat` shares with
    `/api/chat`; `scope` names who may share the answer; `fingerprint` the weights."""
    body = msgspec.json.encode(fields, order="deterministic")
    # Every part with its length, so that no two lists of parts read the same.
    parts = (_FORMAT, path.encode(), scope.encode(), fingerprint, body)
    return sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).digest()
