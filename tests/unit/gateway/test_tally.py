"""What was used, from what an upstream says: believed where it can be, estimated where not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gemmapy.core.records import Usage
from gemmapy.gateway.tally import Tally

NO_COUNT = [-1, -(2**63), 10**9 + 1, 2**63, 2**70]


def _ollama(**said: Any) -> Tally:
    tally = Tally("ollama", 0, 9)
    tally.see(json.dumps({"response": "Hi", "done": False}).encode(), 1)
    tally.see(json.dumps({"done": True, **said}).encode(), 2)
    return tally


def _openai(usage: dict[str, Any], **said: Any) -> Tally:
    tally = Tally("openai", 0, 9)
    tally.see(b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}', 1)
    tally.see(b"data: " + json.dumps({"choices": [], "usage": usage, **said}).encode(), 2)
    tally.see(b"data: [DONE]", 3)
    return tally


def test_counts_are_the_engines_own() -> None:
    assert _ollama(prompt_eval_count=5, eval_count=7).usage() == Usage(5, 7)
    assert _ollama(eval_count=7).usage() == Usage(0, 7)
    assert _openai({"prompt_tokens": 5, "completion_tokens": 10**9}).usage() == Usage(5, 10**9)


@pytest.mark.parametrize("count", NO_COUNT)
def test_a_count_that_can_be_none_is_an_estimate_and_never_money(count: int) -> None:
    estimate = Usage(9, 1, estimated=True)
    assert _ollama(prompt_eval_count=5, eval_count=count).usage() == estimate
    assert _ollama(prompt_eval_count=count, eval_count=7).usage() == estimate
    assert _openai({"prompt_tokens": 5, "completion_tokens": count}).usage() == estimate
    assert _openai({"prompt_tokens": count, "completion_tokens": 7}).usage() == estimate
    cached = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": count}}
    assert _openai(cached).usage() == Usage(5, 7)


@pytest.mark.parametrize("ns", [2**63, 2**70, 10**17])
def test_a_time_that_no_request_takes_is_unknown(ns: int) -> None:
    tally = _ollama(eval_count=7, load_duration=ns, prompt_eval_duration=ns, eval_duration=ns)
    assert (tally.timings(5).load_ms, tally.timings(5).compute_ms) == (None, None)
    tally = _openai({"prompt_tokens": 5}, timings={"prompt_ms": 1e300, "predicted_ms": 5e9})
    assert tally.timings(5).prompt_ms is None
