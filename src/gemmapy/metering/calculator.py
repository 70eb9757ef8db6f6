"""`CostCalculator`: what was spent, by whom and on what, and what it will be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import itemgetter

from sqlalchemy import Connection

from gemmapy.config import COMPARED
from gemmapy.core.errors import InvalidRequest
from gemmapy.core.money import CURRENCY, usd, usd_or_none
from gemmapy.core.periods import PERIOD_DAYS, PROJECTION_DAYS, Window, days_of, last_days
from gemmapy.core.records import Usage
from gemmapy.metering import elsewhere
from gemmapy.metering.answers import (
    AllCosts,
    CalculatedCost,
    CostProjection,
    CostsElsewhere,
    CostSummary,
    Done,
    ModelCost,
    MonthForecast,
    Pricing,
)
from gemmapy.metering.prices import PriceDesk
from gemmapy.metering.windows import answered
from gemmapy.metrics.forecast import MOST_HISTORY_DAYS, forecast, remaining_in_month
from gemmapy.metrics.measures import SPENDING, Sums, scaled
from gemmapy.metrics.windows import DAY_S
from gemmapy.pricing import catalogue, cost_of
from gemmapy.storage import figures, people, spending
from gemmapy.storage.figures import EVERYTHING, Filter
from gemmapy.storage.spending import SpentByModel
from gemmapy.storage.store import Store

BASED_ON_DAYS = 7


class CostCalculator:
    """Plain calls that block until done; each returns what the route of the same name answers."""

    def __init__(self, store: Store, desk: PriceDesk | None = None) -> None:
        self._store = store
        self._desk = desk or PriceDesk(store)

    def calculate_cost(self, model: str, prompt_tokens: int, response_tokens: int) -> CalculatedCost:
        """What so many tokens cost now, in USD; None in every part where the model has no price.

        Raises InvalidRequest for negative numbers.
        """
        if prompt_tokens < 0 or response_tokens < 0:
            raise InvalidRequest(f"tokens must be 0 or more, got {prompt_tokens} and {response_tokens}.")
        self._desk.refresh()
        price = self._desk.book.at(model, self._store.clock.now())
        cost = None if price is None else cost_of(price, Usage(prompt_tokens, response_tokens))
        return {
            "prompt_cost": usd_or_none(cost and cost.prompt_nusd),
            "response_cost": usd_or_none(cost and cost.response_nusd),
            "total_cost": usd_or_none(cost and cost.total_nusd),
            "currency": CURRENCY,
        }

    def get_user_costs(
        self,
        user_id: int | None,
        period: str = "month",
        *,
        window: Window | None = None,
        which: Filter = EVERYTHING,
    ) -> CostSummary:
        """What a user (None: everyone) spent over the period that ends now, by model, the dearest first.

        Requests whose model has no price are in `unpriced_requests` and in no sum of money. Raises InvalidRequest for
        an unknown period.
        """
        days = days_of(period, PERIOD_DAYS)
        asked = window or last_days(days, self._store.clock.now())
        which = which if user_id is None else replace(which, user_id=user_id)
        with self._store.read() as connection:
            span = figures.answerable(connection, asked, "model", which)
            models = figures.sums(connection, span, "model", which, SPENDING)
        total = sum(models.values(), Sums())
        return {
            "window": answered(asked, span),
            "user_id": user_id,
            "period": period,
            "period_days": days,
            "total_cost": usd(total.total_nusd),
            "currency": CURRENCY,
            "breakdown": _breakdown(models),
            "unpriced_requests": total.unpriced_requests,
            "unpriced_tokens": total.unpriced_tokens,
        }

    def get_all_users_costs(self, period: str = "month", *, window: Window | None = None) -> AllCosts:
        """What everyone spent over the period that ends now: each user who asked anything, the dearest first."""
        days = days_of(period, PERIOD_DAYS)
        asked = window or last_days(days, self._store.clock.now())
        with self._store.read() as connection:
            span = spending.answerable(connection, asked)
            everyone = spending.by_user_and_model(connection, span)
            names = people.names(connection)
        users = [_user_costs(user_id, names.get(user_id), spent) for user_id, spent in everyone.items()]
        users.sort(key=lambda one: (-one.total.total_nusd, one.user_id))
        return {
            "window": answered(asked, span),
            "period": period,
            "period_days": days,
            "total_cost": usd(sum(one.total.total_nusd for one in users)),
            "currency": CURRENCY,
            "user_count": len(users),
            "users": [
                {
                    "user_id": one.user_id,
                    "username": one.username,
                    "total_cost": usd(one.total.total_nusd),
                    "breakdown": list(map(ModelCost.copy, one.breakdown)),
                    "unpriced_requests": one.total.unpriced_requests,
                    "unpriced_tokens": one.total.unpriced_tokens,
                }
                for one in users
            ],
            "unpriced_requests": sum(one.total.unpriced_requests for one in users),
            "unpriced_tokens": sum(one.total.unpriced_tokens for one in users),
        }

    def get_cost_projection(self, user_id: int | None, period: str = "month") -> CostProjection:
        """What the period that begins now will cost if it goes on as in the last seven days.

        Computed from the exact sum, not from the rounded average; the models add up to the total to the nano-dollar.
        Raises InvalidRequest for an unknown period.
        """
        days = days_of(period, PROJECTION_DAYS)
        asked = last_days(BASED_ON_DAYS, self._store.clock.now())
        which = EVERYTHING if user_id is None else Filter(user_id=user_id)
        with self._store.read() as connection:
            span = figures.answerable(connection, asked, "model", which)
            models = figures.sums(connection, span, "model", which, SPENDING)
            month = _month(connection, which, self._store.clock.now())
        ranked = _dearest_first(models)
        spent_nusd = [spent.total_nusd for _, spent in ranked]
        daily = scaled(spent_nusd, 1, BASED_ON_DAYS)
        projected = scaled(spent_nusd, days, BASED_ON_DAYS)
        unpriced = sum(models.values(), Sums())
        return {
            "window": answered(asked, span),
            "user_id": user_id,
            "projection_period": period,
            "projection_days": days,
            "daily_avg_cost": usd(sum(daily)),
            "projected_total_cost": usd(sum(projected)),
            "currency": CURRENCY,
            "based_on_days": BASED_ON_DAYS,
            "breakdown": [
                {"model": model, "daily_avg_cost": usd(daily_nusd), "projected_cost": usd(projected_nusd)}
                for (model, _), daily_nusd, projected_nusd in zip(ranked, daily, projected, strict=True)
            ],
            "unpriced_requests": unpriced.unpriced_requests,
            "unpriced_tokens": unpriced.unpriced_tokens,
            "forecast": month,
        }

    def get_costs_elsewhere(
        self,
        user_id: int | None,
        period: str = "month",
        models: Sequence[str] = COMPARED,
        *,
        window: Window | None = None,
        which: Filter = EVERYTHING,
    ) -> CostsElsewhere:
        """What the tokens of a period, of a user or of everyone (None), would have cost at hosted models
        (`PROVIDER/MODEL`), each UTC day's at that day's price; beside it what they cost here.

        Raises InvalidRequest for an unknown period or model.
        """
        days = days_of(period, PERIOD_DAYS)
        hosted = elsewhere.named(models)
        asked = window or last_days(days, self._store.clock.now())
        which = which if user_id is None else replace(which, user_id=user_id)
        with self._store.read() as connection:
            span = figures.answerable(connection, asked, "day", which)
            by_day = figures.sums(connection, span, "day", which, elsewhere.COLUMNS)
        total = sum(by_day.values(), Sums())
        return {
            "window": answered(asked, span),
            "user_id": user_id,
            "period": period,
            "period_days": days,
            "currency": CURRENCY,
            "requests": total.requests,
            "prompt_tokens": total.prompt_tokens,
            "cached_prompt_tokens": total.cached_prompt_tokens,
            "response_tokens": total.response_tokens,
            "cost": usd(total.total_nusd),
            "unpriced_requests": total.unpriced_requests,
            "unpriced_tokens": total.unpriced_tokens,
            "elsewhere": elsewhere.of_days(by_day, hosted),
            "source": catalogue.source(),
            "note": elsewhere.NOTE,
        }

    def update_pricing(
        self,
        model: str,
        input_cost: float | str | Decimal,
        output_cost: float | str | Decimal,
        by: int | None = None,
    ) -> Done:
        """Enters a price in USD per 1K tokens, in force from now on. Raises InvalidRequest."""
        self._desk.set(model, input_cost, output_cost, by)
        return {"message": f"The price of {model.strip()} holds from now on; what was recorded keeps its cost."}

    def get_pricing(self) -> Pricing:
        """The prices in force."""
        self._desk.refresh()
        book = self._desk.book.current(self._store.clock.now())
        return {
            "models": {
                name: {"input": usd(price.input_nusd_per_1k), "output": usd(price.output_nusd_per_1k)}
                for name, price in book.items()
            },
            "currency": CURRENCY,
            "unit": "per 1K tokens",
        }


def _month(connection: Connection, which: Filter, now: datetime) -> MonthForecast:
    """What the calendar month (UTC) will have cost at its end."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    begin = midnight - timedelta(days=MOST_HISTORY_DAYS)
    columns = ("requests", "total_nusd")
    days = figures.sums(connection, Window(begin, midnight), "day", which, columns)
    first = min(days, default=int(midnight.timestamp()))
    daily = [
        days[second].total_nusd if second in days else 0 for second in range(first, int(midnight.timestamp()), DAY_S)
    ]
    month = Window(midnight.replace(day=1), now + timedelta(seconds=1))
    spent = sum(part.total_nusd for part in figures.sums(connection, month, "all", which, columns).values())
    today = sum(
        part.total_nusd
        for part in figures.sums(connection, Window(midnight, month.end), "all", which, columns).values()
    )
    made = forecast(daily, datetime.fromtimestamp(first, UTC).weekday(), remaining_in_month(now.date()), spent - today)
    return {
        "month": f"{now:%Y-%m}",
        "spent": usd(spent),
        # Today is forecast whole; what it has cost already is a part of that, and more than it only if it is.
        "expected": usd(max(made.expected_nusd, spent)),
        "low": usd(max(made.low_nusd, spent)),
        "high": usd(max(made.high_nusd, spent)),
        "method": made.method,
        "history_days": made.history_days,
        "backtest_days": made.backtest_days,
        "coverage": made.coverage,
    }


