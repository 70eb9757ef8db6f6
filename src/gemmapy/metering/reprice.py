"""Pricing the past anew: what it would change, and changing it by adjustments that leave a trail.

Goes through the ledger page by page, each page in a transaction of its own, so that traffic is never held up. What is
done is done again without effect: an adjustment leads from what a request is charged now to what it is to be charged,
so a repricing that broke off is finished by asking for the same once more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import CURRENCY, usd
from gemmapy.core.periods import Window
from gemmapy.metering.answers import Repriced, RepricedGroup
from gemmapy.metering.prices import PriceDesk
from gemmapy.pricing import PriceBook, cost_of
from gemmapy.storage import adjustments, people, watermark
from gemmapy.storage.adjustments import Adjustment, Charged, NewRepricing, Recorded
from gemmapy.storage.figures import EVERYTHING, Filter
from gemmapy.storage.store import Store

PAGE = 500
REASON_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Repricing:
    """What is asked for."""

    window: Window
    which: Filter = EVERYTHING
    """By user, project or model."""
    prices_at: datetime | None = None
    """The price list of this moment; None is now."""
    as_recorded: bool = False
    """Instead: back to what each was recorded with."""
    unpriced_only: bool = False
    reason: str = ""


@dataclass(slots=True)
class _Difference:
    requests: int = 0
    before_nusd: int = 0
    after_nusd: int = 0


@dataclass(slots=True)
class _Account:
    """What is told at the end."""

    seen: int = 0
    unchanged: int = 0
    without_price: int = 0
    """Requests that used tokens of a model without a price at that moment: they stay as they are."""
    no_longer_unpriced: int = 0
    groups: dict[tuple[int, str], _Difference] = field(default_factory=dict[tuple[int, str], _Difference])

    def add(self, page: _Account, changes: list[Adjustment]) -> None:
        """Adds a page that is done."""
        self.seen += page.seen
        self.unchanged += page.unchanged
        self.without_price += page.without_price
        for change in changes:
            self._count(change)

    def _count(self, change: Adjustment) -> None:
        group = self.groups.setdefault((change.request.user_id, change.request.model), _Difference())
        group.requests += 1
        group.before_nusd += change.request.charged.total_nusd
        group.after_nusd += change.charged.total_nusd
        self.no_longer_unpriced += change.request.charged.unpriced_requests - change.charged.unpriced_requests


class Repricer:
    """Plain calls that block until done. Nothing is changed by `preview`."""

    def __init__(self, store: Store, desk: PriceDesk | None = None) -> None:
        self._store = store
        self._desk = desk or PriceDesk(store)

    def preview(self, asked: Repricing) -> Repriced:
        """What `apply` would change: the difference of every user and model. Raises InvalidRequest, Conflict."""
        asked = self._checked(asked)
        account = _Account()
        after: adjustments.Place | None = None
        while True:
            with self._store.read() as connection:
                rows, after = adjustments.page(connection, asked.window, asked.which, after, PAGE)
            account.add(*self._changes(rows, asked))
            if after is None:
                return self._told(account, asked, None)

    def apply(self, asked: Repricing, by: int | None = None) -> Repriced:
        """Charges the requests anew. `by` is the user who says so. Raises InvalidRequest, Conflict.

        Where it breaks off (the disk is full, the process dies), what was written holds and is in the trail, marked as
        unfinished; the same again does the rest.
        """
        asked = self._checked(asked)
        if not asked.reason:
            raise InvalidRequest("reason is required: it stays in the trail of what was changed.")
        note = NewRepricing(
            asked.window,
            asked.which,
            None if asked.as_recorded else asked.prices_at,
            asked.unpriced_only,
            asked.reason,
        )
        now = self._store.clock.now()
        repricing_id = self._store.write(lambda connection: adjustments.begin(connection, note, now, by))
        account = _Account()
        after: adjustments.Place | None = None
        while True:
            page, changes, after = self._store.write(
                lambda connection, place=after: self._apply_page(connection, repricing_id, asked, place)
            )
            account.add(page, changes)
            if after is None:
                break
        done = self._store.clock.now()
        self._store.write(lambda connection: adjustments.finish(connection, repricing_id, done))
        return self._told(account, asked, repricing_id)

    def _apply_page(
        self,
        connection: adjustments.Connection,
        repricing_id: int,
        asked: Repricing,
        after: adjustments.Place | None,
    ) -> tuple[_Account, list[Adjustment], adjustments.Place | None]:
        watermark.check_whole(connection, asked.window)  # days may have been retired since
        rows, following = adjustments.page(connection, asked.window, asked.which, after, PAGE)
        page, changes = self._changes(rows, asked)
        adjustments.append(connection, self._store.slot, repricing_id, changes, self._store.clock.now())
        return page, changes, following

    def _changes(self, rows: list[Recorded], asked: Repricing) -> tuple[_Account, list[Adjustment]]:
        assert asked.prices_at is not None
        account, changes = _Account(seen=len(rows)), list[Adjustment]()
        for row in rows:
            if asked.unpriced_only and not row.is_unpriced:
                account.unchanged += 1
                continue
            if asked.as_recorded:
                wanted: tuple[Charged, int | None] | None = row.recorded, row.price_id
            else:
                wanted = charge(row, self._desk.book, asked.prices_at)
            if wanted is None:
                account.without_price += 1
                continue
            change = Adjustment(row, *wanted)
            if any(change.deltas()):
                changes.append(change)
            else:
                account.unchanged += 1
        return account, changes

    def _checked(self, asked: Repricing) -> Repricing:
        now = self._store.clock.now()
        reason = asked.reason.strip()
        if len(reason) > REASON_LIMIT:
            raise InvalidRequest(f"reason may have at most {REASON_LIMIT} characters, has {len(reason)}.")
        if asked.prices_at is not None and asked.as_recorded:
            raise InvalidRequest("prices_at and as_recorded exclude each other.")
        if asked.prices_at is not None and (asked.prices_at.tzinfo is None or asked.prices_at > now):
            raise InvalidRequest("prices_at must lie in the past and have a time zone.", hint="Leave it out for now.")
        if asked.window.start >= now:
            raise InvalidRequest("from must lie in the past: what is yet to come has its price already.")
        self._desk.refresh()
        with self._store.read() as connection:
            watermark.check_whole(connection, asked.window)
        return replace(asked, prices_at=asked.prices_at or now, reason=reason)

    def _told(self, account: _Account, asked: Repricing, repricing_id: int | None) -> Repriced:
        with self._store.read() as connection:
            names = people.names(connection)
        lines: list[RepricedGroup] = [
            {
                "user_id": user_id,
                "username": names.get(user_id) or f"deleted user {user_id}",
                "model": model,
                "requests": difference.requests,
                "cost_before": usd(difference.before_nusd),
                "cost_after": usd(difference.after_nusd),
                "difference": usd(difference.after_nusd - difference.before_nusd),
            }
            for (user_id, model), difference in account.groups.items()
        ]
        lines.sort(key=lambda line: (-abs(line["difference"]), line["user_id"], line["model"]))
        before = sum(difference.before_nusd for difference in account.groups.values())
        after = sum(difference.after_nusd for difference in account.groups.values())
        return {
            "applied": repricing_id is not None,
            "repricing_id": repricing_id,
            "prices_at": None if asked.as_recorded else asked.prices_at,
            "requests": account.seen,
            "changed": sum(difference.requests for difference in account.groups.values()),
            "unchanged": account.unchanged,
            "without_price": account.without_price,
            "no_longer_unpriced": account.no_longer_unpriced,
            "cost_before": usd(before),
            "cost_after": usd(after),
            "difference": usd(after - before),
            "currency": CURRENCY,
            "breakdown": lines,
        }


def charge(row: Recorded, book: PriceBook, moment: datetime) -> tuple[Charged, int | None] | None:
    """What a request costs by the price list of a moment, and the price's id; None where its model has no price then.

    A request that used nothing costs nothing, by whatever list. An answer from the cache saved what it would have cost.
    """
    if row.usage.total_tokens is None:
        return Charged(), None
    price = book.at(row.model, moment)
    if price is None:
        return None if row.usage.total_tokens else (Charged(), None)
    cost = cost_of(price, row.usage, row.compute_ms)
    if row.cached:
        return Charged(saved_nusd=cost.total_nusd), price.id
    return Charged(cost.prompt_nusd, cost.response_nusd, cost.total_nusd), price.id
