"""What happens on the way to an answer: the cache, the queue, the attempts. Figures since the start, of all processes
that answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from gemmapy.api.access import Admin, SignedIn, Use
from gemmapy.api.services import Services
from gemmapy.api.together import summed
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import usd
from gemmapy.upstreams.catalogue import spellings
from gemmapy.upstreams.upstream import Upstream

router = APIRouter()
_CACHE, _CLEAR, _CLEAR_EXPIRED, _ATTEMPTS, _DOOR, _QUEUES = (
    *("the cache", "clear the cache", "clear what is too old", "attempts", "the door", "queues"),
)


class CachedModel(TypedDict):
    model: str
    entries: int
    bytes: int
    hits: int
    misses: int
    hit_rate: float
    saved_cost: float
    stored_entries: int
    stored_bytes: int


class StoredAnswers(TypedDict):
    """Of the answers on disk. `hits` are those that were no more in memory; `trouble` says why it is of no use at this
    moment."""

    entries: int
    bytes: int
    max_bytes: int
    hits: int
    evictions: int
    trouble: str | None


class CacheStats(TypedDict):
    """`hit_rate` is of the requests that looked; `joined` are hits on an answer that was still being made. `stored` is
    null where nothing is kept on disk. `by_model` is for admins, and empty for others."""

    policy: str
    shared: bool
    entries: int
    max_entries: int
    bytes: int
    max_bytes: int
    ttl_s: float
    hits: int
    misses: int
    hit_rate: float
    joined: int
    evictions: int
    expired: int
    saved_cost: float
    currency: str
    stored: StoredAnswers | None
    by_model: list[CachedModel]


class Cleared(TypedDict):
    message: str
    removed: int


class UpstreamAttempts(TypedDict):
    """`breaker`: closed lets requests through, open does not for another `retry_in_s`, half-open lets one try."""

    name: str
    kind: str
    reachable: bool
    breaker: str
    retry_in_s: float
    opened: int
    in_flight: int
    attempts: int
    failures: int


class AttemptStats(TypedDict):
    """`requests` were sent to an upstream, `recovered` of them answered after a retry or by another model
    (`fallbacks`), `exhausted` failed all the same. `chains` are the operator's: which models take another's place."""

    requests: int
    attempts: int
    retries: int
    fallbacks: int
    recovered: int
    exhausted: int
    chains: dict[str, list[str]]
    upstreams: list[UpstreamAttempts]


class UpstreamQueue(TypedDict):
    """`places` is how many requests it is asked at once (null: any number), `taken` how many it is now. `mean_s`: for
    how long a place is held, lately. `waited` got a place after a wait, `left` gave up waiting; `refused_caller` were
    turned away because of what their own caller had waiting (429), `refused_full` because of what others had (503)."""

    name: str
    places: int | None
    taken: int
    waiting: int
    callers_waiting: int
    mean_s: float | None
    waited: int
    left: int
    refused_caller: int
    refused_full: int


class DoorStats(TypedDict):
    """How many LLM requests are inside, waiting ones included, what their bodies take beside 64 KiB each, and how many
    records wait to be written. `shed` counts those that were turned away, by what was full; those where one caller had
    filled it (429) are in `callers` too. `unwritten` refusals have no row: their caller had twenty in that second."""

    requests: int
    max_requests: int
    body_bytes: int
    max_body_bytes: int
    writes_waiting: int
    shed: dict[str, int]


class QueueStats(TypedDict):
    """`length`, `length_per_caller` and `wait_s` are the settings: how many may wait in front of one upstream, and how
    long."""

    gateway: DoorStats

    length: int
    length_per_caller: int
    wait_s: float
    upstreams: list[UpstreamQueue]


class LimitState(TypedDict):
    """`of` is whose limit it is (`user 3`, `key 7`), `kind` what it counts: `concurrent` requests, `requests` a minute
    or `tokens` a minute. After `reset_s` all of it is free again."""

    of: str
    kind: str
    limit: int
    used: int
    remaining: int
    reset_s: float


class LimitStates(TypedDict):
    """`weight` is the caller's share where requests wait. `per_model` is how many of the user's may run at once with
    any one model (null: any number), `models` how many of everybody's with those models that have a limit."""

    weight: float
    limits: list[LimitState]
    per_model: int | None
    models: dict[str, int]


class Which(BaseModel):
    """By a model's name, by a pattern of names with `*`, or, with neither, all."""

    model_config = ConfigDict(extra="forbid")
    model: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    pattern: Annotated[str | None, Field(min_length=1, max_length=200)] = None


# These run in the event loop, where the cache lives; what is on disk is looked at in a thread of its own.


