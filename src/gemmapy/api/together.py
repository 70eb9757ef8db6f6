"""Figures of several processes as one: what adds up, and what is the same in all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

_NAMES = ("name", "model")


def summed(figures: Sequence[Mapping[str, Any]], same: Collection[str] = ()) -> dict[str, Any]:
    """Numbers added up, but for the `same`; of lists, the entries of one name or model. All else is the first's."""
    first = dict(figures[0])
    for name, value in first.items():
        values = [other[name] for other in figures if other.get(name) is not None]
        if name in same or isinstance(value, bool) or not values:
            continue
        if isinstance(value, int | float):
            first[name] = sum(values)
        elif isinstance(value, Mapping):
            first[name] = summed(values, same)
        elif isinstance(value, list):
            first[name] = _by_name([entry for entries in values for entry in entries], same)
    return first


def _by_name(entries: Sequence[Any], same: Collection[str]) -> list[Any]:
    groups: dict[Any, list[Any]] = {}
    for entry in entries:
        key = next((entry[name] for name in _NAMES if name in entry), None)
        groups.setdefault(key, []).append(entry)
    return [summed(group, same) for group in groups.values()]
