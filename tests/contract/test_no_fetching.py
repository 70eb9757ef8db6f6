"""The gateway connects to the upstreams that its operator named, and nowhere else, whatever a user writes where.

A listener that notes every connection stands for everywhere else.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.gateway import PASSWORD, RunningGateway, gateway
from tests.support.scripted import ScriptedUpstream, whole
from tests.unit.rag.test_extraction import pdf
from urllib3.filepost import encode_multipart_formdata

SAID = {"message": {"role": "assistant", "content": "x"}, "response": "x", "done": True, "eval_count": 1}


@dataclass
class Elsewhere:
    """Notes who comes."""

    connections: list[Any] = field(default_factory=list[Any])
    _socket: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def listen(self) -> None:
        while True:
            try:
                connection, address = self._socket.accept()
            except OSError:
                return
            self.connections.append(address)
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture(scope="module")
def elsewhere() -> Generator[Elsewhere]:
    listener = Elsewhere()
    thread = threading.Thread(target=listener.listen, daemon=True)
    thread.start()
    yield listener
    listener.close()
    thread.join(5)


@pytest.fixture(scope="module")
def upstream() -> Generator[ScriptedUpstream]:
    with ScriptedUpstream() as started:
        started.on("/v1/models", whole({"data": [{"id": "vllm", "object": "model"}]}))
        for path in ("/api/chat", "/api/generate"):
            started.on(path, whole({**SAID, "prompt_eval_count": 1}))
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        started.on("/v1/chat/completions", whole({"choices": [{"message": {"content": "x"}}], "usage": usage}))
        yield started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Generator[RunningGateway]:
    """One upstream of each dialect, and a user's key."""
    both = (f"ollama={upstream.url}", f"vllm:openai={upstream.url}/v1")
    with gateway(tmp_path_factory.mktemp("fetch") / "data", *both) as started:
        made = started.post("/api/admin/users", {"username": "ada", "password": PASSWORD}).json
        started.key = started.post(f"/api/admin/users/{made['id']}/keys", {"name": "k"}).json["key"]
        yield started


@pytest.fixture
def nobody_came(elsewhere: Elsewhere, served: RunningGateway) -> Generator[str]:
    """The address of elsewhere; after the test, nobody has been there."""
    del served
    yield elsewhere.host
    with socket.create_connection(elsewhere.host.split(":")):  # pyright: ignore[reportArgumentType]
        pass  # the listener takes them in order: what came before this is noted once this is
    deadline = threading.Event()
    for _ in range(500):
        if elsewhere.connections:
            break
        deadline.wait(0.01)
    assert len(elsewhere.connections) == 1
    elsewhere.connections.clear()


def image_of(url: str) -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize(
    "url", ["http://{}/x.png", "https://{}/x.png", "//{}/x.png", "file:///etc/passwd", "ftp://{}/x"]
)
def test_an_image_by_its_address_is_the_upstreams_business_or_refused(
    served: RunningGateway, upstream: ScriptedUpstream, nobody_came: str, url: str
) -> None:
    address = url.format(nobody_came)
    passed = served.post("/v1/chat/completions", {"model": "vllm", "messages": image_of(address)})
    assert passed.status == 200
    assert upstream.asked("/v1/chat/completions")[-1].json["messages"] == image_of(address)
    asked = len(upstream.asked("/api/chat"))
    body = {"model": "llama3", "messages": [{"role": "user", "content": "x", "images": [address]}], "stream": False}
    assert served.post("/api/chat", body).status == 200  # an Ollama decodes base64, and does not fetch
    assert upstream.asked("/api/chat")[asked].json["messages"][0]["images"] == [address]
    assert served.post("/api/chat", {**body, "model": "vllm"}).status == 400  # there it would be an address