def answer_peers(use: Services, *, answers_requests: bool) -> None:
    """Tells and does for the other processes what their callers ask of all."""
    peers = use.peers
    peers.on(_ATTEMPTS, lambda _said: _attempts(use))
    if not answers_requests:
        peers.on(_QUEUES, lambda _said: [_queue(upstream) for upstream in use.catalogue.upstreams])
        return
    peers.on(_CACHE, lambda _said: _cache(use))
    peers.on(_DOOR, lambda _said: _door(use))
    peers.on(_CLEAR, lambda said: use.gateway.cache.clear(_chosen(Which(**said))))
    peers.on(_CLEAR_EXPIRED, lambda _said: use.gateway.cache.clear_expired())


@router.get("/api/cache/stats", summary="The cache: what is in it, hits, what they saved", tags=["Cache"])
async def cache_stats(caller: SignedIn, use: Use) -> CacheStats:
    own = await _cache(use)
    others: list[CacheStats] = await use.peers.ask(_CACHE)
    stats = CacheStats(**summed([own, *others], {"ttl_s"}))
    stats["stored"] = own["stored"]  # one file for all
    for other in others:
        if stats["stored"] is not None and other["stored"] is not None:
            stats["stored"]["hits"] += other["stored"]["hits"]
            stats["stored"]["evictions"] += other["stored"]["evictions"]
    on_disk = {model["model"]: (model["stored_entries"], model["stored_bytes"]) for model in own["by_model"]}
    for model in stats["by_model"]:
        model["hit_rate"] = _rate(model["hits"], model["misses"])
        model["stored_entries"], model["stored_bytes"] = on_disk.get(model["model"], (0, 0))
    stats["hit_rate"] = _rate(stats["hits"], stats["misses"])
    if not caller.is_admin:
        stats["by_model"] = []
    return stats


async def _cache(use: Services) -> CacheStats:
    """Of this process."""
    cache = use.gateway.cache
    counts, limits = cache.counts, cache.limits
    hits, misses = counts.hits.total(), counts.misses.total()
    on_disk: Mapping[str, tuple[int, int]] = {} if cache.shelf is None else await cache.shelf.held()
    return CacheStats(
        policy=use.settings.cache,
        shared=use.settings.cache_shared,
        entries=len(cache),
        max_entries=limits.max_entries,
        bytes=cache.bytes,
        max_bytes=limits.max_bytes,
        ttl_s=limits.ttl_s,
        hits=hits,
        misses=misses,
        hit_rate=_rate(hits, misses),
        joined=counts.joined,
        evictions=counts.evictions,
        expired=counts.expired,
        saved_cost=usd(counts.saved_nusd.total()),
        currency="USD",
        stored=_stored(use, on_disk),
        by_model=_by_model(use, on_disk),
    )


@router.post("/api/cache/clear", summary="Admins: forget answers: a model's, a pattern's, or all", tags=["Cache"])
async def clear(caller: Admin, use: Use, which: Which | None = None) -> Cleared:  # noqa: ARG001
    chosen = which or Which()
    removed = await use.gateway.cache.clear(_chosen(chosen)) + sum(await use.peers.ask(_CLEAR, chosen.model_dump()))
    return {"message": f"{removed} answers are forgotten.", "removed": removed}


@router.post("/api/cache/clear-expired", summary="Admins: forget the answers that are too old", tags=["Cache"])
async def clear_expired(caller: Admin, use: Use) -> Cleared:  # noqa: ARG001
    removed = await use.gateway.cache.clear_expired() + sum(await use.peers.ask(_CLEAR_EXPIRED))
    return {"message": f"{removed} answers were too old.", "removed": removed}


@router.get(
    "/api/retry/stats", summary="Attempts, retries, other models, and the state of each upstream", tags=["Health"]
)
async def retry_stats(caller: SignedIn, use: Use) -> AttemptStats:  # noqa: ARG001 - only who is known may ask
    return AttemptStats(**summed([_attempts(use), *await use.peers.ask(_ATTEMPTS)], {"retry_in_s", "chains"}))


def _attempts(use: Services) -> AttemptStats:
    """Of this process."""
    stats = use.gateway.attempts.stats
    now_ns = use.clock.monotonic_ns()
    return AttemptStats(
        requests=stats.requests,
        attempts=stats.attempts,
        retries=stats.retries,
        fallbacks=stats.fallbacks,
        recovered=stats.recovered,
        exhausted=stats.exhausted,
        chains={model: list(others) for model, others in use.settings.fallbacks.items()},
        upstreams=[
            UpstreamAttempts(
                name=upstream.name,
                kind=upstream.kind,
                reachable=upstream.health.answers,
                breaker=upstream.health.breaker.state(now_ns),
                retry_in_s=round(upstream.health.breaker.retry_after_s(now_ns), 3),
                opened=upstream.health.breaker.opened,
                in_flight=upstream.health.in_flight,
                attempts=upstream.health.attempts,
                failures=upstream.health.failures,
            )
            for upstream in use.catalogue.upstreams
        ],
    )


