"""Mergeable histograms with logarithmic bins: percentiles within 1 % over any set of requests.

The bins of DDSketch (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", PVLDB 12(12), 2019): with gamma = (1 + a) / (1 - a), bin i holds the values in (gamma^(i-1), gamma^i] and
stands for 2 gamma^i / (gamma + 1), which is at most a = 1 % from every value in it. Merging is adding counts, so bins
are additive columns like any other, and can be taken away as well.

The histograms of all measures of a group are kept together. Counts are by place: `measure << 12 | lane`, where a lane
is a bin counted from the one of zero.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from math import ceil, log

RELATIVE_ERROR = 0.01
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA = log(_GAMMA)
ZERO_BIN = -1
"""Of the value 0. The least positive value is 1, whose bin is 0."""
MEASURES = 4
_MEASURE_BITS = 12
_LANE_MASK = (1 << _MEASURE_BITS) - 1

Lanes = tuple[int, ...]
"""A group's counts in memory: one large integer for each measure, whose 32-bit lanes are the bins. Two are added with
one addition each, in place of hundreds."""
NOTHING: Lanes = (0,) * MEASURES


@lru_cache(1 << 14)
def bin_of(value: int) -> int:
    """The bin that a whole number of 0 or more belongs to. Remembered: most are small and come again and again."""
    return ceil(log(value) / _LOG_GAMMA - 1e-12) if value > 0 else ZERO_BIN


def value_of(number: int) -> float:
    """What a bin stands for."""
    return 0.0 if number == ZERO_BIN else 2 * _GAMMA**number / (_GAMMA + 1)


def place_of(measure: int, value: int) -> int:
    """The place where a measure's value is counted."""
    return measure << _MEASURE_BITS | (bin_of(value) - ZERO_BIN)


@lru_cache(1 << _MEASURE_BITS)
def _value_of_lane(lane: int) -> float:
    return value_of(lane + ZERO_BIN)


def percentiles(lanes: int, shares: Sequence[float]) -> list[float | None]:
    """The values below which each share (0 to 1) of one measure's counted values lie, within 1 %; None where there are
    none.

    The nearest-rank definition: of n values in order, the one at place floor(share (n - 1)), counted from 0.
    """
    if lanes <= 0:
        return [None] * len(shares)
    first = ((lanes & -lanes).bit_length() - 1) // 32
    seen = list(accumulate(_unpacked(lanes >> (first * 32))))
    return [_value_of_lane(first + bisect_right(seen, int(share * (seen[-1] - 1)))) for share in shares]


def lanes_of(counts: Mapping[int, int]) -> Lanes:
    """Counts by place, in memory. No bin may have 2^32 or more."""
    found = list(NOTHING)
    by_measure: dict[int, dict[int, int]] = {}
    for place, count in counts.items():
        by_measure.setdefault(place >> _MEASURE_BITS, {})[place & _LANE_MASK] = count
    for measure, counted in by_measure.items():
        first = min(counted)
        numbers = array("I", bytes(4 * (max(counted) - first + 1)))
        for lane, count in counted.items():
            numbers[lane - first] = count
        found[measure] = int.from_bytes(_little(numbers).tobytes(), "little") << (first * 32)
    return tuple(found)


def counts_of(lanes: Lanes) -> dict[int, int]:
    """The counts by place, those of nothing left out."""
    return {
        measure << _MEASURE_BITS | lane: count
        for measure, one in enumerate(lanes)
        for lane, count in enumerate(_unpacked(one))
        if count
    }


def bins_of(lanes: int) -> dict[int, int]:
    """One measure's counts by bin, those of nothing left out."""
    return {lane + ZERO_BIN: count for lane, count in enumerate(_unpacked(lanes)) if count} if lanes else {}


def combined(one: Lanes, other: Lanes, sign: int = 1) -> Lanes:
    """Both together; with `sign` -1, the first without the second, which must be a part of it in the end."""
    if sign < 0:
        return tuple(a - b for a, b in zip(one, other, strict=True))
    return tuple(a + b for a, b in zip(one, other, strict=True))


def together(many: Iterable[Lanes]) -> Lanes:
    """All of them added up."""
    return tuple(map(sum, zip(*many, strict=True))) or NOTHING


