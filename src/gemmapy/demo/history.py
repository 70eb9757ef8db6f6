"""The quarter that lies behind the team, written straight into an empty data folder.

The same seed and the same moment make the same requests. Costs, errors and ratings come of the same code as a gateway's
own, so the audit finds nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from gemmapy.core.ids import RequestIds
from gemmapy.core.money import parse_usd
from gemmapy.core.records import Cost, Intent, Outcome, Timings, Usage, speed_mtps
from gemmapy.demo.team import (
    DAYS,
    DEARER,
    DEARER_UNTIL_DAY,
    INCIDENT,
    INTERN,
    INTERNS_SPIKE,
    INTERNS_SPIKE_DAY,
    MODELS,
    PROJECTS,
    ROLES,
    TEAM,
    UNKNOWN_MODEL,
    Model,
    Person,
    Role,
)
from gemmapy.gateway import credentials
from gemmapy.gateway.auth import FIRST_ADMIN, new_key
from gemmapy.metering.prices import PriceDesk
from gemmapy.pricing import cost_of
from gemmapy.storage import history, people, prices
from gemmapy.storage.history import Past
from gemmapy.storage.store import Store

FAILED, LEFT, UNKNOWN = 0.011, 0.017, 0.03
"""Shares: of requests that fail on a good day, whose client leaves early, and of the intern's for no known model."""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody as the data folder knows them, with a key that works."""

    person: Person
    user_id: int
    key_id: int
    key: str
    project_id: int


@dataclass(frozen=True, slots=True)
class Filled:
    """What was made, and how to get in."""

    members: tuple[Member, ...]
    username: str
    password: str
    requests: int


def fill(store: Store, requests: int, seed: int, password: str | None = None) -> Filled:
    """Fills an empty store with a team and about so many requests that end now. Blocks for some seconds."""
    chance = random.Random(seed)
    now = store.clock.now()
    begin = (now - timedelta(days=DAYS)).replace(minute=0, second=0, microsecond=0)
    desk = PriceDesk(store)  # enters the bundled prices
    chosen = password or credentials.generate_password()
    password_hash = credentials.hash_password(chosen)
    members = store.write(lambda connection: _people(connection, password_hash, begin))
    store.write(lambda connection: _prices(connection, begin))
    desk.refresh()
    moments = sorted(_moments(members, chance, begin, now, requests), key=lambda one: one[1])
    maker = _Maker(desk, chance, begin)
    made = (maker.request(member, started_at) for member, started_at in moments)
    past = sorted((one for one in made if one.recorded_at < now), key=lambda one: one.recorded_at)
    store.write(lambda connection: history.write(connection, past))
    return Filled(members, FIRST_ADMIN, chosen, len(past))


def _people(connection: Connection, password_hash: str, begin: datetime) -> tuple[Member, ...]:
    """The team with its projects and keys, and an admin to sign in as. All share a password, which is hashed once."""
    people.create_user(connection, FIRST_ADMIN, password_hash, is_admin=True, now=begin)
    projects = {name: people.create_project(connection, name, begin) for name in PROJECTS}
    members: list[Member] = []
    for person in TEAM:
        user_id = people.create_user(connection, person.name, password_hash, is_admin=person.is_admin, now=begin)
        project_id = projects[person.project]
        people.add_member(connection, project_id, user_id)
        key = credentials.generate_key()
        made = new_key(user_id, ROLES[person.role].client, key, project_id=project_id)
        key_id = people.create_key(connection, made, begin)
        members.append(Member(person, user_id, key_id, key, project_id))
    return tuple(members)


def _prices(connection: Connection, begin: datetime) -> None:
    name, dear_input, dear_output = DEARER
    for model in MODELS:
        if model.input_usd is None or model.output_usd is None:
            continue
        entries = [(model.input_usd, model.output_usd, begin + timedelta(days=model.since_day))]
        if model.name == name:
            cheaper = begin + timedelta(days=DEARER_UNTIL_DAY)
            entries = [(dear_input, dear_output, begin), (model.input_usd, model.output_usd, cheaper)]
        for input_usd, output_usd, at in entries:
            price = prices.NewPrice(
                model=model.name,
                input_nusd_per_1k=parse_usd(input_usd, "input"),
                output_nusd_per_1k=parse_usd(output_usd, "output"),
                effective_at=at,
                source="demo",
            )
            prices.append(connection, price, at, by=1)


