"""Vectors in memory: exact search is exact, the index finds the same, what is deleted is not found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmapy.rag.retrieval import RRF_K, fused
from gemmapy.rag.vectors import Stored, Vectors, packed

MODEL = "m"
_rng = np.random.default_rng(7)


def rows(count: int, dimension: int = 24, first: int = 1) -> list[Stored]:
    return [(first + n, dimension, packed(_rng.normal(size=dimension).tolist())) for n in range(count)]


def by_hand(stored: list[Stored], question: bytes, limit: int) -> list[int]:
    wanted = np.frombuffer(question, dtype="<f4").astype(np.float64)
    scores = {chunk_id: float(np.frombuffer(raw, dtype="<f4") @ wanted) for chunk_id, _, raw in stored}
    return sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))[:limit]


def found(held: Vectors, question: bytes, limit: int = 5, places: tuple[int, ...] = (1,)) -> list[int]:
    return [near.chunk_id for near in held.nearest(places, MODEL, question, limit)]


def test_the_nearest_are_the_nearest() -> None:
    stored = rows(300)
    held = Vectors(lambda _collection, _model: stored)
    for _, _, question in rows(20):
        assert found(held, question, 7) == by_hand(stored, question, 7)
    assert held.nearest((1,), MODEL, stored[4][2], 1)[0].score == pytest.approx(1, abs=1e-6)
    assert held.kinds() == {"exact": 1}


def test_above_the_limit_an_index_is_built_and_finds_the_same() -> None:
    stored = rows(600)
    held = Vectors(lambda _collection, _model: stored, exact_limit=500)
    question = rows(1)[0][2]
    assert found(held, question, 10) == by_hand(stored, question, 10)  # exact, while it is built
    held.wait()
    assert held.kinds() == {"usearch": 1}
    hits = same = 0
    for _, _, asked in rows(30):
        expected = by_hand(stored, asked, 10)
        same += len(set(found(held, asked, 10)) & set(expected))
        hits += len(expected)
    assert same / hits > 0.95
    best = held.nearest((1,), MODEL, stored[9][2], 1)[0]
    assert (best.chunk_id, best.score) == (10, pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize("exact_limit", [1_000, 50])
def test_what_comes_and_goes_is_seen_at_once(exact_limit: int) -> None:
    stored = rows(100)
    held = Vectors(lambda _collection, _model: stored, exact_limit=exact_limit)
    assert found(held, stored[0][2], 1) == [1]
    held.wait()
    new = rows(3, first=1000)
    held.add(1, MODEL, new)
    assert found(held, new[1][2], 1) == [1001]
    held.remove(1, [1001, 1, 7777])
    assert found(held, new[1][2], 200) == by_hand(
        [row for row in [*stored, *new] if row[0] not in (1, 1001)], new[1][2], 200
    )
    held.add(1, MODEL, [(2, 24, new[1][2])])  # the same chunk, embedded again
    assert found(held, new[1][2], 1) == [2]


def test_what_comes_while_the_index_is_built_is_in_it() -> None:
    stored = rows(3_000)
    held = Vectors(lambda _collection, _model: stored, exact_limit=2_000)
    found(held, stored[0][2], 1)
    new = rows(2, first=9_000)
    held.add(1, MODEL, new)
    held.remove(1, [1])
    held.wait()
    assert held.kinds() == {"usearch": 1}
    assert found(held, new[0][2], 1) == [9_000]
    assert 1 not in found(held, stored[0][2], 50)


def test_a_collection_that_is_not_named_is_not_looked_at() -> None:
    asked: list[tuple[int, str]] = []

    def load(collection_id: int, model: str) -> list[Stored]:
        asked.append((collection_id, model))
        return rows(5, first=10 * collection_id)

    held = Vectors(load)
    question = rows(1)[0][2]
    assert {chunk_id // 10 for chunk_id in found(held, question, 50, (1, 3))} == {1, 3}
    assert asked == [(1, MODEL), (3, MODEL)]
    held.forget(1)
    found(held, question, 50, (1, 3))
    assert asked[2:] == [(1, MODEL)]


def test_another_dimension_under_the_same_name_is_never_compared() -> None:
    stored = rows(5, 24)
    held = Vectors(lambda _collection, _model: stored)
    assert found(held, packed([1.0] * 8)) == []
    stored = rows(2, 8)
    held.add(1, MODEL, stored)
    assert sorted(found(held, packed([1.0] * 8))) == [1, 2]


@pytest.mark.parametrize("vector", [[], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_a_vector_without_a_direction_is_none(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="direction"):
        packed(vector)


@given(st.lists(st.permutations(list(range(6))).map(lambda p: p[:4]), min_size=1, max_size=3))
def test_fusion_adds_reciprocal_ranks(lists: list[list[int]]) -> None:
    scores = fused(lists)
    for chunk_id, score in scores.items():
        expected = sum(1 / (RRF_K + ranked.index(chunk_id) + 1) for ranked in lists if chunk_id in ranked)
        assert score == pytest.approx(expected)
    assert set(scores) == {chunk_id for ranked in lists for chunk_id in ranked}
