"""Several processes' figures as one."""

from __future__ import annotations

from gemmapy.api.together import summed


def test_numbers_add_up_and_the_rest_is_the_firsts() -> None:
    one = {"hits": 2, "ttl_s": 60, "policy": "auto", "shared": True, "shed": {"requests": 1}, "stored": None}
    other = {"hits": 3, "ttl_s": 60, "policy": "auto", "shared": True, "shed": {"requests": 4}, "stored": None}
    assert summed([one, other], {"ttl_s"}) == {**one, "hits": 5, "shed": {"requests": 5}}
    assert summed([one]) == one


def test_entries_of_one_name_are_one_entry() -> None:
    one = {"by_model": [{"model": "a", "hits": 1}, {"model": "b", "hits": 2}]}
    other = {"by_model": [{"model": "b", "hits": 3}, {"model": "c", "hits": 4}]}
    assert [tuple(entry.values()) for entry in summed([one, other])["by_model"]] == [("a", 1), ("b", 5), ("c", 4)]