def _moments(
    members: Sequence[Member], chance: random.Random, begin: datetime, now: datetime, wanted: int
) -> Iterator[tuple[Member, datetime]]:
    """Who asks when."""
    days = [begin + timedelta(days=day) for day in range(DAYS + 1)]
    spike = _working_day(begin, INTERNS_SPIKE_DAY)
    plan: list[tuple[Member, int, float]] = []
    for day, at in enumerate(days):
        mood = chance.lognormvariate(0, 0.1)  # of everybody, that day
        for member in members:
            load = _load(member.person, day, at) * mood * chance.lognormvariate(0, 0.35)
            plan.append((member, day, load * INTERNS_SPIKE if _is_spike(member.person, day, spike) else load))
    scale = wanted / sum(load for *_, load in plan)
    for member, day, load in plan:
        count = int(load * scale) + (chance.random() < load * scale % 1)
        for _ in range(count):
            moment = _moment(member.person, days[day], chance, is_spike=_is_spike(member.person, day, spike))
            if begin <= moment < now:
                yield member, moment


def _working_day(begin: datetime, day: int) -> int:
    """That day, or the Monday after it."""
    while (begin + timedelta(days=day)).weekday() >= 5:
        day += 1
    return day


def _is_spike(person: Person, day: int, spike: int) -> bool:
    return person.name == INTERN and day == spike


def _load(person: Person, day: int, at: datetime) -> float:
    """How much somebody does on a day, before scaling."""
    role = ROLES[person.role]
    weekday = at.astimezone(ZoneInfo(person.zone)).weekday()
    load = person.weight * (1 + (person.growth - 1) * day / DAYS)
    return load * (role.weekend if weekday >= 5 else (1.0, 1.1, 1.08, 1.02, 0.78)[weekday])