def _unpacked(lanes: int) -> array[int]:
    """The counts of one measure from its first lane on."""
    numbers = array("I")
    numbers.frombytes(lanes.to_bytes(-(-lanes.bit_length() // 32) * 4, "little"))
    return _little(numbers)


def _little(numbers: array[int]) -> array[int]:
    """From or to the order of bytes that is stored."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


# At rest. Of few values: how many places, the places, and their counts, each below 256. Of more: for each measure its
# first lane and how many follow, then all lanes as 32-bit numbers, compressed.
_FEW = 48
_FEW_HEAD, _LANES_HEAD = 0, 1
_RANGES = struct.Struct(f"<{2 * MEASURES}H")


def pack(counts: Mapping[int, int]) -> bytes:
    """Counts by place, for storing; those of nothing are left out."""
    places = sorted(place for place, count in counts.items() if count)
    numbers = [counts[place] for place in places]
    if len(places) <= _FEW and max(numbers, default=0) < 256:
        return struct.pack(f"<B{len(places)}H{len(places)}B", _FEW_HEAD, *places, *numbers)
    return pack_lanes(lanes_of(counts))


def pack_lanes(lanes: Lanes) -> bytes:
    """The same of what is in memory; the same bytes for the same counts."""
    ranges: list[int] = []
    body: list[bytes] = []
    filled = 0
    for one in lanes:
        if not one:
            ranges += (0, 0)
            continue
        first = ((one & -one).bit_length() - 1) // 32
        numbers = _unpacked(one >> (first * 32))
        ranges += (first, len(numbers))
        filled += len(numbers) - numbers.count(0)
        body.append(_little(numbers).tobytes())
    if filled <= _FEW:
        counts = counts_of(lanes)
        if max(counts.values(), default=0) < 256:
            return pack(counts)
    return bytes([_LANES_HEAD]) + _RANGES.pack(*ranges) + zlib.compress(b"".join(body), 1)


def add(packed: bytes, counts: Mapping[int, int]) -> bytes:
    """A packed histogram with some counts more: what `pack` makes of both."""
    if packed[0] == _FEW_HEAD:
        together = _few(packed)
        for place, count in counts.items():
            together[place] = together.get(place, 0) + count
        return pack(together)
    # In place, where no lane is new: the writer does this for every batch.
    ranges = _RANGES.unpack_from(packed, 1)
    numbers = array("I")
    numbers.frombytes(zlib.decompress(packed[1 + _RANGES.size :]))
    numbers = _little(numbers)
    at = 0
    shifts: list[tuple[int, int, int]] = []
    for first, number in zip(ranges[::2], ranges[1::2], strict=True):
        shifts.append((at - first, first, first + number))
        at += number
    for place, count in counts.items():
        shift, first, end = shifts[place >> _MEASURE_BITS]
        lane = place & _LANE_MASK
        if not first <= lane < end:
            return pack_lanes(combined(_lanes(packed), lanes_of(counts)))
        numbers[lane + shift] += count
    return packed[: 1 + _RANGES.size] + zlib.compress(_little(numbers).tobytes(), 1)


def merge_packed(packed: Sequence[bytes]) -> bytes:
    """The counts of many histograms together, for storing."""
    if any(one[0] != _FEW_HEAD for one in packed):
        return pack_lanes(merge(packed))
    counts: dict[int, int] = {}
    for one in packed:
        for place, count in _few(one).items():
            counts[place] = counts.get(place, 0) + count
    return pack(counts)


def merge(packed: Iterable[bytes]) -> Lanes:
    """The counts of many histograms together."""
    total = list(NOTHING)
    few: dict[int, int] = {}
    for one in packed:
        if one[0] == _FEW_HEAD:
            for place, count in _few(one).items():
                few[place] = few.get(place, 0) + count
        else:
            for measure, lanes in enumerate(_lanes(one)):
                total[measure] += lanes
    return combined(tuple(total), lanes_of(few)) if few else tuple(total)


def _few(packed: bytes) -> dict[int, int]:
    number = (len(packed) - 1) // 3
    cells = struct.unpack(f"<{number}H{number}B", packed[1:])
    return dict(zip(cells[:number], cells[number:], strict=True))


def _lanes(packed: bytes) -> Lanes:
    ranges = _RANGES.unpack_from(packed, 1)
    body = zlib.decompress(packed[1 + _RANGES.size :])
    found: list[int] = []
    at = 0
    for first, number in zip(ranges[::2], ranges[1::2], strict=True):
        found.append(int.from_bytes(body[at : at + 4 * number], "little") << (first * 32) if number else 0)
        at += 4 * number
    return tuple(found)
