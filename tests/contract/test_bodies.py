"""Bodies that are too large, too slow, or never come: told where somebody listens, and no error in the log."""

from __future__ import annotations

import logging
import socket
from collections.abc import Generator

import pytest
from tests.support.gateway import RunningGateway, gateway
from tests.support.raw import exchange
from tests.support.scripted import ScriptedUpstream

ROUTES = ["/api/keys", "/api/login", "/api/show", "/api/generate", "/v1/chat/completions", "/api/rag/documents"]
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningGateway]:
    with (
        ScriptedUpstream() as upstream,
        gateway(
            tmp_path_factory.mktemp("bodies") / "data", f"ollama={upstream.url}", max_body_mb=6, client_timeout_s=1
        ) as started,
    ):
        yield started


def head(served: RunningGateway, path: str) -> bytes:
    key = f"Authorization: Bearer {served.key}"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{key}\r\nContent-Type: application/json\r\n".encode()


@pytest.mark.parametrize("path", ROUTES)
def test_too_large_is_413_whether_it_is_said_before_or_not(served: RunningGateway, path: str) -> None:
    size = 7 * MEGABYTE
    said = b"Content-Length: %d\r\n\r\n" % size + b" " * size
    chunk = b"%x\r\n%b\r\n" % (MEGABYTE, b" " * MEGABYTE)
    unsaid = b"Transfer-Encoding: chunked\r\n\r\n" + chunk * (size // MEGABYTE) + b"0\r\n\r\n"
    for sent in (said, unsaid):
        found, _ = exchange(served.url, head(served, path) + sent)
        assert [status for status, _ in found] in ([413], []), found  # or it hung up while the rest was still coming


@pytest.mark.parametrize("path", ROUTES)
def test_a_body_that_stops_is_408(served: RunningGateway, path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        found, closed = exchange(served.url, head(served, path) + b"Content-Length: 20\r\n\r\n{")
    assert [status for status, _ in found] == [408]
    assert closed
    assert caplog.records == []


@pytest.mark.parametrize("path", ROUTES)
def test_who_leaves_in_the_middle_is_no_error(
    served: RunningGateway, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = served.url.removeprefix("http://").partition(":")
    with caplog.at_level(logging.ERROR):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head(served, path) + b"Content-Length: 20\r\n\r\n{")
        assert served.get("/api/profile").status == 200
        assert served.services.store.trouble is None
    assert caplog.records == []
