"""Whatever happens to the books, they are what somebody with paper and a pencil would have counted."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock
from tests.support.quick import few_or_many

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.core.errors import Conflict
from gemmapy.core.ids import RequestIds
from gemmapy.core.periods import Window
from gemmapy.core.records import Intent
from gemmapy.metering.audit import Audit, audit
from gemmapy.metering.reprice import Repricer, Repricing
from gemmapy.metering.retention import retire
from gemmapy.storage import figures, ledger, people, spending
from gemmapy.storage.figures import Filter
from gemmapy.storage.store import Store

NANO = Decimal("0.000000001")
PRICES: dict[str, tuple[Decimal, Decimal]] = {"llama2": (Decimal("0.0001"), Decimal("0.0002"))}
MODELS = ["llama2", "phi", "qwen"]
STEP = st.one_of(
    st.tuples(
        st.just("record"),
        st.tuples(
            st.sampled_from([1, 2]),
            st.sampled_from(MODELS),
            st.none() | st.integers(0, 9_999),
            st.none() | st.integers(0, 9_999),
            st.booleans(),
            st.sampled_from(["/x", "/y"]),
        ),
    ),
    st.tuples(st.just("rate"), st.tuples(st.integers(0, 30), st.sampled_from([-1, 0, 1]))),
    st.tuples(st.just("wait"), st.sampled_from([1, 400, 901, 20_000, 90_000, 200_000])),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("price"), st.tuples(st.sampled_from(MODELS), st.integers(0, 9), st.integers(0, 9))),
    st.tuples(
        st.just("reprice"),
        st.tuples(st.integers(0, 4), st.sampled_from([None, *MODELS]), st.booleans(), st.booleans()),
    ),
    st.tuples(st.just("retire"), st.integers(1, 3)),
)
QUESTION = st.tuples(
    st.sampled_from([0, 1, 450, 3_600, 86_400, 100_000, 300_000]),
    st.sampled_from([1, 900, 7_200, 86_400, 150_000, 1_000_000]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, *MODELS]),
    st.sampled_from([None, "/x", "/y"]),
    st.sampled_from(["all", "user", "model", "endpoint", "day"]),
)
"""A window that ended so many seconds ago and is so many long, a filter, and what to group by."""


@dataclass
class Entry:
    """A request in the paper book."""

    at: datetime
    user: int
    model: str
    prompt: int | None
    response: int | None
    cached: bool
    cost: Decimal | None
    saved: Decimal = Decimal(0)
    rating: int | None = None
    recorded: tuple[Decimal | None, Decimal] = (None, Decimal(0))
    endpoint: str = "/x"

    @property
    def owner(self) -> int:
        """The user; what a crash interrupted was the first one's."""
        return self.user or 1

    def group(self, by: str) -> Any:
        day = int(self.at.timestamp()) // 86_400 * 86_400
        return {"all": None, "user": self.owner, "model": self.model, "endpoint": self.endpoint, "day": day}[by]

    @property
    def tokens(self) -> int:
        return (self.prompt or 0) + (self.response or 0)

    def charge(self, price: tuple[Decimal, Decimal] | None) -> None:
        """By a price per 1K tokens, each part rounded half-even to the nano-dollar."""
        if price is None or (self.prompt is None and self.response is None):
            return
        parts = [
            (Decimal(count or 0) * rate / 1000).quantize(NANO, ROUND_HALF_EVEN)
            for count, rate in zip((self.prompt, self.response), price, strict=True)
        ]
        self.cost, self.saved = (
            (Decimal(0), sum(parts, Decimal(0))) if self.cached else (sum(parts, Decimal(0)), Decimal(0))
        )


