"""The client over real sockets: what is kept, what is tried again, what is cut, how long it takes, how much is held."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.scripted import Cut, Hold, Reset, ScriptedUpstream, Stall, chunked, whole

from gemmapy.core.errors import InvalidRequest, UpstreamError, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from gemmapy.upstreams.connection import HELD_BYTES
from gemmapy.upstreams.transport import Answer, Limits, Transport

BRIEF = Limits(connect_s=0.3, first_byte_s=0.2, idle_s=0.2)


@asynccontextmanager
async def opened(limits: Limits | None = None) -> AsyncIterator[Transport]:
    transport = Transport(limits or Limits())
    try:
        yield transport
    finally:
        await transport.close()


async def ask(transport: Transport, url: str, body: bytes | None = b"{}", method: str = "POST") -> bytes:
    answer = await transport.send(method, url, body=body)
    try:
        return await answer.read(10_000_000)
    finally:
        answer.close()


async def test_a_connection_is_used_again_after_every_kind_of_end(ollama: ScriptedUpstream) -> None:
    ollama.on("/whole", whole(b"a"))
    ollama.on("/chunked", chunked([b"a", b"b"], "text/plain"))
    ollama.on("/empty", [b"HTTP/1.1 204 X\r\n\r\n"])
    ollama.on("/interim", [b"HTTP/1.1 100 Continue\r\n\r\n", *whole(b"a")])
    async with opened() as transport:
        for path in ("/whole", "/chunked", "/empty", "/interim", "/whole"):
            await ask(transport, ollama.url + path)
    assert ollama.connections == 1


async def test_a_connection_is_closed_after_head_close_and_an_end_without_length(ollama: ScriptedUpstream) -> None:
    ollama.on("/head", [b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n"])
    ollama.on("/close", [b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"])
    ollama.on("/end", [b"HTTP/1.1 200 X\r\n\r\nabc", Cut()])
    ollama.on("/more", [*whole(b"a"), b"more"])
    async with opened() as transport:
        assert await ask(transport, ollama.url + "/head", None, "HEAD") == b""
        assert await ask(transport, ollama.url + "/close") == b"a"
        assert await ask(transport, ollama.url + "/end") == b"abc"
        assert await ask(transport, ollama.url + "/more") == b"a"
        await asyncio.sleep(0.05)
        assert await ask(transport, ollama.url + "/more") == b"a"
    assert ollama.connections == 5


async def test_what_is_sent_is_what_was_given_and_nothing_else(ollama: ScriptedUpstream) -> None:
    ollama.on("/p?q=%20", whole(b""))
    async with opened() as transport:
        answer = await transport.send("POST", ollama.url + "/p?q=%20", [("X-A", "b"), ("x-a", "c")], b"body")
        answer.close()
        await ask(transport, ollama.url + "/p?q=%20", None)
        await ask(transport, ollama.url + "/p?q=%20", None, "GET")
    host = ollama.url.removeprefix("http://")
    assert [(r.method, r.headers, r.body) for r in ollama.requests] == [
        ("POST", {"host": host, "x-a": "c", "content-length": "4"}, b"body"),
        ("POST", {"host": host, "content-length": "0"}, b""),
        ("GET", {"host": host}, b""),
    ]


async def test_many_at_once_have_connections_of_their_own_which_are_kept(ollama: ScriptedUpstream) -> None:
    hold = Hold()
    ollama.on("/a", [hold, *whole(b"a")])
    async with opened() as transport:
        asking = [asyncio.create_task(ask(transport, ollama.url + "/a")) for _ in range(20)]
        await until(lambda: len(ollama.requests) == 20)
        hold.event.set()
        assert await asyncio.gather(*asking) == [b"a"] * 20
        await asyncio.gather(*(ask(transport, ollama.url + "/a") for _ in range(20)))
    assert ollama.connections == 20


@pytest.mark.parametrize("step", [Cut(), Reset()])
async def test_a_stale_connection_is_replaced_once_by_a_new_one(ollama: ScriptedUpstream, step: Cut | Reset) -> None:
    answers = iter([whole(b"a"), [step], whole(b"b"), [step], [step]])
    ollama.on("/a", lambda _request: next(answers))
    async with opened() as transport:
        assert await ask(transport, ollama.url + "/a") == b"a"
        assert await ask(transport, ollama.url + "/a") == b"b"
        with pytest.raises(UpstreamLost, match="closed the connection without an answer"):
            await ask(transport, ollama.url + "/a")
    assert len(ollama.requests) == 5


async def test_nothing_is_repeated_once_a_byte_of_the_answer_has_come(ollama: ScriptedUpstream) -> None:
    answers = iter([whole(b"a"), [b"HTTP/1.1 2", Cut()]])
    ollama.on("/a", lambda _request: next(answers))
    async with opened() as transport:
        await ask(transport, ollama.url + "/a")
        with pytest.raises(UpstreamLost):
            await ask(transport, ollama.url + "/a")


async def test_a_new_connection_that_hangs_up_is_not_tried_again(ollama: ScriptedUpstream) -> None:
    ollama.on("/a", [Cut()])
    async with opened() as transport:
        with pytest.raises(UpstreamLost):
            await ask(transport, ollama.url + "/a")
    assert len(ollama.requests) == 1


async def test_limits_hold_before_the_head_and_between_pieces(ollama: ScriptedUpstream) -> None:
    ollama.on("/silent", [Stall()])
    ollama.on("/half", [b"HTTP/1.1 200 OK\r\nContent-", Stall()])
    ollama.on("/stall", chunked([b"a", Stall()], "text/plain", finish=False))
    async with opened(BRIEF) as transport:
        for path in ("/silent", "/half"):
            with pytest.raises(UpstreamTimeout, match=r"did not begin to answer in 0\.2 s"):
                await ask(transport, ollama.url + path)
            assert await asyncio.to_thread(ollama.left.wait, 5)
            ollama.left.clear()
        answer = await transport.send("POST", ollama.url + "/stall", body=b"")
        pieces = answer.chunks()
        assert await anext(pieces) == b"a"
        with pytest.raises(UpstreamTimeout, match=r"sent nothing for 0\.2 s"):
            await anext(pieces)
        assert await asyncio.to_thread(ollama.left.wait, 5)


async def test_a_head_that_trickles_does_not_move_its_limit(ollama: ScriptedUpstream) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing() and not reader.at_eof():
            writer.write(b"A: b\r\n")
            await asyncio.sleep(0.02)

    async with serving(trickle) as url, opened(BRIEF) as transport:
        with pytest.raises(UpstreamTimeout):
            await ask(transport, url, None, "GET")


async def test_a_slow_reader_is_no_time_out_and_holds_up_who_writes() -> None:
    written = 0

    async def gush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n")
        for _ in range(600):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 100_000

    async with serving(gush) as url, opened(BRIEF) as transport:
        answer = await transport.send("GET", url)
        pieces = answer.chunks()
        first = await anext(pieces)
        await asyncio.sleep(3 * BRIEF.idle_s)
        before = written
        await asyncio.sleep(0.1)
        assert before == written < 30_000_000, "the upstream was not held up"
        held = await anext(pieces)
        assert len(held) < 4 * HELD_BYTES
        size = len(first) + len(held)
        async for piece in pieces:
            size += len(piece)
        assert size == 60_000_000


async def test_an_answer_that_is_let_go_takes_its_connection_with_it(ollama: ScriptedUpstream) -> None:
    ollama.on("/a", chunked([b"a", Stall()], "text/plain", finish=False))
    async with opened() as transport:
        answer = await transport.send("POST", ollama.url + "/a", body=b"")
        answer.close()
        assert await asyncio.to_thread(ollama.left.wait, 5)


async def test_who_is_cancelled_takes_the_connection_along(ollama: ScriptedUpstream) -> None:
    ollama.on("/a", [Stall()])
    ollama.on("/b", whole(b"b"))
    async with opened() as transport:
        asking = asyncio.create_task(ask(transport, ollama.url + "/a"))
        await until(lambda: bool(ollama.asked("/a")))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(ollama.left.wait, 5)
        assert await ask(transport, ollama.url + "/b") == b"b"
    assert ollama.connections == 2


async def test_what_had_come_before_a_cut_is_delivered_first(ollama: ScriptedUpstream) -> None:
    for end in ([Cut()], [b"garbage\r\n"]):
        ollama.on("/a", [*chunked([b"a"], "text/plain", finish=False), *end])
        async with opened() as transport:
            answer = await transport.send("POST", ollama.url + "/a", body=b"")
            await asyncio.sleep(0.05)
            pieces = answer.chunks()
            assert await anext(pieces) == b"a"
            with pytest.raises(UpstreamLost, match="broke off in the middle"):
                await anext(pieces)


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nA b\r\n\r\n", b"\0" * 100])
async def test_garbage_is_an_error_at_once(ollama: ScriptedUpstream, garbage: bytes) -> None:
    ollama.on("/a", [garbage, Stall()])
    async with opened() as transport:
        with pytest.raises(UpstreamError, match="not HTTP"):
            await ask(transport, ollama.url + "/a")


async def test_a_body_that_is_longer_than_wanted_is_cut(ollama: ScriptedUpstream) -> None:
    ollama.on("/a", chunked([b"x" * 1000] * 10, "text/plain"))
    async with opened() as transport:
        answer = await transport.send("POST", ollama.url + "/a", body=b"")
        with pytest.raises(UpstreamError, match="more than 1500 bytes"):
            await answer.read(1500)
        answer.close()


async def test_nobody_there_and_nobody_who_takes_the_connection(free_port: int) -> None:
    async with opened(BRIEF) as transport:
        with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
            await ask(transport, f"http://127.0.0.1:{free_port}/")
        with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
            await ask(transport, "http://name.invalid/")
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        waiting: list[socket.socket] = []
        for _ in range(4):  # fills its backlog
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            waiting.append(one)
        with pytest.raises(UpstreamUnreachable, match=r"did not take the connection in 0\.3 s"):
            await ask(transport, f"http://127.0.0.1:{full.getsockname()[1]}/")
        for one in [full, *waiting]:
            one.close()


async def test_a_name_with_addresses_of_both_families_is_reached_in_the_one_that_answers(
    monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")

    async with serving(answer) as url, opened() as transport:
        port = int(url.rsplit(":", 1)[1])

        async def both(*_: object, **__: object) -> list[object]:
            v6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", free_port, 0, 0))
            return [v6, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(transport, "_resolve", both)
        assert await ask(transport, f"http://localhost:{port}/", None, "GET") == b"a"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_an_address_of_ipv6_is_asked_in_its_brackets() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")

    async with serving(answer, "::1") as url, opened() as transport:
        assert await ask(transport, url, None, "GET") == b"a"
        assert heads == [f"GET / HTTP/1.1\r\nhost: {url.removeprefix('http://')}\r\n\r\n".encode()]


async def test_an_upload_goes_on_as_it_comes_with_its_length_or_in_chunks(ollama: ScriptedUpstream) -> None:
    ollama.on("/up", whole(b"ok"))

    async def pieces() -> AsyncIterator[bytes]:
        for size in (1, 0, 100_000, 2):
            yield b"x" * size

    async with opened() as transport:
        for headers in ([], [("Content-Length", "100003")]):
            answer = await transport.send("POST", ollama.url + "/up", headers, pieces())
            assert await answer.read(10) == b"ok"
            answer.close()
    assert [len(request.body) for request in ollama.requests] == [100_003] * 2
    assert [request.headers.get("transfer-encoding") for request in ollama.requests] == ["chunked", None]


@pytest.mark.parametrize("announced", ["3", "30", "3x", "-1", "1, 1"])
async def test_an_upload_of_another_length_than_announced_is_refused(ollama: ScriptedUpstream, announced: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"12345"

    async with opened() as transport:
        with pytest.raises(InvalidRequest):
            await transport.send("POST", ollama.url + "/up", [("Content-Length", announced)], pieces())
    await until(lambda: ollama.connections == announced.isdigit())


async def test_an_upload_whose_sender_fails_ends_the_request(ollama: ScriptedUpstream) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"12345"
        raise ZeroDivisionError

    async with opened() as transport:
        with pytest.raises(ZeroDivisionError):
            await transport.send("POST", ollama.url + "/up", [], pieces())
    await until(lambda: ollama.connections == 1)
    assert ollama.requests == []


async def test_a_refusal_in_the_middle_of_an_upload_is_heard() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 X\r\nContent-Length: 3\r\n\r\nbig")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    async with serving(refuse) as url, opened() as transport:
        answer = await transport.send("POST", url, [], endless())
        assert (answer.status, await answer.read(10)) == (413, b"big")
        answer.close()


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/a\nb", "/\x00", "/ü"])
async def test_an_address_cannot_hold_another_request(ollama: ScriptedUpstream, path: str) -> None:
    async with opened() as transport:
        with pytest.raises(InvalidRequest):
            await ask(transport, ollama.url + path)
        with pytest.raises(InvalidRequest):
            await transport.send("GET", ollama.url, [("X", "a\r\nHost: elsewhere")])
    assert ollama.requests == []


async def test_tls_is_verified_by_name_and_by_authority(
    certified: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = certified
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    asked_for: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000)

    async with serving(answer, tls=context) as url:
        port = url.rsplit(":", 1)[1]
        async with opened() as transport:
            with pytest.raises(UpstreamUnreachable, match=r"(?i)certificate"):
                await ask(transport, f"https://localhost:{port}/", None, "GET")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with opened() as transport:
            for _ in range(2):
                assert await ask(transport, f"https://localhost:{port}/", None, "GET") == b"x" * 500_000
            with pytest.raises(UpstreamUnreachable, match=r"(?i)certificate"):
                await ask(transport, f"https://127.0.0.1:{port}/", None, "GET")
    assert asked_for[:2] == ["localhost", "localhost"]


async def test_closing_ends_what_is_under_way(ollama: ScriptedUpstream) -> None:
    ollama.on("/a", chunked([b"a", Stall()], "text/plain", finish=False))
    transport = Transport(Limits())
    answer: Answer = await transport.send("POST", ollama.url + "/a", body=b"")
    await transport.close()
    assert await asyncio.to_thread(ollama.left.wait, 5)
    answer.close()


@asynccontextmanager
async def serving(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object],
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """A server that does what `handle` does, and its address."""

    running: set[asyncio.Task[None] | None] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.add(asyncio.current_task())
        try:
            await handle(reader, writer)  # pyright: ignore
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(run, host, 0, ssl=tls)
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"{'https' if tls else 'http'}://{shown}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.wait([task for task in running if task is not None], timeout=5)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody signed, and its key."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return certificate, key


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.005)
