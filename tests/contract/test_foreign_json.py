"""JSON from elsewhere: whatever a client or an upstream sends, nobody gets a 500 and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.contract.test_access import BODIES, PLACES
from tests.support.gateway import RunningGateway, gateway
from tests.support.quick import few_or_many
from tests.support.scripted import Script, ScriptedUpstream, chunked, ndjson, sse, whole

from gemmapy.api.application import create_api
from gemmapy.gateway.asked import ENDPOINTS

ASK: dict[str, Any] = {
    "model": "llama3",
    "prompt": "x",
    "messages": [{"role": "user", "content": "x"}],
    "input": "x",
    "query": "x",
    "stream": False,
}
DEPTHS = (100_000, 990, 970, 950, 930, 910, 880, 600)
"""From past every reader's stack to where one reader still can and the next one, called from deeper, cannot."""


@pytest.fixture(scope="module")
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream() as started:
        yield started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    """Behind it the same server twice, as an Ollama and as one that speaks OpenAI's dialect under another model's name,
    so that every path is relayed and translated."""
    folder = tmp_path_factory.mktemp("foreign")
    upstream.on("/v1/models", whole({"data": [{"id": "vllm", "object": "model"}]}))
    both = (f"ollama={upstream.url}", f"vllm:openai={upstream.url}/v1")
    with gateway(folder / "data", *both, cache="on", retries=0, breaker_failures=1_000_000) as started:
        yield started


def answers(upstream: ScriptedUpstream) -> None:
    """As they should be."""
    said = {"done": True, "eval_count": 1, "prompt_eval_count": 1}
    upstream.on("/api/generate", whole({"response": "x", **said}))
    upstream.on("/api/chat", whole({"message": {"content": "x"}, **said}))
    upstream.on("/api/embed", whole({"embeddings": [[1.0]], "prompt_eval_count": 1}))
    upstream.on("/api/embeddings", whole({"embedding": [1.0]}))
    upstream.on("/api/show", whole({"details": {}}))
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    upstream.on("/v1/chat/completions", whole({"choices": [{"message": {"content": "x"}}], "usage": usage}))
    upstream.on("/v1/completions", whole({"choices": [{"text": "x"}], "usage": usage}))
    upstream.on("/v1/embeddings", whole({"data": [{"embedding": [1.0]}], "usage": usage}))


def with_field(body: dict[str, Any], name: str, raw: bytes) -> bytes:
    """`body` with a field that is given as it stands on the wire."""
    rest = json.dumps({key: value for key, value in body.items() if key != name}).encode()[:-1]
    return rest + (b"" if rest == b"{" else b",") + json.dumps(name).encode() + b":" + raw + b"}"


def nested(depth: int) -> tuple[bytes, bytes]:
    return b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth


NASTY = [
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\x00"',
    b"1" * 5000,
    b"1e400",
    b"-1e400",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"NaN",
    b"-Infinity",
    b'"0001-01-01T00:00:00+14:00"',
    b'"9999-12-31T23:59:59-14:00"',
    b"[]",
    b"{}",
    b"null",
    b"true",
    b"0",
    b'"\\r\\nX-Evil: 1"',
]
WHOLE = [
    *(b"", b" ", b"\x00", b"null", b"1", b'"x"', b"[]", b"{", b"}", b'{"a":1,}', b"{'a':1}", b"\xff\xfe{\x00}\x00"),
    *("{}".encode("utf-16"), b"\xef\xbb\xbf{}", b'{"\\ud800":1}', b'{"\xff":1}', b'{"a":1,"a":2}', b'{"__proto__":{}}'),
]


