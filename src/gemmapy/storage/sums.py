"""In SQL over the ledger what `metrics.measures.sums_of` says in Python of one request; a test holds them equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table

from gemmapy.metrics.measures import ADJUSTABLE, COLUMNS, ERROR_KINDS
from gemmapy.storage.tables import adjustments, llm_metrics

SPEED = "CAST(round(tokens_per_second * 1000) AS INTEGER)"
_UNPRICED = "cost_nusd IS NULL AND coalesce(total_tokens, 0) > 0"


def _kind(column: str) -> str:
    codes = ", ".join(f"'{code}'" for code, counted_in in ERROR_KINDS.items() if counted_in == column)
    return f"error AND error_code IN ({codes})"


def _count(condition: str) -> str:
    return f"coalesce(sum(CASE WHEN {condition} THEN 1 ELSE 0 END), 0)"


def _total(value: str, condition: str | None = None) -> str:
    return f"coalesce(sum({value if condition is None else f'CASE WHEN {condition} THEN {value} END'}), 0)"


SUMS: dict[str, str] = {
    "requests": "count(*)",
    "errors": _count("error"),
    "errors_upstream": _count(_kind("errors_upstream")),
    "errors_timeout": _count(_kind("errors_timeout")),
    "errors_refused": _count(_kind("errors_refused")),
    "errors_interrupted": _count(_kind("errors_interrupted")),
    "left": _count("status = 499"),
    "cache_hits": _count("cached"),
    "estimated": _count("estimated"),
    "prompt_tokens": _total("prompt_tokens"),
    "response_tokens": _total("response_tokens"),
    "cached_prompt_tokens": _total("cached_prompt_tokens"),
    "total_tokens": _total("total_tokens"),
    "prompt_nusd": _total("prompt_cost_nusd"),
    "response_nusd": _total("response_cost_nusd"),
    "total_nusd": _total("cost_nusd"),
    "saved_nusd": _total("saved_nusd"),
    "unpriced_requests": _count(_UNPRICED),
    "unpriced_tokens": _total("total_tokens", _UNPRICED),
    "timed": _count("NOT cached AND duration_ms IS NOT NULL"),
    "duration_ms": _total("duration_ms", "NOT cached"),
    "paced": _count("NOT cached AND tokens_per_second IS NOT NULL"),
    "speed_mtps": _total(SPEED, "NOT cached"),
    "begun": _count("NOT cached AND ttft_ms IS NOT NULL"),
    "ttft_ms": _total("ttft_ms", "NOT cached"),
    "rated_positive": _count("user_rating = 1"),
    "rated_negative": _count("user_rating = -1"),
    "rated_neutral": _count("user_rating = 0"),
}
assert tuple(SUMS) == COLUMNS


@dataclass(frozen=True, slots=True)
class Source:
    """A table whose rows add to the sums, each at the moment of its request."""

    table: Table
    moment: Column[Any]
    sums: Mapping[str, str]
    """Each column's sum in SQL."""


SOURCES = (
    Source(llm_metrics, llm_metrics.c.created_at, SUMS),
    Source(
        adjustments,
        adjustments.c.metric_created_at,
        {name: _total(name) if name in ADJUSTABLE else "0" for name in COLUMNS},
    ),
)
"""What a scan of the ledger reads: the requests as they were recorded, and what was adjusted of them since."""
