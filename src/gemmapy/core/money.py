"""Money: integer nano-dollars (`*_nusd`) inside, a decimal number of dollars at the edge.

One nano-dollar is 10^-9 USD. A price is nano-dollars per 1,000 tokens, so the cheapest price that can be written down
is a millionth of a millionth of a dollar per token, and 64 bits hold nine billion dollars.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from gemmapy.core.errors import InvalidRequest

NUSD_PER_USD = 1_000_000_000
CURRENCY = "USD"
_LARGEST_NUSD = 2**63 - 1
MAX_DIGITS = 25
MOST_PRICE_USD = 1_000
"""A thousand times the dearest hosted model."""


def usd(nusd: int) -> float:
    """`nusd` as dollars for JSON. Exact to the last nano-dollar up to a million dollars (15 digits of a double)."""
    return nusd / NUSD_PER_USD


def usd_or_none(nusd: int | None) -> float | None:
    """`usd`, where None (unpriced) stays None."""
    return None if nusd is None else usd(nusd)


def parse_usd(amount: object, name: str) -> int:
    """Dollars from outside (int, float, decimal string) as nano-dollars.

    `name` is what the message calls it. Raises InvalidRequest for anything that is not a number of dollars, is
    negative, or is finer than a nano-dollar: rounding a price silently would be a lie.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | float | str | Decimal):
        raise InvalidRequest(f"{name} must be a number of dollars, got {type(amount).__name__}.")
    text = str(amount)  # the shortest text, so that the float 0.00015 is the price that was typed
    shown = text if len(text) <= MAX_DIGITS else f"{text[:MAX_DIGITS]}..."
    try:
        dollars = Decimal(text)
    except InvalidOperation:
        raise InvalidRequest(f"{name} must be a number of dollars, got {shown!r}.") from None
    if not dollars.is_finite() or dollars < 0:
        raise InvalidRequest(f"{name} must be zero or more dollars, got {shown}.")
    if dollars > _LARGEST_NUSD // NUSD_PER_USD:
        raise InvalidRequest(f"{name} must be at most {_LARGEST_NUSD // NUSD_PER_USD} dollars, got {shown}.")
    if len(text) > MAX_DIGITS:  # past Decimal's own precision a product would be rounded in silence
        raise InvalidRequest(f"{name} must have at most {MAX_DIGITS} characters, got {shown}.")
    nusd = dollars * NUSD_PER_USD
    if nusd != nusd.to_integral_value():
        raise InvalidRequest(f"{name} must have at most 9 decimals (a nano-dollar), got {shown}.")
    return int(nusd)


def parse_price(amount: object, name: str) -> int:
    """`parse_usd` for what is paid per 1K tokens, per request or per second: at most `MOST_PRICE_USD`, so that no
    request's cost can leave 64 bits, and cost the request its row."""
    nusd = parse_usd(amount, name)
    if nusd > MOST_PRICE_USD * NUSD_PER_USD:
        raise InvalidRequest(f"{name} must be at most {MOST_PRICE_USD} dollars, got {str(amount)[:MAX_DIGITS]}.")
    return nusd


def divide_half_even(numerator: int, denominator: int) -> int:
    """`numerator / denominator` to the nearest integer, ties to the even one (ROUND_HALF_EVEN). Neither is negative."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2):
        return quotient + 1
    return quotient