def _moment(person: Person, at: datetime, chance: random.Random, *, is_spike: bool) -> datetime:
    """When in that day: within working hours, with a lunch break, and now and then late at night."""
    zone = ZoneInfo(person.zone)
    day = at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    first, last = ROLES[person.role].hours
    if is_spike:
        first, last = 21, 24
    middle = (first + last) / 2
    hour = chance.triangular(first, last, middle - 0.5) if last - first < 20 else chance.uniform(first, last)
    if last - first < 14 and abs(hour - 12.6) < 0.5 and chance.random() < 0.6:
        hour += 1.2
    if last - first < 14 and chance.random() < 0.04:
        hour = chance.uniform(0, 24)
    moment = (day + timedelta(hours=hour)).astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class _Maker:
    """Makes requests, one after the other."""

    def __init__(self, desk: PriceDesk, chance: random.Random, begin: datetime) -> None:
        self._book = desk.book
        self._chance = chance
        self._begin = begin
        self._spike = _working_day(begin, INTERNS_SPIKE_DAY)
        self._incident = _working_day(begin, INCIDENT.day)
        self._now_ms = 0
        self._ids = RequestIds(lambda: self._now_ms, chance.randbytes)

    def request(self, member: Member, started_at: datetime) -> Past:
        """One request of somebody, with all that became of it."""
        chance, role = self._chance, ROLES[member.person.role]
        self._now_ms = int(started_at.timestamp() * 1000)
        day = (started_at - self._begin).days
        is_spike = _is_spike(member.person, day, self._spike)
        if member.person.name == INTERN and not is_spike and chance.random() < UNKNOWN:
            return self._refused(member, role, started_at)
        model = self._model(role, day) if not is_spike else MODELS[2]
        prompt = max(3, int(chance.lognormvariate(0, 0.8) * role.prompt_tokens))
        response = max(1, int(chance.lognormvariate(0, 0.7) * role.response_tokens)) if role.response_tokens else 0
        if chance.random() < role.cached:
            return self._cached(member, role, model, started_at, Usage(prompt, response))
        fails = INCIDENT.failing if self._is_incident(model, day, started_at) else FAILED
        if chance.random() < fails:
            return self._failed(member, role, model, started_at, is_incident=fails == INCIDENT.failing)
        leaves = bool(response) and chance.random() < LEFT
        if leaves:
            response = max(1, int(response * chance.random()))
        crowd = chance.expovariate(1 / 900) if is_spike or fails == INCIDENT.failing else chance.expovariate(1 / 35)
        prompt_ms = max(1, int(1000 * prompt / model.prompt_tokens_per_second * chance.uniform(0.85, 1.3)))
        pace = model.tokens_per_second * chance.uniform(0.82, 1.1)
        generation_ms = max(1, int(1000 * response / pace)) if response else None
        load_ms = int(chance.uniform(2_000, 9_000)) if chance.random() < 0.008 else 0
        first = int(crowd) + load_ms + prompt_ms + int(chance.uniform(3, 12))
        timings = Timings(
            duration_ms=first + (generation_ms or 0),
            ttft_ms=first if role.streams else None,
            queue_ms=int(crowd),
            load_ms=load_ms,
            prompt_ms=prompt_ms,
            generation_ms=generation_ms,
        )
        usage = Usage(prompt, response, estimated=leaves)
        cost = self._cost(model.name, usage, timings, started_at)
        outcome = Outcome(
            intent=self._intent(member, role, model.name, started_at, model.upstream, cost),
            status=499 if leaves else 200,
            usage=usage,
            timings=timings,
            error_message="The client left before its answer was complete." if leaves else None,
            finish_reason=None if leaves or not response else ("length" if chance.random() < 0.05 else "stop"),
            cost=cost,
            speed_mtps=speed_mtps(response, generation_ms),
        )
        return self._past(outcome, None if leaves else self._rating(role, model))

    def _is_incident(self, model: Model, day: int, at: datetime) -> bool:
        first, last = INCIDENT.hours
        return day == self._incident and model.upstream == INCIDENT.upstream and first <= at.hour < last

    def _model(self, role: Role, day: int) -> Model:
        there = [model for model in MODELS if model.name in role.models and model.since_day <= day]
        # People take up a new model over some weeks, not in a night.
        weights = [
            role.models[model.name] * (min(1.0, (day - model.since_day + 3) / 21) if model.since_day else 1.0)
            for model in there
        ]
        return self._chance.choices(there, weights)[0]

    def _rating(self, role: Role, model: Model) -> int | None:
        if self._chance.random() >= role.rated:
            return None
        return 1 if self._chance.random() < model.liked else -1

    def _cached(self, member: Member, role: Role, model: Model, started_at: datetime, usage: Usage) -> Past:
        took_ms = self._chance.randint(2, 9)
        cost = self._cost(model.name, usage, Timings(), started_at)
        outcome = Outcome(
            intent=self._intent(member, role, model.name, started_at, None, cost),
            status=200,
            usage=usage,
            timings=Timings(duration_ms=took_ms, ttft_ms=took_ms if role.streams else None),
            finish_reason="stop",
            cached=True,
            cost=None if cost is None else cost.nothing(),
            saved_nusd=None if cost is None else cost.total_nusd,
            attempts=0,
        )
        return self._past(outcome, self._rating(role, model))

    def _failed(self, member: Member, role: Role, model: Model, started_at: datetime, *, is_incident: bool) -> Past:
        code = self._chance.choice(INCIDENT.codes if is_incident else ("upstream_error", "upstream_timeout"))
        status, message, longest_ms = _FAILURES[code]
        outcome = Outcome(
            intent=self._intent(member, role, model.name, started_at, model.upstream, None),
            status=status,
            usage=Usage(estimated=True),
            timings=Timings(duration_ms=int(self._chance.uniform(0.2, 1) * longest_ms), queue_ms=3),
            error_code=code,
            error_message=message.format(model.upstream),
        )
        return self._past(outcome, None)

    def _refused(self, member: Member, role: Role, started_at: datetime) -> Past:
        outcome = Outcome(
            intent=self._intent(member, role, UNKNOWN_MODEL, started_at, None, None),
            status=404,
            usage=Usage(),
            timings=Timings(duration_ms=1),
            error_code="model_not_found",
            error_message=f"model '{UNKNOWN_MODEL}' not found",
            attempts=0,
        )
        return self._past(outcome, None)

    def _cost(self, model: str, usage: Usage, timings: Timings, at: datetime) -> Cost | None:
        price = self._book.at(model, at)
        return None if price is None else cost_of(price, usage, timings.compute_ms)

    def _intent(
        self, member: Member, role: Role, model: str, started_at: datetime, upstream: str | None, cost: Cost | None
    ) -> Intent:
        return Intent(
            request_id=self._ids.new(),
            user_id=member.user_id,
            model=model,
            endpoint=role.endpoint,
            started_at=started_at,
            stream=role.streams,
            api_key_id=member.key_id,
            project_id=member.project_id,
            upstream=upstream,
            price_id=None if cost is None else cost.price_id,
        )

    @staticmethod
    def _past(outcome: Outcome, rating: int | None) -> Past:
        took = timedelta(milliseconds=outcome.timings.duration_ms or 0)
        return Past(outcome, outcome.intent.started_at + took, rating)


_FAILURES = {
    "upstream_error": (502, "{} ended its answer before it was complete.", 20_000),
    "upstream_unreachable": (503, "{} cannot be reached: connection refused.", 40),
    "upstream_timeout": (504, "{} did not go on with its answer for 120 s.", 121_000),
}
