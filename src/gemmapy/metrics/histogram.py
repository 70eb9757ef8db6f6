"""Mergeable histograms with logarithmic bins: percentiles within 1 % over any set of requests.

The bins of DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", PVLDB 12(12), 2019): with gamma = (1 + a) / (1 - a), bin i holds the values in (gamma^(i-1), gamma^i] and
stands for 2 gamma^i / (gamma + 1), which is at most a = 1 % from every value in it. Merging is adding counts, so bins
are additive columns like any other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
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


# A histogram at rest: of few bins, each bin and its count; of more, the counts from its first to its last bin as 32-bit
# numbers, compressed. Many are added up as one large integer each, whose 32-bit lanes are the bins: one addition in
# place of hundreds.
_LANE_BITS = 32
_HEAD = struct.Struct("<H")
_PAIR = struct.Struct("<HI")
_FEW = 24
_OF_FEW = 0xFFFF
"""The head of one of few bins, where others have their first bin."""


def pack(bins: Mapping[int, int]) -> bytes:
    """Counts by bin, for storing. No bin may have 2^32 or more; those with none are left out."""
    counted = sorted((number - ZERO_BIN, count) for number, count in bins.items() if count)
    if len(counted) <= _FEW:
        return b"".join([_HEAD.pack(_OF_FEW), *(_PAIR.pack(*pair) for pair in counted)]) if counted else b""
    first, last = counted[0][0], counted[-1][0]
    lanes = [0] * (last - first + 1)
    for lane, count in counted:
        lanes[lane - first] = count
    return _HEAD.pack(first) + zlib.compress(struct.pack(f"<{len(lanes)}I", *lanes), 1)


def add(packed: bytes, bins: Mapping[int, int]) -> bytes:
    """A packed histogram with some counts more: what `pack` makes of both, without taking it apart bin by bin."""
    if not packed:
        return pack(bins)
    (first,) = _HEAD.unpack_from(packed)
    if first == _OF_FEW:
        together = {lane + ZERO_BIN: count for lane, count in _PAIR.iter_unpack(packed[_HEAD.size :])}
        for number, count in bins.items():
            together[number] = together.get(number, 0) + count
        return pack(together)
    total = int.from_bytes(zlib.decompress(packed[_HEAD.size :]), "little")
    lowest = min(first, min(bins, default=first) - ZERO_BIN)
    total <<= (first - lowest) * _LANE_BITS
    for number, count in bins.items():
        total += count << ((number - ZERO_BIN - lowest) * _LANE_BITS)
    lanes = total.to_bytes(-(-total.bit_length() // _LANE_BITS) * 4, "little")
    return _HEAD.pack(lowest) + zlib.compress(lanes, 1)


def merge(packed: Iterable[bytes]) -> dict[int, int]:
    """The counts of many histograms together, by bin."""
    total = 0
    few: dict[int, int] = {}
    for one in packed:
        if not one:
            continue
        (head,) = _HEAD.unpack_from(one)
        if head == _OF_FEW:
            for lane, count in _PAIR.iter_unpack(one[_HEAD.size :]):
                few[lane] = few.get(lane, 0) + count
        else:
            total += int.from_bytes(zlib.decompress(one[_HEAD.size :]), "little") << (head * _LANE_BITS)
    bins = {lane + ZERO_BIN: count for lane, count in few.items()}
    if total:
        lanes = total.to_bytes(-(-total.bit_length() // _LANE_BITS) * 4, "little")
        for lane, (count,) in enumerate(struct.iter_unpack("<I", lanes)):
            if count:
                bins[lane + ZERO_BIN] = bins.get(lane + ZERO_BIN, 0) + count
    return bins
