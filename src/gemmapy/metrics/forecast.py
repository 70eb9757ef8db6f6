"""What the month will cost: a forecast that knows weekdays, and says how far it can be trusted.

The level is a mean of the past days that forgets by half in three weeks; each weekday has a factor on it, shrunk
towards 1 while few weeks are known. The 80 % interval comes from the forecast's own past errors: it is made again as of
each day of the last two months, and what then came is compared (time series cross-validation; Hyndman and
Athanasopoulos, "Forecasting: Principles and Practice", 3rd ed., 5.10). How often the interval would have held is told
with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import sqrt

MOST_HISTORY_DAYS = 120
BACKTEST_DAYS = 60
LEAST_HISTORY_DAYS = 14
"""Less than this, and weekdays are not told apart."""
LEAST_ERRORS = 8
_FORGETTING = 0.5 ** (1 / 21)
_SHRINKING_WEEKS = 2.0
_NORMAL_80 = 1.2816
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of a month's total, in nano-USD; what is spent already is part of every figure."""

    expected_nusd: int
    low_nusd: int
    high_nusd: int
    method: str
    history_days: int
    backtest_days: int
    """How many past days the forecast was made again for."""
    coverage: float | None
    """In how many of them (0 to 1) what came lay in the interval; None where there were too few."""


def forecast(daily_nusd: Sequence[int], first_weekday: int, remaining_days: int, spent_nusd: int) -> Forecast:
    """Forecasts a month's total.

    `daily_nusd` are complete days in a row, the oldest first, 0 where nothing was spent; `first_weekday` is that of the
    oldest (Monday is 0). `remaining_days` are still to come, and follow them at once.
    """
    skipped = max(0, len(daily_nusd) - MOST_HISTORY_DAYS)
    history = [float(amount) for amount in daily_nusd[skipped:]]
    weekday = (first_weekday + skipped) % 7
    days = len(history)
    if not any(history) or remaining_days <= 0:
        method = "no history" if remaining_days > 0 else "month is over"
        return Forecast(spent_nusd, spent_nusd, spent_nusd, method, days, 0, None)
    coming = _predict(history, weekday, remaining_days)
    errors = _errors(history, weekday, remaining_days)
    if len(errors) >= LEAST_ERRORS:
        low, high = _quantiles(errors)
        below, above = coming * low, coming * high
    else:
        mean = sum(history) / days
        spread = sqrt(sum((amount - mean) ** 2 for amount in history) / max(1, days - 1)) or mean
        reach = _NORMAL_80 * spread * sqrt(remaining_days) * (1 + 3 / days)
        below, above = max(0.0, coming - reach), coming + reach
    return Forecast(
        expected_nusd=spent_nusd + round(coming),
        low_nusd=spent_nusd + round(min(below, coming)),
        high_nusd=spent_nusd + round(max(above, coming)),
        method="weekday pattern" if days >= LEAST_HISTORY_DAYS else "daily average",
        history_days=days,
        backtest_days=len(errors),
        coverage=_coverage(errors),
    )


def remaining_in_month(today: date) -> int:
    """How many days the month has from today on, today included."""
    following = date(today.year + today.month // 12, today.month % 12 + 1, 1)
    return (following - today).days


def _predict(history: Sequence[float], weekday: int, coming_days: int) -> float:
    """The sum of the days after `history`, whose first day is a `weekday`."""
    weights = [_FORGETTING ** (len(history) - 1 - place) for place in range(len(history))]
    level = sum(w * amount for w, amount in zip(weights, history, strict=True)) / sum(weights)
    if len(history) < LEAST_HISTORY_DAYS or level <= 0:
        return max(0.0, level) * coming_days
    factors: list[float] = []
    for day in range(7):
        places = range((day - weekday) % 7, len(history), 7)
        weight = sum(weights[place] for place in places)
        own = sum(weights[place] * history[place] for place in places) / weight / level
        weeks = len(places)
        factors.append((weeks * own + _SHRINKING_WEEKS) / (weeks + _SHRINKING_WEEKS))
    mean = sum(factors) / 7
    first = weekday + len(history)
    return sum(level * factors[(first + step) % 7] / mean for step in range(coming_days))


def _errors(history: Sequence[float], weekday: int, coming_days: int) -> list[float]:
    """What came over what was forecast, for each day of the past that the forecast can be made again for."""
    found: list[float] = []
    last = len(history) - coming_days
    for origin in range(max(LEAST_HISTORY_DAYS, last - BACKTEST_DAYS + 1), last + 1):
        predicted = _predict(history[:origin], weekday, coming_days)
        if predicted > 0:
            found.append(sum(history[origin : origin + coming_days]) / predicted)
    return found


def _quantiles(errors: Sequence[float]) -> tuple[float, float]:
    """The bounds that leave a tenth out on either side, one rank wider for being an estimate from few."""
    ordered = sorted(errors)
    out = max(0, int((len(ordered) + 1) * 0.1) - 1)
    return ordered[out], ordered[-1 - out]


def _coverage(errors: Sequence[float]) -> float | None:
    """How often an interval made of the errors before a day held what came on it."""
    held = [
        low * (1 - _ROUNDING) <= errors[place] <= high * (1 + _ROUNDING)
        for place in range(LEAST_ERRORS, len(errors))
        for low, high in [_quantiles(errors[:place])]
    ]
    return sum(held) / len(held) if held else None