def bodies(method: str, path: str) -> Iterator[bytes]:
    """What to send to a route: everything that is no JSON, and a proper body with one field that is something else."""
    proper = ASK if path in ENDPOINTS else BODIES.get((method, path), {})
    if isinstance(proper, bytes):
        return
    yield from WHOLE
    extra = ("options", "tools", "format", "stream_options", "user", "unknown") if path in ENDPOINTS else ("unknown",)
    more = (
        ("metadata", "collection") if path.startswith("/api/rag/") else ("expires_at", "effective_at", "to", "models")
    )
    names = [*proper, *extra, *(() if path in ENDPOINTS else more)]
    for name in names:
        yield from (with_field(proper, name, raw) for raw in NASTY)
    for depth in DEPTHS:
        yield from nested(depth)
        deep_in = names if path in ENDPOINTS else ["unknown", *set(names) & {"metadata"}]
        yield from (with_field(proper, name, raw) for name in deep_in for raw in nested(depth))


def writes(served: RunningGateway) -> list[tuple[str, str]]:
    found = {(m, r.path) for r in create_api(served.services).router.routes for m in getattr(r, "methods", ())}  # pyright: ignore
    skipped = {("DELETE", "/api/sessions"), ("POST", "/api/blobs/{digest}")}
    return sorted(
        {(m, p) for m, p in found if m in ("POST", "PUT", "PATCH")} - skipped | {("POST", p) for p in ENDPOINTS}
    )


def place(path: str) -> str:
    for name in PLACES:
        path = path.replace(f"{{{name}}}", "9" if name == "key_id" else "1")  # not the key that asks
    return path


def is_told(status: int, body: bytes) -> bool:
    """Any answer but a failure of the gateway's own."""
    return (status < 500 or status in (502, 503)) and b"failed in a way" not in body


