"""A small team's three weeks, written into the books: what tests of the page and of its pictures look at."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from gemmapy.core.ids import RequestIds
from gemmapy.core.records import Cost, Intent, Outcome, Timings, Usage, speed_mtps
from gemmapy.storage import ledger, people
from gemmapy.storage.store import Store

NAMES = ("ada", "grace", "linus", "margaret")
PROJECTS = ("chatbot", "research & development")
MODELS = {  # tokens per second; nano-USD for each token in and out, None where it has no price
    "llama3:8b": (45, (150, 300)),
    "mistral": (60, (100, 200)),
    "llama3.1:70b-instruct-q4_K_M": (14, (900, 1800)),
    "gemma3:4b": (90, None),
}
ENDPOINTS = ("/api/chat", "/v1/chat/completions", "/api/generate")
TROUBLES = ("upstream_error", "upstream_timeout", "upstream_unreachable")


def fill(store: Store, now: datetime, *, requests: int = 600, days: int = 21, owner: int | None = None) -> list[int]:
    """Adds the team and its requests up to `now`; the users' ids are the answer. `owner` asks some of them, too."""
    chance = random.Random(11)
    ids = RequestIds()
    users = [store.write(lambda c, n=name: people.create_user(c, n, None, is_admin=False, now=now)) for name in NAMES]
    projects = [store.write(lambda c, n=name: people.create_project(c, n, now)) for name in PROJECTS]
    everybody = [*users, *([owner] if owner is not None else [])]
    for at in _moments(chance, now - timedelta(minutes=1), requests, days):
        outcome = _outcome(chance, ids, at, chance.choice(everybody), chance.choice([None, *projects]))
        store.write(lambda c, o=outcome, m=at: ledger.write(c, store.slot, [], [(o, False)], m))
    return users


def _moments(chance: random.Random, end: datetime, requests: int, days: int) -> list[datetime]:
    """When they ask, in order: by day more than by night, little at weekends, a bit more each week."""
    moments: list[datetime] = []
    while len(moments) < requests:
        at = end - timedelta(days=days) * (1 - chance.random() ** 0.8)
        awake = max(0.03, 1 - abs(at.hour + at.minute / 60 - 13) / 7)
        if chance.random() < awake * (0.2 if at.weekday() > 4 else 1):
            moments.append(at)
    return sorted(moments)


def _outcome(chance: random.Random, ids: RequestIds, at: datetime, user: int, project: int | None) -> Outcome:
    model = chance.choices(list(MODELS), (8, 4, 3, 1))[0]
    speed, price = MODELS[model]
    prompt, response = int(chance.lognormvariate(6.3, 1)), int(chance.lognormvariate(5.3, 1))
    generation_ms = max(1, int(response / (speed * chance.uniform(0.7, 1.2)) * 1000))
    queue_ms, prompt_ms = int(chance.expovariate(0.02)), int(chance.lognormvariate(5.4, 0.7))
    load_ms = chance.choice([0] * 20 + [2800])
    whole_ms = queue_ms + load_ms + prompt_ms + generation_ms
    trouble = chance.choice(TROUBLES) if chance.random() < 0.04 else None
    intent = Intent(
        request_id=ids.new(),
        user_id=user,
        model=model,
        endpoint=chance.choice(ENDPOINTS),
        started_at=at - timedelta(milliseconds=whole_ms),
        project_id=project,
        upstream="ollama",
        price_id=None,
    )
    if trouble is not None:
        times = Timings(whole_ms, queue_ms=queue_ms)
        return Outcome(intent, 502, Usage(None, None), times, error_code=trouble, error_message="It did not answer.")
    return Outcome(
        intent=intent,
        status=499 if chance.random() < 0.03 else 200,
        usage=Usage(prompt, response),
        timings=Timings(
            whole_ms,
            ttft_ms=queue_ms + load_ms + prompt_ms,
            queue_ms=queue_ms,
            load_ms=load_ms,
            prompt_ms=prompt_ms,
            generation_ms=generation_ms,
        ),
        finish_reason="stop",
        cost=None if price is None else Cost(1, prompt * price[0], response * price[1]),
        speed_mtps=speed_mtps(response, generation_ms),
    )