@dataclass(frozen=True, slots=True)
class _User:
    user_id: int
    username: str
    total: Sums
    breakdown: list[ModelCost]


def _user_costs(user_id: int, name: str | None, spent: SpentByModel) -> _User:
    """A user's part of the overview. What is made of a sum is kept with it: tens of thousands of lines are the same as
    when they were asked for last."""
    if spent.told is None:
        lines: list[tuple[int, str, ModelCost]] = []
        for model, one in spent.models.items():
            if one.told is None:
                one.told = _line(model, one.numbers)
            lines.append((-one.numbers[_COST], model, one.told))
        lines.sort(key=itemgetter(0, 1))
        totals = map(sum, zip(*(one.numbers for one in spent.models.values()), strict=True))
        total = Sums(**dict(zip(SPENDING, totals, strict=True)))
        spent.told = (total, [line for _, _, line in lines])
    total, breakdown = spent.told
    return _User(user_id, name or f"deleted user {user_id}", total, breakdown)


_COST = SPENDING.index("total_nusd")


def _dearest_first(models: Mapping[str, Sums]) -> list[tuple[str, Sums]]:
    return sorted(models.items(), key=lambda entry: (-entry[1].total_nusd, entry[0]))


def _breakdown(models: Mapping[str, Sums]) -> list[ModelCost]:
    return [_line(model, [getattr(spent, name) for name in SPENDING]) for model, spent in _dearest_first(models)]


def _line(model: str, numbers: Sequence[int]) -> ModelCost:
    """A model's line, of numbers in the order of `SPENDING`."""
    requests, prompt_tokens, response_tokens, prompt_nusd, response_nusd, total_nusd, unpriced, unpriced_tokens = (
        numbers
    )
    return {
        "model": model,
        "request_count": requests,
        "prompt_tokens": prompt_tokens,
        "response_tokens": response_tokens,
        "prompt_cost": usd(prompt_nusd),
        "response_cost": usd(response_nusd),
        "total_cost": usd(total_nusd),
        "unpriced_requests": unpriced,
        "unpriced_tokens": unpriced_tokens,
    }