class Paper:
    """The book that is kept beside."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.prices = dict(PRICES)
        self.gone_before: datetime | None = None

    def reprice(self, since: datetime, model: str | None, *, unpriced: bool, recorded: bool) -> None:
        for entry in self.entries:
            is_unpriced = entry.cost is None and entry.tokens > 0
            if entry.at < since or (model and entry.model != model) or (unpriced and not is_unpriced):
                continue
            if recorded:
                entry.cost, entry.saved = entry.recorded
            else:
                entry.charge(self.prices.get(entry.model))


@few_or_many(8, 100)
def test_any_history_of_the_books_is_a_recount_in_decimal(examples: int) -> None:
    questions = st.lists(QUESTION, min_size=1, max_size=8)
    check = given(steps=st.lists(STEP, max_size=30), questions=questions)(history_is_a_recount)
    settings(max_examples=examples, deadline=None)(check)()


def history_is_a_recount(steps: list[Any], questions: list[Any]) -> None:
    clock, ids, paper = FixedClock(), RequestIds(), Paper()
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "d", clock)
        for name in ("ada", "bob"):
            store.write(lambda c, n=name: people.create_user(c, n, None, is_admin=True, now=clock.now()))
        collector, costs = MetricsCollector(store), CostCalculator(store)
        recorded: list[int] = []
        for kind, what in steps:
            if kind == "record":
                user, model, prompt, response, cached, endpoint = what
                tokens = {"prompt_tokens": prompt, "response_tokens": response}
                recorded.append(
                    collector.record(user, model, endpoint, **tokens, cached=cached, duration_ms=5)  # pyright: ignore[reportArgumentType]
                )
                entry = Entry(clock.now(), user, model, prompt, response, cached, None, endpoint=endpoint)
                entry.charge(paper.prices.get(model))
                entry.recorded = (entry.cost, entry.saved)
                paper.entries.append(entry)
            elif kind == "rate" and recorded:
                place = what[0] % len(recorded)
                entry = [e for e in paper.entries if e.user][place]
                gone = paper.gone_before is not None and entry.at < paper.gone_before
                try:
                    collector.update_rating(recorded[place], what[1])
                    assert not gone
                    entry.rating = what[1]
                except Conflict:
                    assert gone
            elif kind == "wait":
                clock.go_on(seconds=what)
            elif kind == "crash":
                lost = Intent(ids.new(), 1, "phi", "/x", clock.now(), prompt_estimate=5)
                store.write(lambda c, i=lost: ledger.write(c, 200, [(i, 200)], [], i.started_at))
                store.close()
                store = Store.open(Path(folder) / "d", clock)
                store.recover()
                collector, costs = MetricsCollector(store), CostCalculator(store)
                paper.entries.append(Entry(clock.now(), 0, "phi", 5, None, False, None))
            elif kind == "price":
                model, cents, more = what
                paper.prices[model] = (Decimal(cents) / 100_000, Decimal(more) / 100_000)
                costs.update_pricing(model, *map(str, paper.prices[model]))
                clock.go_on(seconds=1)
            elif kind == "reprice":
                days, model, unpriced, back = what
                since = clock.now() - timedelta(days=days, seconds=1)
                asked = Repricing(
                    Window(since, clock.now() + timedelta(seconds=1)),
                    Filter(model=model),
                    as_recorded=back,
                    unpriced_only=unpriced,
                    reason="a test",
                )
                repricer = Repricer(store)
                if paper.gone_before is not None and since < paper.gone_before:
                    with_refusal(repricer, asked)
                    continue
                foreseen = repricer.preview(asked)
                done = repricer.apply(asked)
                assert (foreseen["difference"], foreseen["changed"]) == (done["difference"], done["changed"])
                assert repricer.preview(asked)["changed"] == 0
                paper.reprice(since, model, unpriced=unpriced, recorded=back)
            elif kind == "retire":
                retired = list(retire(store, what))
                if retired:
                    last = datetime.fromisoformat(retired[-1].day + "T00:00:00+00:00")
                    paper.gone_before = last + timedelta(days=1)
        compare(store, paper)
        for question in questions:
            ask(store, paper, *question)
        store.close()


def with_refusal(repricer: Repricer, asked: Repricing) -> None:
    try:
        repricer.apply(asked)
    except Conflict:
        return
    raise AssertionError("a window that has retired was priced anew")


def compare(store: Store, paper: Paper) -> None:
    seen = Audit()
    assert list(audit(store, seen)) == []
    summary = CostCalculator(store).get_user_costs(None, "year")
    by_model: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in paper.entries:
        by_model[entry.model].append(entry)
    found = {line["model"]: line for line in summary["breakdown"]}
    assert found.keys() == by_model.keys()
    for model, entries in by_model.items():
        unpriced = [entry for entry in entries if entry.cost is None and entry.tokens]
        assert found[model]["request_count"] == len(entries)
        assert found[model]["total_cost"] == float(sum((e.cost or Decimal(0) for e in entries), Decimal(0)))
        assert found[model]["unpriced_requests"] == len(unpriced)
    everyone = CostCalculator(store).get_all_users_costs("year")
    assert everyone["total_cost"] == summary["total_cost"]
    stats = MetricsCollector(store).get_dashboard_stats(days=365)
    assert stats["total_requests"] == len(paper.entries)
    assert stats["ratings"]["positive"] == sum(entry.rating == 1 for entry in paper.entries)
    assert stats["ratings"]["negative"] == sum(entry.rating == -1 for entry in paper.entries)
    assert stats["cache_hits"] == sum(entry.cached for entry in paper.entries)


def ask(
    store: Store,
    paper: Paper,
    ago: int,
    length: int,
    user: int | None,
    model: str | None,
    endpoint: str | None,
    by: Any,
) -> None:
    end = store.clock.now() - timedelta(seconds=ago)
    which = Filter(user_id=user, model=model, endpoint=endpoint)
    with store.read() as connection:
        window = figures.answerable(connection, Window(end - timedelta(seconds=length), end), by, which)
        found = figures.sums(connection, window, by, which)
        whole = spending.answerable(connection, Window(end - timedelta(seconds=length), end))
        spent = spending.by_user_and_model(connection, whole)
    told = {(owner, of): one.numbers[:3] for owner, models in spent.items() for of, one in models.models.items()}
    counted: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for entry in paper.entries:
        if whole.start <= entry.at < whole.end:
            numbers = (1, entry.prompt or 0, entry.response or 0)
            pair = counted[entry.owner, entry.model]
            pair[:] = map(sum, zip(pair, numbers, strict=True))
    assert {pair: list(numbers) for pair, numbers in told.items()} == counted
    expected: defaultdict[Any, list[Entry]] = defaultdict(list)
    for entry in paper.entries:
        wanted = ((user, entry.owner), (model, entry.model), (endpoint, entry.endpoint))
        if window.start <= entry.at < window.end and all(asked in (None, has) for asked, has in wanted):
            expected[entry.group(by)].append(entry)
    assert {group: sums.requests for group, sums in found.items()} == {g: len(many) for g, many in expected.items()}
    for group, entries in expected.items():
        assert found[group].total_nusd == sum((e.cost or Decimal(0) for e in entries), Decimal(0)) * 10**9
        assert found[group].total_tokens == sum(entry.tokens for entry in entries)
