"""Where a request begins and ends: the same for the client, the gateway and the upstream, whatever a client sends.

Over raw sockets on both sides. What could be read in two ways is refused and its connection closed; what goes on to the
upstream is framed by the gateway, once, and has nothing of the client's connection in it.
"""

from __future__ import annotations

import socket
from collections.abc import Generator
from typing import Any

import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.raw import RawUpstream, exchange, raw_upstream

from gemmapy.api.server import MAX_HEAD_BYTES

BODY = b'{"model":"llama3","prompt":"x","stream":false}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"
DIGEST = b"sha256:" + b"a" * 64


@pytest.fixture(scope="module")
def upstream() -> Generator[RawUpstream]:
    with raw_upstream() as started:
        yield started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: RawUpstream) -> Generator[RunningGateway]:
    folder = tmp_path_factory.mktemp("framing")
    with gateway(folder / "data", f"ollama={upstream.url}", client_timeout_s=2) as started:
        yield started


def head(served: RunningGateway, target: bytes = b"/api/generate", method: bytes = b"POST") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + served.key.encode() + b"\r\n"


def ask(served: RunningGateway, upstream: RawUpstream, sent: bytes, answers: int = 1) -> tuple[Any, bool, list[bytes]]:
    upstream.received.clear()
    found, closed = exchange(served.url, sent, answers=answers)
    return found, closed, list(upstream.received)


AMBIGUOUS = {
    "a length and chunks": LENGTH + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and a length": CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "two lengths": LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "the same length twice": LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": b"Content-Length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
    "a length with a sign": b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY,
    "a negative length": b"Content-Length: -1\r\n\r\n" + BODY,
    "a hexadecimal length": b"Content-Length: 0x2e\r\n\r\n" + BODY,
    "a length past 64 bits": b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY,
    "a space before the colon": b"Content-Length : %d\r\n\r\n" % len(BODY) + BODY,
    "a length and identity": LENGTH + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "chunked twice": CHUNKED + CHUNKED + b"\r\n" + CHUNKS,
    "chunked but not last": b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS,
    "almost chunked": b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "chunked after a control character": b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "chunked in a folded line": b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "a folded line": LENGTH + b"User-Agent: a\r\n b: c\r\n\r\n" + BODY,
    "a line feed in a value": LENGTH + b"User-Agent: a\nX-Evil: 1\r\n\r\n" + BODY,
    "a carriage return in a value": LENGTH + b"User-Agent: a\rX-Evil: 1\r\n\r\n" + BODY,
    "a NUL in a value": LENGTH + b"User-Agent: a\x00b\r\n\r\n" + BODY,
    "a space in a name": LENGTH + b"User Agent: a\r\n\r\n" + BODY,
    "a line without a colon": LENGTH + b"User-Agent\r\n\r\n" + BODY,
    "a header without a name": LENGTH + b": x\r\n\r\n" + BODY,
    "a chunk size with a prefix": CHUNKED + b"\r\n0x%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a chunk size past 64 bits": CHUNKED + b"\r\nfffffffffffffffff\r\n" + BODY,
    "a chunk that ends in a bare line feed": CHUNKED + b"\r\n%x\n%b\n0\n\n" % (len(BODY), BODY),
    "a line feed in a chunk's extension": CHUNKED + b"\r\n%x;a\nb\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a length in a trailer": CHUNKED + b"\r\n%x\r\n%b\r\n0\r\nContent-Length: 3\r\n\r\n" % (len(BODY), BODY),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(
    served: RunningGateway, upstream: RawUpstream, name: str
) -> None:
    found, closed, received = ask(served, upstream, head(served) + AMBIGUOUS[name])
    assert [status for status, _ in found] == [400], found
    assert closed
    assert received == []


def test_bare_line_feeds_end_no_head(served: RunningGateway, upstream: RawUpstream) -> None:
    found, closed, received = ask(served, upstream, (head(served) + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY)
    assert ([status for status, _ in found], closed, received) == ([400], True, [])


CLEAR = {
    "a length": LENGTH + b"\r\n" + BODY,
    "chunks": CHUNKED + b"\r\n" + CHUNKS,
    "small chunks": CHUNKED + b"\r\n" + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
    "a chunk with an extension": CHUNKED + b"\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "a trailer": CHUNKED + b"\r\n%x\r\n%b\r\n0\r\nX-Request-Id: t\r\nUser-Agent: t\r\n\r\n" % (len(BODY), BODY),
    "what belongs to the client's connection": LENGTH
    + b"Connection: keep-alive, X-Named, User-Agent-X\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\n"
    + b"Trailer: X-T\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: close\r\nCookie: a=b\r\n"
    + b"Forwarded: for=x\r\nX-Forwarded-For: 192.0.2.1\r\nX-CSRF-Token: t\r\nExpect: 100-continue\r\n\r\n"
    + BODY,
    "an offer of HTTP/2": LENGTH  # which Java's client makes with every first request
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n"
    + BODY,
    "an offer of HTTP/2 with chunks": CHUNKED + b"Upgrade: h2c\r\nConnection: close, upgrade\r\n\r\n" + CHUNKS,
}


@pytest.mark.parametrize("name", CLEAR)
def test_the_upstream_gets_one_framing_and_nothing_of_the_clients_connection(
    served: RunningGateway, upstream: RawUpstream, name: str
) -> None:
    found, _, received = ask(served, upstream, head(served) + CLEAR[name])
    assert [status for status, _ in found] == [200], found
    (request,) = received
    sent_head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = sent_head.split(b"\r\n")
    assert line == b"POST /api/generate HTTP/1.1"
    assert body == BODY
    names = [header.partition(b":")[0].lower() for header in headers]
    assert sorted(names) == sorted(set(names)), "a header twice"
    assert set(names) <= {b"host", b"accept-encoding", b"content-length", b"accept", b"content-type", b"connection"}
    assert b"content-length: %d" % len(BODY) in [header.lower() for header in headers]
    assert served.key.encode() not in request


def test_pipelined_requests_are_answered_one_by_one_in_order(served: RunningGateway, upstream: RawUpstream) -> None:
    mine = head(served) + LENGTH + b"\r\n" + BODY
    found, _, received = ask(served, upstream, mine + SMUGGLED + mine, answers=3)
    assert [status for status, _ in found] == [200, 200, 200]
    assert [b"healthy" in body for _, body in found] == [False, True, False]
    assert len(received) == 2


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"anything"])
@pytest.mark.parametrize("together", [True, False])
def test_the_body_of_a_request_that_offers_another_protocol_is_not_the_next_request(
    served: RunningGateway, upstream: RawUpstream, protocol: bytes, together: bool
) -> None:
    offer = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    body = SMUGGLED if not together else BODY
    asked = head(served) + offer + b"Content-Length: %d\r\n\r\n" % len(body)
    upstream.received.clear()
    # In two pieces, at whose border a parser that has given up on the body would begin anew.
    found, _ = exchange(served.url, asked, body, SMUGGLED)
    assert [status for status, _ in found] == [200 if together else 400, 200], found
    assert len(upstream.received) == together


