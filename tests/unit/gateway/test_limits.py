"""Limits as arithmetic: the clock stands still until it is told to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FixedClock

from gemmapy.core.allowance import Allowance
from gemmapy.gateway.auth import Caller
from gemmapy.gateway.limits import Claim, Counters, Limits, Refusal, Standing


def _take(counters: Counters, *claims: Claim) -> Refusal | Sequence[Standing]:
    return asyncio.run(_within(counters, claims))


async def _within(counters: Counters, claims: Sequence[Claim]) -> Refusal | Sequence[Standing]:
    return await counters.take(claims)


def _requests(limit: int, subject: str = "user 1") -> Claim:
    return Claim(subject, "requests", limit)


def _caller(**fields: Any) -> Caller:
    return Caller(3, "ada", False, **fields)


def test_so_many_a_minute_and_the_refusal_says_when_the_next_one_fits() -> None:
    clock = FixedClock()
    counters = Counters(clock)
    for _ in range(2):
        assert not isinstance(_take(counters, _requests(3)), Refusal)
    clock.go_on(seconds=10)
    assert not isinstance(_take(counters, _requests(3)), Refusal)
    refused = _take(counters, _requests(3))
    assert isinstance(refused, Refusal)
    assert refused.again_s == 51, "the first two have then left the minute, to the second"
    clock.go_on(seconds=50)
    assert isinstance(_take(counters, _requests(3)), Refusal)
    clock.go_on(seconds=1)
    for _ in range(2):
        assert not isinstance(_take(counters, _requests(3)), Refusal)
    assert isinstance(_take(counters, _requests(3)), Refusal)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 8),
    steps=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 4)), min_size=1, max_size=60),
)
def test_no_sixty_seconds_ever_have_more_than_the_limit_and_a_refusals_time_is_true(
    limit: int, steps: list[tuple[int, int]]
) -> None:
    clock = FixedClock()
    counters = Counters(clock)
    let_in: list[tuple[int, int]] = []
    for wait_ms, amount in steps:
        clock.go_on(milliseconds=wait_ms)
        now_ms = clock.monotonic_ns() // 1_000_000
        claim = Claim("user 1", "requests", limit, amount)
        verdict = _take(counters, claim)
        if not isinstance(verdict, Refusal):
            let_in.append((now_ms, amount))
        elif amount > limit:
            assert verdict.again_s is None
        else:
            assert verdict.again_s is not None
            assert 0 < verdict.again_s <= 61
            later = FixedClock()
            later.go_on(seconds=(now_ms - 1_000) / 1_000 + verdict.again_s + 0.001)
            again = Counters(later)
            again._minutes = deepcopy(counters._minutes)  # pyright: ignore[reportPrivateUsage]
            standing = asyncio.run(_standing(again, claim))
            assert standing.used + amount <= limit
        within = sum(a for at_ms, a in let_in if at_ms > now_ms - 60_000)
        assert within <= limit


async def _standing(counters: Counters, claim: Claim) -> Standing:
    return (await counters.standing([claim]))[0]


def test_tokens_are_counted_by_the_prompts_estimate_first_and_by_what_was_used_after() -> None:
    clock = FixedClock()
    counters = Counters(clock)
    claim = Claim("user 1", "tokens", 100, 20)
    assert not isinstance(_take(counters, claim), Refusal)
    counters.give_back([claim], 90, 0)
    assert asyncio.run(_standing(counters, claim)).used == 90
    assert isinstance(_take(counters, claim), Refusal)
    clock.go_on(seconds=61)
    assert not isinstance(_take(counters, claim), Refusal)
    counters.give_back([claim], 5, 0)
    assert asyncio.run(_standing(counters, claim)).used == 5, "less than was thought"
    clock.go_on(seconds=61)
    counters.give_back([claim], 5, 0)
    assert asyncio.run(_standing(counters, claim)).used == 0, "never less than nothing, however long it ran"


def test_all_of_a_requests_claims_are_taken_or_none() -> None:
    counters = Counters(FixedClock())
    roomy, tight = Claim("user 1", "concurrent", 5), Claim("model llama3", "concurrent", 1)
    assert not isinstance(_take(counters, roomy, tight), Refusal)
    refused = _take(counters, roomy, tight)
    assert isinstance(refused, Refusal)
    assert refused.standing.claim is tight
    assert asyncio.run(_standing(counters, roomy)).used == 1
    counters.give_back([roomy, tight], 0, 4_000_000_000)
    assert asyncio.run(_standing(counters, roomy)).used == 0
    assert not isinstance(_take(counters, roomy, tight), Refusal)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=80))
def test_whatever_the_order_what_runs_at_once_is_counted_right(moves: list[tuple[bool, int]]) -> None:
    counters = Counters(FixedClock())
    claim = Claim("user 1", "concurrent", 4)
    running = 0
    for begins, _ in moves:
        if begins:
            verdict = _take(counters, claim)
            assert isinstance(verdict, Refusal) == (running == 4)
            running += not isinstance(verdict, Refusal)
        elif running:
            counters.give_back([claim], 0, 0)
            running -= 1
        assert asyncio.run(_standing(counters, claim)).used == running


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (_caller(), {"user 3 concurrent 9", "user 3 requests 100", "user 3 with llama3 concurrent 2"}),
        (
            _caller(allowance=Allowance(concurrent=1, requests_per_minute=0)),
            {"user 3 concurrent 1", "user 3 with llama3 concurrent 2"},
        ),
        (
            _caller(api_key_id=7, key_allowance=Allowance(tokens_per_minute=50)),
            {
                "user 3 concurrent 9",
                "user 3 requests 100",
                "key 7 tokens 50",
                "user 3 with llama3 concurrent 2",
            },
        ),
    ],
    ids=["everybody's", "one's own first", "the key's beside"],
)
def test_which_limits_hold(caller: Caller, expected: set[str]) -> None:
    clock = FixedClock()
    everyone = Allowance(concurrent=9, concurrent_per_model=2, requests_per_minute=100)
    limits = Limits(Counters(clock), clock, everyone, {"phi4": 1})
    claims = limits.claims(caller, "llama3:latest", 10)
    assert {f"{claim.subject} {claim.kind} {claim.limit}" for claim in claims} == expected


@pytest.mark.parametrize(
    ("model", "subject"),
    [
        ("llama3", "model llama3"),
        ("llama3:latest", "model llama3"),
        ("llama3:8b", "model llama3"),
        ("phi4:14b", "model phi4:14b"),
        ("phi4", None),
        ("hub/llama3", None),
    ],
)
def test_a_models_limit_is_one_for_all_its_tags(model: str, subject: str | None) -> None:
    clock = FixedClock()
    limits = Limits(Counters(clock), clock, Allowance(), {"llama3": 4, "phi4:14b": 2})
    assert [claim.subject for claim in limits.claims(_caller(), model)] == ([subject] if subject else [])
