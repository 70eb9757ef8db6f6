"""A gateway for tests: in this process, on a real port, with everything but the signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import urllib3

from gemmapy.api.server import Server, listen
from gemmapy.api.services import Services
from gemmapy.app import build
from gemmapy.config import Settings
from gemmapy.serving import server_config
from gemmapy.storage.store import Store

PASSWORD = "correct horse battery"


class Answered:
    """A whole HTTP answer."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body: bytes = response.data

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]


class RunningGateway:
    """What a test sees of it."""

    def __init__(self, url: str, services: Services, key: str) -> None:
        self.url = url
        self.services = services
        self.store = services.store
        self.key = key
        self._pool = urllib3.PoolManager(retries=False, timeout=30)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        headers: dict[str, str] | None = None,
        preload: bool = True,
    ) -> Any:
        """Asks the gateway, as the first admin where no other key is given (None: nobody)."""
        sent = dict(headers or {})
        credential = self.key if key == "" else key
        if credential is not None:
            sent["Authorization"] = f"Bearer {credential}"
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        response = self._pool.request(method, self.url + path, body=raw, headers=sent, preload_content=preload)
        return Answered(response) if preload else response

    def post(self, path: str, body: Any = None, **how: Any) -> Answered:
        return self.request("POST", path, body, **how)

    def get(self, path: str, **how: Any) -> Answered:
        return self.request("GET", path, **how)

    def rows(self) -> list[dict[str, Any]]:
        """The ledger, oldest first."""
        with self.store.read() as connection:
            result = connection.exec_driver_sql("SELECT * FROM llm_metrics ORDER BY id")
            return [dict(row) for row in result.mappings()]

    def row(self, number: int = 1) -> dict[str, Any]:
        """The last row, once there are `number`; the gateway writes some that nobody waits for."""
        self.settle()
        rows = self.rows()
        assert len(rows) >= number, f"{len(rows)} rows"
        return rows[-1]

    def settle(self) -> None:
        """Waits until whatever the gateway was told to write is on disk."""
        deadline = threading.Event()
        for _ in range(500):
            if not self.services.gateway.running:
                break
            deadline.wait(0.01)
        self.store.write(lambda _connection: None)

    def in_flight(self) -> int:
        with self.store.read() as connection:
            return connection.exec_driver_sql("SELECT count(*) FROM inflight").scalar_one()


class _Prompt(Server):
    """The server, but for the tenths of a second that uvicorn's polling adds to every end."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - as uvicorn does
                    await asyncio.sleep(0.005)
        for task in self.server_state.tasks:
            task.cancel()


@contextlib.contextmanager
def gateway(data: Path, *upstreams: str, **settings: Any) -> Generator[RunningGateway]:
    """Runs a gateway in a thread; `upstreams` in the command line's form."""
    given = {"admin_password": PASSWORD, **settings}
    given.setdefault("upstreams", ",".join(upstreams))
    chosen = Settings(data=data, port=0, **given)  # pyright: ignore
    listening = listen("127.0.0.1", 0)
    ready = threading.Event()
    box: dict[str, Any] = {}

    async def run() -> None:
        with Store.open(data) as store:
            store.recover()
            async with build(chosen, store) as services:
                first = services.auth.first_admin(PASSWORD)
                box["key"] = first[2] if first else ""
                config = server_config(chosen, services, 100_000)
                server = _Prompt(config)
                serving = asyncio.create_task(server.serve(sockets=[listening]))
                while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.002)
                await services.catalogue.refresh()
                box.update(services=services, server=server)
                ready.set()
                await serving

    def target() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            box["error"] = error
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    ready.wait(30)
    if "error" in box:
        raise box["error"]
    host, port = listening.getsockname()[:2]
    try:
        yield RunningGateway(f"http://{host}:{port}", box["services"], box["key"])
    finally:
        box["server"].should_exit = True
        thread.join(20)
        listening.close()