def test_what_follows_a_refused_request_is_not_its_body_twice(served: RunningGateway, upstream: RawUpstream) -> None:
    """A body that nobody wanted is read past, not taken for the next request."""
    unknown = b"POST /api/generate HTTP/1.1\r\nHost: x\r\n" + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    found, _, received = ask(served, upstream, unknown + SMUGGLED + SMUGGLED, answers=2)
    assert [status for status, _ in found] == [401, 200]
    assert received == []


@pytest.mark.parametrize(
    ("target", "status", "reaches"),
    [
        (b"http://127.0.0.1:1/api/generate", 200, True),  # absolute form: the path counts, where it points does not
        (b"http://x@127.0.0.1:1/api/generate", 200, True),
        (b"/%61pi/generate", 200, True),
        (b"/api/generate#fragment", 200, True),
        (b"*", 404, False),
        (b"//api/generate", 404, False),
        (b"/api/generate/", 404, False),
        (b"/api/./generate", 404, False),
        (b"/x/../api/generate", 404, False),
        (b"/x/%2e%2e/api/generate", 404, False),
        (b"/api%2fgenerate%2f", 404, False),
        (b"/api/generate%00", 404, False),
        (b"/api/generate%0d%0aX-Evil:1", 404, False),
        (b"/%c0%ae%c0%ae/api/generate", 404, False),
        (b"/api/generate;x=1", 404, False),
        (b"/k/gp-none/api/generate", 401, False),
        (b"/k/%2e%2e/api/generate", 401, False),
        (b"/k/a%2fb/api/generate", 404, False),
        (b"/k/gp-none/k/gp-none/api/generate", 404, False),
        (b"/api/generate\xff", 400, False),
        (b"\\api\\generate", 400, False),
        (b"api/generate", 400, False),
    ],
)
def test_a_path_is_one_that_is_in_the_table_or_none(
    served: RunningGateway, upstream: RawUpstream, target: bytes, status: int, reaches: bool
) -> None:
    found, _, received = ask(served, upstream, head(served, target) + LENGTH + b"\r\n" + BODY)
    assert [said for said, _ in found] == [status], found
    assert [request.split(b"\r\n")[0] for request in received] == [b"POST /api/generate HTTP/1.1"] * reaches


