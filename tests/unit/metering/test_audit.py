"""The audit finds what does not add up, names it, and mends rollups and never the ledger."""

from __future__ import annotations

import pytest
from tests.support.clock import FixedClock

from gemmapy import MetricsCollector
from gemmapy.metering.audit import Audit, audit
from gemmapy.storage.store import Store


@pytest.fixture
def used(store: Store, clock: FixedClock) -> Store:
    collector = MetricsCollector(store)
    for number in range(30):
        collector.record(1 + number % 2, "llama3", "/x", prompt_tokens=number, duration_ms=number)
        clock.go_on(hours=5)
    collector.update_rating(7, 1)
    clock.go_on(days=1)
    return store


def test_books_that_balance_are_said_to(used: Store) -> None:
    seen = Audit()
    assert list(audit(used, seen)) == []
    assert (seen.requests, seen.total_nusd) == (30, sum(number * 150 for number in range(30)))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE rollup_users SET total_nusd = total_nusd + 1 WHERE user_id = 2 AND grain = 86400",
        "DELETE FROM rollup_models WHERE grain = 900",
        "DELETE FROM rollup_histograms WHERE scope = 3",
        "INSERT INTO rollup_projects VALUES (900, 1764028800, 1, 1, 1, 0, 1" + ", 0" * 27 + ")",
    ],
)
def test_damage_is_found_and_repaired(used: Store, damage: str) -> None:
    used.write(lambda c: c.exec_driver_sql(damage))
    found = list(audit(used, Audit(), repair=True))
    assert found
    assert "the ledger says" in found[0].what
    assert list(audit(used, Audit())) == []


def test_the_ledger_is_what_is_believed(used: Store) -> None:
    used.write(lambda c: c.exec_driver_sql("UPDATE llm_metrics SET cost_nusd = 5 WHERE id = 9"))
    assert any("total_nusd" in finding.what for finding in audit(used, Audit(), repair=True))
    with used.read() as connection:
        assert connection.exec_driver_sql("SELECT cost_nusd FROM llm_metrics WHERE id = 9").scalar() == 5
