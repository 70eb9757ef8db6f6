"""Same key, same question: every value that shapes an answer changes it, nothing else does."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gemmapy.core.errors import InvalidRequest
from gemmapy.gateway.asked import ENDPOINTS, Asked, Envelope, read
from gemmapy.gateway.sameness import SHAPES_NOTHING, key_of, question

SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text(max_size=20)}),
    min_size=1,
    max_size=4,
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("llama3"), "messages": MESSAGES},
    optional={
        "options": st.dictionaries(st.sampled_from(["temperature", "seed", "num_predict", "top_k"]), st.integers(0, 9)),
        "format": st.just("json") | st.dictionaries(st.text(max_size=3), VALUES, max_size=2),
        "tools": st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=2), max_size=2),
        "think": st.booleans(),
        "logprobs": st.booleans(),
    },
)


def asked(body: Any, path: str = "/api/chat", **headers: str) -> Asked:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return read(Envelope(ENDPOINTS[path], sent, datetime(2026, 11, 25, tzinfo=UTC), 0), raw, 10**7)


def key(body: Any, path: str = "/api/chat", scope: str = "1", fingerprint: bytes = b"d") -> bytes:
    one = asked(body, path, x_gemmapy_cache="on")
    fields = question(one, "auto")
    assert fields is not None
    return key_of(one.endpoint.relayed_as, fields, scope=scope, fingerprint=fingerprint)


def _shuffled(value: Any, chance: random.Random) -> Any:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        items = [(name, _shuffled(inner, chance)) for name, inner in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [_shuffled(inner, chance) for inner in value] if isinstance(value, list) else value


@given(BODIES, st.randoms(use_true_random=False), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_order_of_keys_spacing_and_escapes_do_not_matter(
    body: dict[str, Any], chance: random.Random, indent: Any, ascii_only: bool
) -> None:
    other = json.dumps(_shuffled(body, chance), indent=indent, ensure_ascii=ascii_only).encode()
    assert key(other) == key(body)


@given(BODIES, st.data())
def test_any_other_value_anywhere_is_another_question(body: dict[str, Any], data: st.DataObject) -> None:
    places = [place for place in _places(body) if place[0] not in ("model",)]
    place = data.draw(st.sampled_from(places))
    value = data.draw(VALUES)
    changed = _with(body, place, value)
    # 1 and 1.0, 0.0 and -0.0 are told apart by their text, which is what JSON is.
    assume(json.dumps(changed, sort_keys=True) != json.dumps(body, sort_keys=True))
    assume(place != ("messages",) or (isinstance(value, list) and all(isinstance(one, dict) for one in value)))
    assume(not (len(place) == 2 and place[0] == "messages" and not isinstance(value, dict)))
    assume(changed.get("messages"))  # without, it only loads the model
    assert key(changed) != key(body)


@given(BODIES, st.text(min_size=1, max_size=8), VALUES)
def test_a_field_that_nobody_knows_counts(body: dict[str, Any], name: str, value: Any) -> None:
    assume(name not in body and name not in SHAPES_NOTHING and name.lower() not in {n.lower() for n in body})
    assume(name not in ("model", "stream", "prompt", "system", "input", "use_retry"))
    assert key({**body, name: value}) != key(body)


@given(BODIES, st.booleans(), st.text(max_size=5))
def test_how_it_is_delivered_does_not_matter(body: dict[str, Any], stream: bool, user: str) -> None:
    assert key({**body, "stream": stream, "keep_alive": "5m", "user": user}) == key(body)


def test_the_contracts_conveniences_are_the_same_question_in_other_words() -> None:
    plain = {"model": "llama3", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}]}
    ours = {"model": "llama3", "messages": [{"role": "user", "content": "x"}], "system": "s", "use_cache": True}
    assert key(ours, "/api/ollama/chat") == key(plain)
    warm = {**plain, "options": {"temperature": 0.5, "num_predict": 9}}
    assert key({**ours, "temperature": 0.5, "max_tokens": 9}, "/api/ollama/chat/stream") == key(warm)


def test_who_it_is_which_weights_and_which_path_are_part_of_it() -> None:
    body = {"model": "llama3", "messages": [{"role": "user", "content": "x"}]}
    keys = {
        key(body),
        key(body, scope="2"),
        key(body, fingerprint=b"e"),
        key(body, "/v1/chat/completions"),
        key({**body, "model": "llama3:8b"}),
    }
    assert len(keys) == 5


@pytest.mark.parametrize("scopes", [("1", "12"), ("1 2", "1 "), ("", "d")])
def test_no_two_scopes_read_the_same(scopes: tuple[str, str]) -> None:
    body = {"model": "llama3", "messages": [{"role": "user", "content": "x"}]}
    first, second = scopes
    assert key(body, scope=first, fingerprint=b"d" + second.encode()) != key(
        body, scope=first + "d", fingerprint=second.encode()
    )
    assert key(body, scope=first) != key(body, scope=second)


CHAT = {"model": "llama3", "messages": [{"role": "user", "content": "x"}]}
GREEDY = {**CHAT, "options": {"temperature": 0}}
SEEDED = {**CHAT, "options": {"seed": 7}}
OPENAI_GREEDY = {**CHAT, "temperature": 0}


@pytest.mark.parametrize(
    ("path", "body", "header", "policy", "is_used"),
    [
        ("/api/ollama/chat", CHAT, None, "auto", False),
        ("/api/ollama/chat", GREEDY, None, "auto", True),
        ("/api/ollama/chat", SEEDED, None, "auto", True),
        ("/api/ollama/chat", {**CHAT, "temperature": 0}, None, "auto", True),
        ("/api/ollama/chat", {**CHAT, "options": {"seed": -1}}, None, "auto", False),
        ("/api/ollama/chat", {**CHAT, "use_cache": True}, None, "auto", True),
        ("/api/ollama/chat", {**GREEDY, "use_cache": False}, None, "auto", False),
        ("/api/ollama/chat", {**GREEDY, "use_cache": False}, "on", "auto", False),
        ("/api/ollama/chat", {**CHAT, "use_cache": True}, None, "off", False),
        ("/api/ollama/chat", CHAT, "on", "auto", True),
        ("/api/chat", GREEDY, None, "auto", False),
        ("/api/chat", CHAT, "on", "auto", True),
        ("/api/chat", GREEDY, "off", "on", False),
        ("/api/chat", GREEDY, None, "on", True),
        ("/api/chat", CHAT, None, "on", False),
        ("/v1/chat/completions", OPENAI_GREEDY, None, "on", True),
        ("/v1/chat/completions", {**CHAT, "seed": 1}, None, "on", True),
        ("/v1/chat/completions", CHAT, None, "on", False),
        ("/v1/chat/completions", OPENAI_GREEDY, "on", "off", False),
        ("/v1/embeddings", {"model": "llama3", "input": "x"}, None, "on", True),
        ("/v1/embeddings", {"model": "llama3", "input": "x"}, None, "auto", False),
        ("/api/chat", {"model": "llama3"}, "on", "auto", False),  # it loads the model
        ("/api/generate", {"model": "llama3", "keep_alive": 0}, "on", "auto", False),
        ("/api/chat", b'{"model":"llama3","messages":[{"content":"x"}],"Messages":[]}', "on", "auto", False),
        (
            "/v1/chat/completions",
            {**CHAT, "messages": [{"content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
            "on",
            "auto",
            False,
        ),
    ],
)
def test_when_the_cache_is_used(path: str, body: Any, header: str | None, policy: Any, is_used: bool) -> None:
    one = asked(body, path, **({"x_gemmapy_cache": header} if header else {}))
    assert (question(one, policy) is not None) is is_used


def test_a_header_that_is_neither_on_nor_off_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="x-gemmapy-cache must be on or off, got 'maybe'"):
        asked(CHAT, x_gemmapy_cache="maybe")


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [here] if here else []
    for name, one in inner:
        found += _places(one, (*here, name))
    return found


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    if isinstance(value, dict):
        return {name: _with(one, place[1:], new) if name == place[0] else one for name, one in value.items()}
    return [_with(one, place[1:], new) if number == place[0] else one for number, one in enumerate(value)]
