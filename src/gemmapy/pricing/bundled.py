"""The prices that a new installation begins with. Every other model is unpriced until somebody says what it costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BundledPrice:
    """A price and where it comes from."""

    model: str
    input_nusd_per_1k: int
    output_nusd_per_1k: int
    source: str


_SOURCE = "GemmaPy's own default, 2025-10-29: a nominal rate for local models, to be replaced by what yours cost"

BUNDLED = (
    BundledPrice("llama2", 100_000, 200_000, _SOURCE),
    BundledPrice("llama3", 150_000, 300_000, _SOURCE),
    BundledPrice("mistral", 100_000, 200_000, _SOURCE),
)