@router.get("/api/queue/stats", summary="Who waits in front of each upstream, and how it went", tags=["Health"])
async def queue_stats(caller: SignedIn, use: Use) -> QueueStats:  # noqa: ARG001 - only who is known may ask
    settings = use.settings
    queues = await use.peers.ask(_QUEUES)  # where several processes answer, one of them has the queues of all
    return QueueStats(
        gateway=DoorStats(**summed([_door(use), *await use.peers.ask(_DOOR)])),
        length=settings.queue_length,
        length_per_caller=settings.queue_length_per_caller,
        wait_s=settings.queue_wait_s,
        upstreams=queues[0] if queues else [_queue(upstream) for upstream in use.catalogue.upstreams],
    )


def _door(use: Services) -> DoorStats:
    """Of this process."""
    door = use.gateway.door
    return DoorStats(
        requests=door.requests.used,
        max_requests=door.requests.limit,
        body_bytes=door.bodies.used,
        max_body_bytes=door.bodies.limit,
        writes_waiting=use.store.waiting,
        shed=asdict(door.shed),
    )


@router.get("/api/limits", summary="Your limits, and what of them is used", tags=["People"])
async def own_limits(caller: SignedIn, use: Use) -> LimitStates:
    limits = use.gateway.limits
    return LimitStates(
        weight=caller.weight,
        limits=[
            LimitState(
                of=standing.claim.subject,
                kind=standing.claim.kind,
                limit=standing.claim.limit,
                used=standing.used,
                remaining=standing.remaining,
                reset_s=round(standing.reset_s, 3),
            )
            for standing in await limits.standing(caller)
        ],
        per_model=limits.of(caller).concurrent_per_model or None,
        models=dict(limits.models),
    )


def _queue(upstream: Upstream) -> UpstreamQueue:
    places, counts = upstream.places, upstream.places.counts
    return UpstreamQueue(
        name=upstream.name,
        places=places.count,
        taken=places.taken,
        waiting=places.waiting,
        callers_waiting=places.callers_waiting,
        mean_s=None if places.mean_ms is None else round(places.mean_ms / 1000, 3),
        waited=counts.waited,
        left=counts.left,
        refused_caller=counts.refused_caller,
        refused_full=counts.refused_full,
    )


def _chosen(which: Which) -> Callable[[str], bool] | None:
    """Which models' answers go; None for all."""
    model, pattern = which.model, which.pattern
    if model is not None and pattern is not None:
        raise InvalidRequest("Give a model or a pattern, not both.")
    if model is not None:
        names = spellings(model)
        return lambda name: name in names
    if pattern is not None:
        return lambda name: fnmatchcase(name, pattern)
    return None


def _stored(use: Services, on_disk: Mapping[str, tuple[int, int]]) -> StoredAnswers | None:
    cache = use.gateway.cache
    if cache.shelf is None:
        return None
    file = cache.shelf.file
    return StoredAnswers(
        entries=sum(entries for entries, _ in on_disk.values()),
        bytes=sum(size for _, size in on_disk.values()),
        max_bytes=file.max_bytes,
        hits=cache.counts.from_disk,
        evictions=file.evictions,
        trouble=file.trouble,
    )


def _by_model(use: Services, on_disk: Mapping[str, tuple[int, int]]) -> list[CachedModel]:
    cache = use.gateway.cache
    counts, held = cache.counts, cache.held()
    found: list[CachedModel] = []
    for model in sorted({*held, *on_disk, *counts.hits, *counts.misses}):
        entries, size = held.get(model, (0, 0))
        stored_entries, stored_size = on_disk.get(model, (0, 0))
        hits, misses = counts.hits[model], counts.misses[model]
        found.append(
            CachedModel(
                model=model,
                entries=entries,
                bytes=size,
                hits=hits,
                misses=misses,
                hit_rate=_rate(hits, misses),
                saved_cost=usd(counts.saved_nusd[model]),
                stored_entries=stored_entries,
                stored_bytes=stored_size,
            )
        )
    return found


def _rate(hits: int, misses: int) -> float:
    return hits / (hits + misses) if hits + misses else 0.0
