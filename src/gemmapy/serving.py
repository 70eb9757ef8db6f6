"""A gateway's life, from its socket to its last answer; `app.py` builds what is inside.

The port is taken first, so that a second gateway ends before it touches anything; then the books are opened, what a
crash left in flight is recorded, and only then is the door open. Models may still be loading; their requests wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import signal
import socket
import ssl
import sys
from collections.abc import Callable

import structlog
import uvicorn
import uvloop

import gemmapy
from gemmapy import logs
from gemmapy.api.server import KEEP_ALIVE_S, Server, listen, protocol, raise_file_limit
from gemmapy.api.services import Services
from gemmapy.app import build, create_app
from gemmapy.config import Settings
from gemmapy.storage.store import Store

SPARE_FILES = 512
SWITCH_INTERVAL_S = 0.0005
"""How long the event loop may hold the interpreter while the writer's thread wants it. Python's own 5 ms, for each of a
commit's many small steps, would show in every answer that waits for its row."""
GARBAGE = 10_000
"""So many objects more have the youngest looked through for garbage: with Python's own 700 that is every ten requests,
and nearly all that a request leaves behind is freed without it."""
_log = structlog.stdlib.get_logger()


def serve(settings: Settings, on_ready: Callable[[int], None] = lambda _port: None) -> None:
    """Runs a gateway until SIGTERM or SIGINT. Raises ConfigurationError where it cannot start.

    `on_ready` is called with the port once requests are taken.
    """
    logs.configure(settings.log_level, settings.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if settings.workers > 1:
        from gemmapy.processes import serve_many

        serve_many(settings, on_ready)
        return
    listening = listen(settings.host, settings.port)
    try:
        files = raise_file_limit(2 * settings.max_connections + SPARE_FILES)
        with Store.open(settings.data) as store:
            uvloop.run(_run(settings, store, listening, files, on_ready))
    finally:
        listening.close()


async def _run(
    settings: Settings, store: Store, listening: socket.socket, files: int, on_ready: Callable[[int], None]
) -> None:
    interrupted = await asyncio.to_thread(store.recover)
    if interrupted:
        _log.warning("requests that an earlier run left unfinished were recorded as interrupted", requests=interrupted)
    password = settings.admin_password.get_secret_value() if settings.admin_password else None
    async with build(settings, store) as services:
        first = await asyncio.to_thread(services.auth.first_admin, password)
        port = listening.getsockname()[1]

        def started() -> None:
            print(welcome(settings, port, services, first), flush=True)  # noqa: T201 - it is for people, not for the log
            on_ready(port)

        await answer(settings, services, listening, files, started)
    _log.info("stopped")


async def answer(
    settings: Settings, services: Services, listening: socket.socket, files: int, on_started: Callable[[], None]
) -> None:
    """Answers requests until SIGTERM or SIGINT, then finishes those that run."""
    server = Server(server_config(settings, services, files))
    # What was built by now stays, so that no collection walks through it while requests wait. Hardly any of it is
    # garbage, so that looking for some first would take longer than all the building did.
    gc.freeze()
    gc.set_threshold(GARBAGE)
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, number, signalled, server)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    on_started()
    stopping = asyncio.create_task(signalled.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        await services.live.close()  # or the server would wait for streams that have no end
        await services.gateway.drain(settings.drain_timeout_s)
        server.should_exit = True
    await serving
    stopping.cancel()


def server_config(settings: Settings, services: Services, files: int) -> uvicorn.Config:
    """How uvicorn serves it; `files` is how many the process may have open, two for each connection."""
    return uvicorn.Config(
        create_app(services),
        http=protocol(settings.client_timeout_s, min(settings.max_connections, max(64, (files - SPARE_FILES) // 2))),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.client_timeout_s),  # for those who do not read what they were sent
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )


def _on_signal(number: int, signalled: asyncio.Event, server: Server) -> None:
    if signalled.is_set():
        server.force_exit = True  # asked twice: do not wait for connections
        return
    _log.info("shutting down", signal=signal.Signals(number).name)
    signalled.set()


def welcome(settings: Settings, port: int, services: Services, first: tuple[str, str, str] | None) -> str:
    """What the operator reads after the start: where it is, and at the first start how to get in. Only here is the
    generated password ever shown."""
    url = settings.model_copy(update={"port": port}).url
    names = ", ".join(upstream.name for upstream in services.catalogue.upstreams)
    lines = [f"\nGemmaPy {gemmapy.__version__} serves {url}  (data: {services.store.data_dir}, upstreams: {names})"]
    if first is None:
        lines.append("API reference: /docs. More keys: gemmapy key create. All commands: gemmapy --help.")
    else:
        username, password, key = first
        model = _a_model(services)
        auth = f"-H 'Authorization: Bearer {key}'"
        # Bounded, since a small model can go on for minutes.
        question = '"prompt": "Why is the sky blue?", "options": {"num_predict": 60}'
        hello = '"max_tokens": 60, "messages": [{"role": "user", "content": "Hello!"}]'
        shown = password if settings.admin_password is None else "(as given by GEMMAPY_ADMIN_PASSWORD)"
        lines += [
            "",
            f"  admin      {username}",
            f"  password   {shown}",
            f"  API key    {key}",
            "",
            "Shown this once. Try, in another terminal:",
            "",
            f"""  curl {url}/api/generate {auth} -d '{{"model": "{model}", {question}}}'""",
            f"""  curl {url}/v1/chat/completions {auth} -d '{{"model": "{model}", {hello}}}'""",
            f"""  curl '{url}/api/metrics/dashboard?days=7' {auth}""",
        ]
    return "\n".join([*lines, ""])


def _a_model(services: Services) -> str:
    for upstream in services.catalogue.upstreams:
        if upstream.embedded is not None:
            return upstream.embedded.settings.name
    with contextlib.suppress(IndexError):
        return services.catalogue.models()[0][0]
    return "llama3"