PAGE = """<html><head><title>t</title><base href="http://{0}/"><link rel="stylesheet" href="http://{0}/s.css">
<meta http-equiv="refresh" content="0;url=http://{0}/r"><script src="http://{0}/s.js"></script></head>
<body background="http://{0}/b"><img src="http://{0}/i" srcset="http://{0}/j 2x"><iframe src="http://{0}/f"></iframe>
<object data="http://{0}/o"></object><embed src="http://{0}/e"><video poster="http://{0}/v"></video>
<svg><image href="http://{0}/g"/><use href="http://{0}/u#a"/></svg><p style="background:url(http://{0}/c)">Words.</p>
</body></html>"""
XHTML = """<?xml version="1.0"?>
<!DOCTYPE html [<!ENTITY x SYSTEM "http://{0}/x"><!ENTITY % y SYSTEM "http://{0}/y"> %y;]>
<html xmlns="http://www.w3.org/1999/xhtml"><body><p>Words and &x;.</p></body></html>"""


@pytest.mark.parametrize(
    ("name", "text"), [("page.html", PAGE), ("page.xhtml", XHTML), ("page.md", "![i](http://{0}/i) x")]
)
def test_a_documents_references_are_not_followed(
    served: RunningGateway, nobody_came: str, name: str, text: str
) -> None:
    body, kind = encode_multipart_formdata({"file": (name, text.replace("{0}", nobody_came).encode())})
    answer = served.post("/api/rag/documents", body, headers={"Content-Type": kind})
    assert answer.status == 201, answer.body


def test_a_pdfs_references_are_not_followed(served: RunningGateway, nobody_came: str) -> None:
    action = b"/OpenAction << /S /URI /URI (http://%b/a) >> /AA << /O << /S /SubmitForm /F (http://%b/f) >> >> "
    host = nobody_came.encode()
    data = pdf("Words in a file.").replace(b"/Type /Catalog", action % (host, host) + b"/Type /Catalog")
    assert host in data
    body, kind = encode_multipart_formdata({"file": ("file.pdf", data)})
    answer = served.post("/api/rag/documents", body, headers={"Content-Type": kind})
    assert answer.status == 201, answer.body


def test_where_a_document_is_said_to_be_from_is_not_looked_at(served: RunningGateway, nobody_came: str) -> None:
    address = f"http://{nobody_came}/source"
    fields = {"title": address, "source": address, "metadata": {"url": address}}
    made = served.post("/api/rag/documents", {"content": f"Words of {address}.", **fields})
    assert made.status == 201
    assert served.get(f"/api/rag/documents/{made.json['id']}").json["source"] == address
    assert served.post("/api/rag/search", {"query": address}).status == 200


def test_no_name_and_no_header_is_an_address(served: RunningGateway, nobody_came: str) -> None:
    address = f"http://{nobody_came}/v1"
    ask = {"prompt": "x", "stream": False, "messages": [{"role": "user", "content": address}]}
    headers = {
        "Host": nobody_came,
        "X-Forwarded-Host": nobody_came,
        "Forwarded": f"host={nobody_came}",
        "Origin": address,
    }
    for model in (address, f"ollama@{nobody_came}", f"{nobody_came}/llama3", f"llama3@{address}"):
        assert served.post("/api/chat", {"model": model, **ask}).status == 404
        assert served.post("/api/show", {"model": model}).status == 404
    assert served.post("/api/chat", {"model": "llama3", **ask}, headers=headers).status == 200
    assert served.get(f"/v1/models/{address}").status == 404
    made = served.post("/api/rag/collections", {"name": "c", "embedding_model": address})
    assert made.status in (201, 404, 400)
    assert served.post("/api/rag/documents", {"content": "Words.", "collection": "c"}).status in (201, 404)
    assert served.get(f"/api/metrics/requests?search={address}").status == 200
    assert served.get(f"/api/prices/catalogue?search={address}").status == 200
    assert served.get(f"/api/costs/elsewhere?models={address}").status == 400
    assert served.get(f"/api/metrics/timeseries?tz={address}").status == 400


def test_an_admins_choice_of_upstream_is_one_that_the_operator_named(
    served: RunningGateway, upstream: ScriptedUpstream, nobody_came: str
) -> None:
    admin = served.services.auth
    now = served.services.clock.now()
    token, _ = admin.issue(1)
    for name in (f"http://{nobody_came}", nobody_came, "vllm", "..", ""):
        answer = served.post(f"/api/pull?upstream={name}", {"model": "x"}, key=token)
        assert answer.status == 404, (name, answer.body, now)
    assert upstream.asked("/api/pull") == []
