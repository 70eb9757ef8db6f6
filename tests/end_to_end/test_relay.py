"""A dialect that the upstream speaks passes byte for byte, and is counted along the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import Hold, ScriptedUpstream, chunked, ndjson, sse, whole

from gemmapy.core import zstd

OLLAMA_DONE = {
    "model": "llama3",
    "created_at": "2026-11-24T10:00:00Z",
    "response": "",
    "done": True,
    "done_reason": "stop",
    "total_duration": 5_000_000_000,
    "load_duration": 1_000_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 130_000_000,
    "eval_count": 298,
    "eval_duration": 4_700_000_000,
}
# A key order, spacing and fields that no decoder and encoder would bring back the same.
ODD_LINES = (
    b'{"zebra":1,  "model":"llama3","response":"Hi \\u00e9\xc3\xa9","done":false,"x":[1.0,1e5]}\n',
    b'{"model":"llama3","response":" there","thinking":"hm","done":false}\n',
    json.dumps(OLLAMA_DONE).encode() + b"\n",
)
OPENAI_USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}


def _event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


OPENAI_TEXT = _event('{"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}')
OPENAI_FINISH = _event('{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
OPENAI_USAGE_EVENT = _event(json.dumps({"id": "c1", "choices": [], "usage": OPENAI_USAGE}))
DONE = b"data: [DONE]\n\n"


def test_an_ollama_stream_passes_byte_for_byte(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", chunked(ODD_LINES, "application/x-ndjson"))
    asked = b'{ "prompt":"Why?", "model":"llama3", "unknown_field": {"b":1,"a":[2, 3]}, "keep_alive":"5m" }'
    answer = running.post("/api/generate", asked)
    assert answer.body == b"".join(ODD_LINES)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert ollama.asked("/api/generate")[0].body == asked


def test_the_row_holds_the_engines_own_counts(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", chunked(ODD_LINES, "application/x-ndjson"))
    answer = running.post("/api/generate", {"model": "llama3", "prompt": "Why?"})
    row = running.row()
    assert (row["prompt_tokens"], row["response_tokens"], row["total_tokens"]) == (26, 298, 26 + 298)
    assert (row["load_ms"], row["prompt_ms"], row["generation_ms"]) == (1000, 130, 4700)
    assert row["tokens_per_second"] == pytest.approx(298 / 4.7, abs=0.001)
    assert (row["error"], row["estimated"], row["cached"], row["status"]) == (0, 0, 0, 200)
    assert (row["endpoint"], row["model"], row["upstream"]) == ("/api/generate", "llama3", "ollama")
    assert row["finish_reason"] == "stop"
    assert row["stream"] == 1
    assert row["ttft_ms"] is not None
    assert row["request_id"].hex() == answer.headers["X-Request-Id"].replace("-", "")
    assert row["cost_nusd"] == 26 * 150_000 // 1000 + 298 * 300_000 // 1000
    assert running.in_flight() == 0


def test_a_whole_ollama_answer_passes_byte_for_byte(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    body = b'{"model":"llama3" ,"message":{"content":"Hi"},"done":true,"prompt_eval_count":3,"eval_count":2}'
    ollama.on("/api/chat", whole(body))
    answer = running.post("/api/chat", {"model": "llama3", "messages": [], "stream": False})
    assert answer.body == body
    assert running.row()["total_tokens"] == 3 + 2


def test_native_ollama_requests_stream_by_default_and_v1_ones_do_not(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on("/api/generate", chunked(ODD_LINES, "application/x-ndjson"))
    ollama.on("/v1/chat/completions", whole({"choices": [], "usage": OPENAI_USAGE}))
    running.post("/api/generate", {"model": "llama3", "prompt": "x"})
    running.post("/v1/chat/completions", {"model": "llama3", "messages": []})
    assert [row["stream"] for row in running.rows()] == [1, 0]


def test_usage_that_the_client_did_not_ask_for_is_asked_for_and_taken_out(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    with_null = OPENAI_TEXT.replace(b'{"id":"c1"', b'{"usage":null,"id":"c1"')
    and_behind = OPENAI_FINISH.replace(b"}]}", b'}],"usage":null}')
    ollama.on(
        "/v1/chat/completions",
        chunked([with_null, and_behind, OPENAI_USAGE_EVENT, DONE], "text/event-stream; charset=utf-8"),
    )
    answer = running.post("/v1/chat/completions", b'{"model":"llama3","messages":[],"stream":true}')
    assert answer.body == OPENAI_TEXT + OPENAI_FINISH + DONE
    sent = ollama.asked("/v1/chat/completions")[0].body
    assert sent == b'{"stream_options":{"include_usage":true},"model":"llama3","messages":[],"stream":true}'
    assert running.row()["total_tokens"] == 19


def test_usage_that_the_client_asked_for_stays(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    events = [OPENAI_TEXT, OPENAI_FINISH, OPENAI_USAGE_EVENT, DONE]
    ollama.on("/v1/chat/completions", chunked(events, "text/event-stream"))
    asked = b'{"model":"llama3","messages":[],"stream":true,"stream_options":{"include_usage":true}}'
    assert running.post("/v1/chat/completions", asked).body == b"".join(events)
    assert ollama.asked("/v1/chat/completions")[0].body == asked


def test_usage_in_every_chunk_does_not_hold_the_text_back(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    hold = Hold()
    first = _event(
        json.dumps({"choices": [{"delta": {"content": "Hi"}}], "usage": {**OPENAI_USAGE, "total_tokens": 1}})
    )
    ollama.on(
        "/v1/chat/completions", chunked([first, hold, OPENAI_FINISH, OPENAI_USAGE_EVENT, DONE], "text/event-stream")
    )
    options = {"include_usage": True, "continuous_usage_stats": True}
    asked = {"model": "llama3", "messages": [], "stream": True, "stream_options": options}
    response = running.request("POST", "/v1/chat/completions", asked, preload=False)
    assert response.read1(10_000) == first
    hold.event.set()
    assert response.read().endswith(DONE)
    assert running.row()["total_tokens"] == 19


def test_usage_in_a_text_is_left_alone(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    text = _event(json.dumps({"choices": [{"delta": {"content": 'say "usage":null, twice'}}], "usage": None}))
    ollama.on("/v1/chat/completions", chunked([text, OPENAI_USAGE_EVENT, DONE], "text/event-stream"))
    answer = running.post("/v1/chat/completions", {"model": "llama3", "messages": [], "stream": True})
    said = json.loads(answer.body.split(b"\n")[0][6:])
    assert said == {"choices": [{"delta": {"content": 'say "usage":null, twice'}}]}


def test_other_stream_options_of_the_client_are_kept(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/v1/chat/completions", chunked([OPENAI_TEXT, OPENAI_USAGE_EVENT, DONE], "text/event-stream"))
    asked = {"model": "llama3", "messages": [], "stream": True, "stream_options": {"x": 1, "include_usage": False}}
    running.post("/v1/chat/completions", asked)
    sent = ollama.asked("/v1/chat/completions")[0].json
    assert sent == {**asked, "stream_options": {"x": 1, "include_usage": True}}


def test_a_server_that_refuses_stream_options_is_asked_again_without(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on(
        "/v1/chat/completions",
        lambda request: (
            whole({"error": {"message": "unknown field stream_options"}}, 400)
            if "stream_options" in request.json
            else chunked([OPENAI_TEXT, OPENAI_FINISH, DONE], "text/event-stream")
        ),
    )
    for _ in range(2):
        answer = running.post("/v1/chat/completions", {"model": "llama3", "messages": [], "stream": True})
        assert answer.body == OPENAI_TEXT + OPENAI_FINISH + DONE
    assert len(ollama.asked("/v1/chat/completions")) == 3  # it is remembered
    row = running.row()
    assert row["estimated"] == 1
    assert row["response_tokens"] == 1


def test_zstd_bodies_pass_as_they_are(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", chunked(ODD_LINES, "application/x-ndjson"))
    packed = zstd.compress(b'{"model":"llama3","prompt":"Why?"}')
    answer = running.post("/api/generate", packed, headers={"Content-Encoding": "zstd"})
    assert answer.status == 200
    sent = ollama.asked("/api/generate")[0]
    assert sent.body == packed
    assert sent.headers["content-encoding"] == "zstd"


def test_a_zstd_bomb_is_refused(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    with gateway(tmp_path / "d", f"ollama={ollama.url}", max_body_mb=1) as small:
        packed = zstd.compress(b'{"model":"llama3","prompt":"' + b"a" * 50_000_000 + b'"}')
        answer = small.post("/api/generate", packed, headers={"Content-Encoding": "zstd"})
        assert answer.status == 413
        assert "1048576 bytes once decompressed" in answer.json["error"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, b'{"error":"bad  option"}'), (404, b'{"error":"model \'llama3\' not found"}'), (503, b'{"error":"busy"}')],
)
def test_an_upstreams_refusal_passes_with_its_status_and_bytes(
    running: RunningGateway, ollama: ScriptedUpstream, status: int, body: bytes
) -> None:
    ollama.on("/api/generate", whole(body, status))
    answer = running.post("/api/generate", {"model": "llama3", "prompt": "x"})
    assert (answer.status, answer.body) == (status, body)
    row = running.row()
    assert row["status"] == status
    assert row["error"] == (1 if status >= 500 else 0)
    assert row["error_message"] == json.loads(body)["error"]
    assert row["cost_nusd"] is None


def test_the_clients_credential_never_reaches_the_upstream(tmp_path: Path, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", chunked(ODD_LINES, "application/x-ndjson"))
    upstream = {"kind": "ollama", "url": ollama.url, "api_key": "the-upstreams-own"}
    with gateway(tmp_path / "d", upstreams=(upstream,)) as running:
        body = {"model": "llama3", "prompt": "x"}
        running.post("/api/generate", body, headers={"Cookie": f"k={running.key}", "X-Api-Key": running.key})
        running.post(f"/k/{running.key}/api/generate", body, key=None)
        for sent in ollama.asked("/api/generate"):
            assert sent.headers["authorization"] == "Bearer the-upstreams-own"
            assert running.key not in str(sent)
            assert "cookie" not in sent.headers


def test_trace_headers_go_on_and_the_clients_id_comes_back(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", chunked(ODD_LINES, "application/x-ndjson"))
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = running.post(
        "/api/generate", {"model": "llama3", "prompt": "x"}, headers={"traceparent": trace, "X-Request-Id": "mine-1"}
    )
    assert ollama.asked("/api/generate")[0].headers["traceparent"] == trace
    assert answer.headers["X-Client-Request-Id"] == "mine-1"
    assert answer.headers["X-Request-Id"] != "mine-1"
    assert running.row()["client_request_id"] == "mine-1"


def test_the_contracts_answer_is_ollamas_and_four_more_fields(
    running: RunningGateway, ollama: ScriptedUpstream
) -> None:
    body = b'{"model":"llama3", "response":"Hi","done":true,"prompt_eval_count":2000,"eval_count":1000}'
    ollama.on("/api/generate", whole(body))
    asked = {"model": "llama3", "prompt": "x", "system": "s", "temperature": 0.5, "max_tokens": 9, "use_cache": False}
    answer = running.post("/api/ollama/generate", asked)
    assert answer.body.startswith(body[:-1])
    row = running.row()
    assert answer.json["metric_id"] == row["id"]
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert answer.json["cached"] is False
    assert answer.json["cost"] == pytest.approx(2 * 0.00015 + 1 * 0.0003)
    assert ollama.asked("/api/generate")[0].json == {
        "model": "llama3",
        "prompt": "x",
        "system": "s",
        "options": {"temperature": 0.5, "num_predict": 9},
        "stream": False,
    }


def test_the_contracts_stream_has_them_in_its_last_line(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/chat", ndjson({"message": {"content": "Hi"}, "done": False}, OLLAMA_DONE))
    asked = {"model": "llama3", "messages": [{"role": "user", "content": "x"}], "system": "be brief"}
    for path, extra in (("/api/ollama/chat/stream", {}), ("/api/ollama/chat", {"stream": True})):
        lines = running.post(path, {**asked, **extra}).lines
        assert lines[0] == {"message": {"content": "Hi"}, "done": False}
        assert lines[1]["metric_id"] == running.row()["id"]
        assert {"cached", "metric_id", "request_id", "cost"} < set(lines[1])
    first = ollama.asked("/api/chat")[0].json["messages"][0]
    assert first == {"role": "system", "content": "be brief"}


def test_an_unpriced_model_costs_null_and_not_nothing(tmp_path: Path) -> None:
    with ScriptedUpstream("phi4") as upstream, gateway(tmp_path / "d", f"ollama={upstream.url}") as running:
        upstream.on("/api/generate", whole({"response": "Hi", "done": True, "prompt_eval_count": 5, "eval_count": 5}))
        assert running.post("/api/ollama/generate", {"model": "phi4", "prompt": "x"}).json["cost"] is None
        summary = running.get("/api/costs/summary").json
        assert (summary["total_cost"], summary["unpriced_requests"], summary["unpriced_tokens"]) == (0, 1, 10)


def test_a_load_request_is_a_request_of_zero_tokens(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", whole({"model": "llama3", "response": "", "done": True, "done_reason": "load"}))
    assert running.post("/api/generate", {"model": "llama3"}).status == 200
    row = running.row()
    assert (row["prompt_tokens"], row["response_tokens"], row["cost_nusd"], row["estimated"]) == (0, 0, 0, 0)


def test_embeddings_are_counted(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/embed", whole({"model": "llama3", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 8}))
    ollama.on("/v1/embeddings", whole({"object": "list", "data": [], "usage": {"prompt_tokens": 4, "total_tokens": 4}}))
    running.post("/api/embed", {"model": "llama3", "input": "x"})
    running.post("/v1/embeddings", {"model": "llama3", "input": "x"})
    assert [(row["prompt_tokens"], row["response_tokens"]) for row in running.rows()] == [(8, 0), (4, 0)]


def test_cached_prompt_tokens_are_a_part_of_the_prompt(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    usage = {**OPENAI_USAGE, "prompt_tokens_details": {"cached_tokens": 10}}
    ollama.on("/v1/chat/completions", whole({"choices": [{"finish_reason": "stop"}], "usage": usage}))
    running.post("/v1/chat/completions", {"model": "llama3", "messages": []})
    row = running.row()
    assert (row["prompt_tokens"], row["cached_prompt_tokens"]) == (12, 10)


def test_where_an_upstream_reports_no_usage_its_tokenizer_counts(
    over_openai: RunningGateway, ollama: ScriptedUpstream
) -> None:
    ollama.on("/v1/chat/completions", sse({"choices": [{"delta": {"content": "a b c"}}]}, "[DONE]"))
    ollama.on("/apply-template", whole({"prompt": "<user>x"}))
    ollama.on("/tokenize", lambda request: whole({"tokens": [0] * len(request.json["content"])}))
    over_openai.post(
        "/v1/chat/completions", {"model": "llama3", "messages": [{"role": "user", "content": "x"}], "stream": True}
    )
    row = over_openai.row()
    assert (row["prompt_tokens"], row["response_tokens"]) == (len("<user>x"), len("a b c"))
    assert row["estimated"] == 1


def test_who_pays_and_for_whom_are_columns_of_the_ledger(running: RunningGateway, ollama: ScriptedUpstream) -> None:
    ollama.on("/api/generate", chunked(ODD_LINES, "application/x-ndjson"))
    project = running.post("/api/admin/projects", {"name": "apollo"}).json["id"]
    trusted = running.post("/api/keys", {"name": "webui", "is_trusted": True}).json["key"]
    body = {"model": "llama3", "prompt": "x"}
    headers = {"X-GemmaPy-Project": "apollo", "X-OpenWebUI-User-Email": "ada@example.org"}
    running.post("/api/generate", body, key=trusted, headers=headers)
    assert (running.row()["project_id"], running.row()["end_user"]) == (project, "ada@example.org")
    running.post("/api/generate", body, headers=headers)
    assert running.row(2)["end_user"] is None  # only a trusted key may say for whom
    refused = running.post("/api/generate", body, headers={"X-GemmaPy-Project": "gemini"})
    assert refused.status == 403
    assert running.row(3)["error_code"] == "forbidden"