def test_a_key_in_the_path_is_one_step_of_it(served: RunningGateway, upstream: RawUpstream) -> None:
    nobody = b"POST /k/" + served.key.encode() + b"%s HTTP/1.1\r\nHost: x\r\n" + LENGTH + b"\r\n" + BODY
    for rest, status in ((b"/api/generate", 200), (b"//api/generate", 404), (b"/../api/generate", 404), (b"", 405)):
        found, _, received = ask(served, upstream, nobody % rest)
        assert [said for said, _ in found] == [status], rest
        assert all(served.key.encode() not in request for request in received)


@pytest.mark.parametrize(
    "digest",
    [
        b"..",
        b"%2e%2e",
        b"..%2f..%2fgenerate",
        b"x%0d%0aX-Evil:%201",
        b"x%20HTTP/1.1%0d%0aX-Evil:%201%0d%0a%0d%0a",
        b"x%3fa=b",
        b"x%23a",
        b"x%00",
        b"sha256:" + b"A" * 64,
        DIGEST + b"0",
        DIGEST[:-1],
    ],
)
def test_a_blobs_name_is_a_digest_and_nothing_else(
    served: RunningGateway, upstream: RawUpstream, digest: bytes
) -> None:
    found, _, received = ask(served, upstream, head(served, b"/api/blobs/" + digest) + LENGTH + b"\r\n" + BODY)
    assert [status for status, _ in found] in ([400], [404])
    assert received == []


@pytest.mark.parametrize("host", [b"x/api/generate?", b"x/api/generate#", b"a@127.0.0.1:1/x?", b"[::1", b"\xff"])
def test_the_host_header_decides_nothing(served: RunningGateway, upstream: RawUpstream, host: bytes) -> None:
    asked = head(served, b"/api/blobs/" + DIGEST).replace(b"Host: x", b"Host: " + host)
    found, _, received = ask(served, upstream, asked + LENGTH + b"\r\n" + BODY)
    assert [status for status, _ in found] == [200]
    assert [request.split(b"\r\n")[0] for request in received] == [b"POST /api/blobs/" + DIGEST + b" HTTP/1.1"]


ENDLESS = {
    "one header": b"X: " + b"a" * 2_000_000,
    "many headers": b"".join(b"X%d: a\r\n" % number for number in range(100_000)),
    "a trailer": CHUNKED + b"\r\n%x\r\n%b\r\n0\r\nX: " % (len(BODY), BODY) + b"a" * 2_000_000,
    "a chunk's extension": CHUNKED + b"\r\n%x;a=" % len(BODY) + b"a" * 2_000_000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_is_no_body_has_a_limit(served: RunningGateway, upstream: RawUpstream, name: str) -> None:
    for known in (head(served), b"POST /api/generate HTTP/1.1\r\nHost: x\r\n"):
        found, closed, _ = ask(served, upstream, known + ENDLESS[name], answers=9)
        assert closed
        assert len(found) <= 2  # an answer to what was whole already, and the refusal, unless it was cut off


def test_a_head_of_just_the_limit_is_taken(served: RunningGateway, upstream: RawUpstream) -> None:
    for size, status in ((MAX_HEAD_BYTES - 400, 200), (MAX_HEAD_BYTES + 400, 400)):
        filling = b"X: " + b"a" * (size - len(head(served)) - len(LENGTH)) + b"\r\n"
        found, _, _ = ask(served, upstream, head(served) + LENGTH + filling + b"\r\n" + BODY)
        assert [said for said, _ in found][:1] == [status]


def test_a_trailer_is_not_a_header(served: RunningGateway, upstream: RawUpstream) -> None:
    """A proxy in front that takes a header away does not look into trailers."""
    trailer = b"X-GemmaPy-Project: none\r\nX-OpenWebUI-User-Email: e@x\r\nX-Request-Id: trailed\r\n"
    sent = head(served) + CHUNKED + b"\r\n%x\r\n%b\r\n" % (len(BODY), BODY)
    found, _ = exchange(served.url, sent, b"0\r\n%b\r\n" % trailer)
    assert [status for status, _ in found] == [200]
    assert served.row()["client_request_id"] is None


def test_an_answer_to_head_has_no_body_that_could_be_read_as_another_answer(served: RunningGateway) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    said = b""
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(head(served, method=b"HEAD") + b"\r\n")
        while b"\r\n\r\n" not in said:
            said += client.recv(65536)
        client.sendall(head(served, b"/api/health", b"GET") + b"Connection: close\r\n\r\n")
        while piece := client.recv(65536):
            said += piece
    first, _, rest = said.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 405 ")
    assert rest.startswith(b"HTTP/1.1 200 ")
