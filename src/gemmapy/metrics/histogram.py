"""Mergeable histograms with logarithmic bins: percentiles within 1 % over any set of requests.

The bins of DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", PVLDB 12(12), 2019): with gamma = (1 + a) / (1 - a), bin i holds the values in (gamma^(i-1), gamma^i] and
stands for 2 gamma^i / (gamma + 1), which is at most a = 1 % from every value in it. Merging is adding counts, so bins
are additive columns like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log

RELATIVE_ERROR = 0.01
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = log(_GAMMA)
ZERO_BIN = -1
"""Of the value 0. The least positive value is 1, whose bin is 0."""


def bin_of(value: int) -> int:
    """The bin that a whole number of 0 or more belongs to."""
    return ceil(log(value) / _LOG_GAMMA - 1e-12) if value > 0 else ZERO_BIN


def value_of(number: int) -> float:
    """What a bin stands for."""
    return 0.0 if number == ZERO_BIN else 2 * _GAMMA**number / (_GAMMA + 1)


def percentile(bins: Mapping[int, int], share: float) -> float | None:
    """The value below which `share` (0 to 1) of the counted values lie, within 1 %; None where there are none.

    The nearest-rank definition: of n values in order, the one at place floor(share (n - 1)), counted from 0.
    """
    total = sum(bins.values())
    if total <= 0:
        return None
    rank = int(share * (total - 1))
    seen = 0
    for number in sorted(bins):
        seen += bins[number]
        if seen > rank:
            return value_of(number)
    raise AssertionError("a rank is below the total")