@few_or_many(10, 100_000)
@pytest.mark.timeout(900)
def test_no_body_of_any_route_is_a_failure_of_the_gateway(
    served: RunningGateway, upstream: ScriptedUpstream, examples: int
) -> None:
    """Quickly: so many of each route, spread over all there are."""
    answers(upstream)
    routes = writes(served)
    assert len(routes) > 35
    for method, path in routes:
        listed = list(bodies(method, path))
        for body in listed[:: max(1, len(listed) // examples)]:
            answer = served.request(method, place(path), body, headers={"Content-Type": "application/json"})
            assert is_told(answer.status, answer.body), (
                method,
                path,
                body[:80],
                body[-80:],
                answer.status,
                answer.body,
            )
            assert served.services.store.trouble is None
    assert served.get("/api/admin/users").status == 200  # or the rest was tried by somebody who may not


@pytest.mark.parametrize("path", [*ENDPOINTS, "/api/login", "/api/keys", "/api/rag/documents", "/api/show"])
@pytest.mark.parametrize("body", [b'{"model": "\xff"}', b"[" * 100_000, b'{"a":' * 100_000, b"{", b"", b"[]"])
def test_what_is_no_json_object_is_400(served: RunningGateway, path: str, body: bytes) -> None:
    answer = served.post(path, body, headers={"Content-Type": "application/json"})
    assert answer.status == 400, answer.body
    assert json.loads(answer.body)["error"]


@pytest.mark.parametrize("metadata", [b'{"a": NaN}', b'{"a": 1e999}', nested(900)[1], nested(25)[1]])
@pytest.mark.parametrize("as_form", [False, True])
def test_metadata_that_could_not_be_given_back_is_not_taken(
    served: RunningGateway, metadata: bytes, as_form: bool
) -> None:
    if as_form:
        parts = {b"file": b"A text.", b"metadata": metadata}
        form = b"".join(
            b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
            % (name, b'; filename="t.txt"' if name == b"file" else b"", value)
            for name, value in parts.items()
        )
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = served.post("/api/rag/documents", form + b"--x--\r\n", headers=kind)
    else:
        answer = served.post("/api/rag/documents", b'{"content": "A text.", "metadata": ' + metadata + b"}")
    assert answer.status == 400, answer.body
    assert b"metadata" in answer.body or b"recursion limit" in answer.body


def test_half_a_character_in_a_fields_name_is_told(served: RunningGateway) -> None:
    answer = served.post("/api/keys", b'{"name": "n", "\\ud800": 1}')
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:00:00Z"])
def test_a_moment_outside_of_the_calendar_is_told(served: RunningGateway, moment: str) -> None:
    for method, path, body in (
        ("POST", "/api/keys", {"name": "n", "expires_at": moment}),
        ("POST", "/api/admin/prices", {**BODIES["POST", "/api/admin/prices"], "effective_at": moment}),
        ("POST", "/api/admin/machines", {**BODIES["POST", "/api/admin/machines"], "effective_at": moment}),
        ("POST", "/api/admin/costs/reprice", {"from": moment}),
        ("POST", "/api/admin/costs/reprice", {"from": "2020-01-01T00:00:00Z", "prices_at": moment}),
    ):
        answer = served.request(method, path, body)
        assert answer.status == 400, (path, body, answer.body)
        assert "1970 to 9998" in answer.json["error"]
    quoted = moment.replace("+", "%2B")
    for path in (f"/api/metrics/dashboard?from={quoted}", f"/api/admin/prices?at={quoted}"):
        assert served.get(path).status == 400


# What an upstream says

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=8,
)
OLLAMAS = ("response", "message", "done", "done_reason", "error", "eval_count", "prompt_eval_count", "eval_duration")
OPENAIS = ("choices", "usage", "error", "timings", "data", "id", "model", "created")
INNER = (
    *("content", "delta", "message", "text", "finish_reason", "tool_calls", "function", "arguments", "index"),
    *("prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "predicted_ms", "prompt_ms"),
)
SAID = st.dictionaries(
    st.sampled_from(OLLAMAS + OPENAIS + ("embeddings", "embedding", "load_duration")),
    JSON
    | st.dictionaries(st.sampled_from(INNER), JSON, max_size=4)
    | st.lists(
        st.dictionaries(st.sampled_from(INNER), JSON | st.dictionaries(st.sampled_from(INNER), JSON)), max_size=2
    ),
    max_size=6,
)


@few_or_many(12, 2_000)
@pytest.mark.timeout(900)
def test_whatever_an_upstream_answers_every_request_has_its_row_and_an_end(
    served: RunningGateway, upstream: ScriptedUpstream, examples: int
) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        path=st.sampled_from([path for path in ENDPOINTS if path != "/api/rag/generate"]),
        model=st.sampled_from(["llama3", "vllm"]),
        stream=st.booleans(),
        said=st.lists(SAID, min_size=1, max_size=3),
        number=st.integers(0, 2**60),
    )
    def check(path: str, model: str, stream: bool, said: list[dict[str, Any]], number: int) -> None:
        script: Script = whole(said[0])
        if stream:
            script = ndjson(*said) if path.startswith("/api/") == (model == "llama3") else sse(*said, "[DONE]")
        for asked in ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings"):
            upstream.on(asked, script)
        for asked in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
            upstream.on(asked, script)
        before = len(served.rows())
        body = {**ASK, "model": model, "stream": stream, "prompt": str(number), "input": str(number)}
        answer = served.post(path, {**body, "messages": [{"role": "user", "content": str(number)}]})
        assert is_told(answer.status, answer.body), (answer.status, answer.body)
        served.settle()
        assert len(served.rows()) == before + 1 or answer.status == 400
        assert served.in_flight() == 0

    check()
    assert served.services.store.trouble is None


def deep_answers() -> Iterator[tuple[str, bytes]]:
    for depth in (100_000, 940):
        for raw in nested(depth):
            yield "/api/chat", b'{"done":true,"eval_count":1,"message":{"content":"x","tool_calls":' + raw + b"}}\n"
            yield "/api/chat", b'{"done":true,"error":' + raw + b"}\n"
            yield "/api/chat", b'{"done":true,"unknown":' + raw + b"}\n"
            choice = b'{"choices":[{"delta":{"content":"x"}}],"usage":{"prompt_tokens":1,"x":' + raw + b"}}"
            yield "/v1/chat/completions", b"data: " + choice + b"\n\ndata: [DONE]\n\n"
            yield "/v1/chat/completions", b'data: {"error":' + raw + b"}\n\n"
    yield "/api/chat", b'{"done":true,"message":{"content":"\xff"}}\n'
    yield "/v1/chat/completions", b'data: {"choices":[],"usage":{"x":"\xff"}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("asked", ["/api/chat", "/v1/chat/completions", "/api/ollama/chat/stream"])
def test_an_upstreams_brackets_and_bytes_are_its_own_failure(
    served: RunningGateway, upstream: ScriptedUpstream, asked: str
) -> None:
    for model, spoken in (
        ("llama3", "/api/chat"),
        ("llama3", "/v1/chat/completions"),
        ("vllm", "/v1/chat/completions"),
    ):
        for path, raw in deep_answers():
            if path != spoken or (model == "llama3" and path.startswith("/v1") != asked.startswith("/v1")):
                continue
            kind = "application/x-ndjson" if path == "/api/chat" else "text/event-stream"
            upstream.on(path, chunked([raw], kind))
            before = len(served.rows())
            answer = served.post(asked, {**ASK, "model": model, "stream": True}, headers={"X-GemmaPy-Cache": "off"})
            assert is_told(answer.status, answer.body), (path, raw[:60], answer.status, answer.body[-200:])
            served.settle()
            assert len(served.rows()) == before + 1


@pytest.mark.parametrize("count", [-1, 2**63, 10**19, 10**40])
def test_counts_that_cannot_be_are_estimated_and_the_row_is_kept(
    served: RunningGateway, upstream: ScriptedUpstream, count: int
) -> None:
    lie = {"done": True, "response": "x", "prompt_eval_count": count, "eval_count": count, "eval_duration": count}
    upstream.on("/api/generate", whole(lie))
    before = len(served.rows())
    answer = served.post(
        "/api/generate", {"model": "llama3", "prompt": "abcd", "stream": False}, headers={"X-GemmaPy-Cache": "off"}
    )
    assert answer.status == 200
    row = served.row(before + 1)
    assert (row["status"], row["estimated"], row["prompt_tokens"]) == (200, 1, 1)


LISTS = (
    "/api/tags",
    "/api/ps",
    "/api/ollama/models",
    "/api/ollama/status",
    "/v1/models",
    "/v1/models/x",
    "/api/version",
)


@few_or_many(10, 300)
@pytest.mark.timeout(900)
def test_whatever_an_upstream_lists_the_lists_are_answered(
    served: RunningGateway, upstream: ScriptedUpstream, examples: int
) -> None:
    entries = st.dictionaries(
        st.sampled_from(["name", "model", "id", "meta", "created", "size", "modified_at", "owned_by", "details"]), JSON
    )
    lists = JSON | st.fixed_dictionaries(
        {"models": st.lists(entries, max_size=3) | JSON, "data": st.lists(entries) | JSON}
    )

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(said=lists)
    def check(said: Any) -> None:
        for path in ("/api/tags", "/api/ps", "/v1/models", "/api/version", "/api/show"):
            upstream.on(path, whole(said))
        served.services.catalogue.outdate()
        for path in LISTS:
            answer = served.get(path)
            assert is_told(answer.status, answer.body), (path, answer.status, answer.body)
        assert is_told(*(lambda a: (a.status, a.body))(served.post("/api/show", {"model": "vllm"})))

    try:
        check()
    finally:
        upstream.on("/api/tags", whole({"models": [{"name": "llama3", "model": "llama3", "size": 1, "digest": "d"}]}))
        upstream.on("/v1/models", whole({"data": [{"id": "vllm", "object": "model"}]}))
        served.services.catalogue.outdate()
