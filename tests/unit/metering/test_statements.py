"""A closed month is a promise: numbered statements that nothing changes any more."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.clock import FixedClock

from gemmapy import CostCalculator, MetricsCollector
from gemmapy.core.errors import Conflict, InvalidRequest, NotFound
from gemmapy.core.periods import Window
from gemmapy.metering import printout
from gemmapy.metering.audit import Audit, audit
from gemmapy.metering.reprice import Repricer, Repricing
from gemmapy.metering.statements import close_month, find
from gemmapy.storage import people, recount
from gemmapy.storage.store import Store

LLAMA3 = 1000 / 1000 * 0.00015 + 500 / 1000 * 0.0003


@pytest.fixture
def december(store: Store, clock: FixedClock) -> MetricsCollector:
    """It is the second of December; in November ada asked thrice, once for a project, and bob for an unpriced one."""
    store.write(lambda c: people.create_project(c, "<alpha>", clock.now()))
    collector = MetricsCollector(store)
    for project in (None, None, 1):
        collector.record(1, "llama3", "/x", prompt_tokens=1000, response_tokens=500, project_id=project)
    collector.record(2, "phi", "/x", prompt_tokens=1000, response_tokens=500)
    clock.go_on(days=8)
    return collector


def test_everyone_who_used_anything_has_a_statement_and_every_project(december: MetricsCollector, store: Store) -> None:
    told = close_month(store, "2026-11", by=1)
    assert [(s["number"], s["kind"], s["subject"], s["total_cost"]) for s in told["statements"]] == [
        (1, "user", "ada", 3 * LLAMA3),
        (2, "user", "bob", 0),
        (3, "project", "<alpha>", LLAMA3),
    ]
    assert (told["requests"], told["total_cost"]) == (4, 3 * LLAMA3)
    ada = find(store, 1)
    assert (ada["total_cost"], ada.get("own_cost"), ada.get("charged_to_projects")) == (3 * LLAMA3, 2 * LLAMA3, LLAMA3)
    assert [(line["model"], line.get("project"), line["requests"]) for line in ada["lines"]] == [
        ("llama3", None, 2),
        ("llama3", "<alpha>", 1),
    ]
    assert find(store, 2)["unpriced_requests"] == 1
    assert [line.get("username") for line in find(store, 3)["lines"]] == ["ada"]


def test_later_adjustments_come_into_the_next_statements_and_leave_the_closed_ones(
    december: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    close_month(store, "2026-11")
    closed = find(store, 2)
    CostCalculator(store).update_pricing("phi", 1, 2)
    clock.go_on(seconds=1)
    window = Window(clock.now() - timedelta(days=30), clock.now())
    Repricer(store).apply(Repricing(window, unpriced_only=True, reason="phi was forgotten"))
    december.record(2, "phi", "/x", prompt_tokens=1000)
    assert find(store, 2) == closed
    clock.go_on(days=31)
    told = close_month(store, "2026-12")
    assert (told["corrections"], told["total_cost"]) == (2, 1)
    [bob] = [s for s in told["statements"] if s["subject"] == "bob"]
    said = find(store, bob["number"])
    assert (said["usage_cost"], said["correction_cost"], said["total_cost"]) == (1, 2, 3)
    assert [(c["month"], c["model"], c["reason"], c["cost"]) for c in said["corrections"]] == [
        ("2026-11", "phi", "phi was forgotten", 2)
    ]
    clock.go_on(days=31)
    assert close_month(store, "2027-01")["corrections"] == 0
    assert list(audit(store, Audit())) == []


def test_what_is_adjusted_before_the_closing_is_in_the_month(
    december: MetricsCollector, store: Store, clock: FixedClock
) -> None:
    CostCalculator(store).update_pricing("phi", 1, 2)
    clock.go_on(seconds=1)
    Repricer(store).apply(Repricing(Window(clock.now() - timedelta(days=30), clock.now()), reason="in time"))
    told = close_month(store, "2026-11")
    assert (told["total_cost"], told["corrections"]) == (2 + 3 * LLAMA3, 0)


@pytest.mark.parametrize(
    ("month", "said"), [("2026-12", "not over"), ("2027-01", "not over"), ("2026-11", "closed already")]
)
def test_only_the_next_month_that_is_over_can_be_closed(
    december: MetricsCollector, store: Store, month: str, said: str
) -> None:
    close_month(store, "2026-11")
    with pytest.raises(Conflict, match=said):
        close_month(store, month)


def test_months_are_closed_in_order(december: MetricsCollector, store: Store, clock: FixedClock) -> None:
    close_month(store, "2026-11")
    clock.go_on(days=90)
    with pytest.raises(Conflict, match="2026-12 is next"):
        close_month(store, "2027-01")
    close_month(store, "2026-12")  # nobody used anything: a closing without statements
    assert close_month(store, "2027-01")["statements"] == []


@pytest.mark.parametrize("month", ["november", "2026-13", "2026-1", "1969-12", "2026-11-01"])
def test_a_month_is_written_as_a_month(store: Store, month: str) -> None:
    with pytest.raises(InvalidRequest, match="as in 2026-10"):
        close_month(store, month)


def test_a_dry_run_writes_nothing(december: MetricsCollector, store: Store) -> None:
    told = close_month(store, "2026-11", dry_run=True)
    assert (told["closed"], len(told["statements"])) == (False, 3)
    assert close_month(store, "2026-11")["statements"][0]["number"] == 1


def test_books_that_do_not_balance_are_not_closed(december: MetricsCollector, store: Store) -> None:
    store.write(lambda c: c.exec_driver_sql("UPDATE rollup_totals SET total_nusd = total_nusd + 1"))
    with pytest.raises(Conflict, match="rollups"):
        close_month(store, "2026-11")


def test_a_statement_is_its_users_own_and_shows_tampering(december: MetricsCollector, store: Store) -> None:
    close_month(store, "2026-11")
    assert find(store, 1, user_id=1)["subject"] == "ada"
    for number in (1, 3, 99):
        with pytest.raises(NotFound):
            find(store, number, user_id=2)
    store.write(lambda c: c.exec_driver_sql("UPDATE statements SET content = replace(content, 'ada', 'eve')"))
    with pytest.raises(Conflict, match="not what it was"):
        find(store, 1)
    assert any("statement 1" in finding.what for finding in audit(store, Audit()))


def test_a_deleted_user_is_still_billed(december: MetricsCollector, store: Store, clock: FixedClock) -> None:
    store.write(lambda c: people.delete_user(c, 2, clock.now()))
    assert close_month(store, "2026-11")["statements"][1]["subject"] == "deleted user 2"


def test_it_prints_as_a_table_that_a_spreadsheet_takes_for_nothing_else(
    december: MetricsCollector, store: Store
) -> None:
    december.record(1, "=HYPERLINK(1)", "/x", prompt_tokens=1, started_at=datetime(2026, 11, 1, tzinfo=UTC))
    store.write(
        lambda c: c.exec_driver_sql("UPDATE llm_metrics SET created_at = '2026-11-30 00:00:00.000' WHERE id = 5")
    )
    store.write(lambda c: c.exec_driver_sql("DELETE FROM rollup_totals"))
    store.write(recount.rebuild)
    close_month(store, "2026-11")
    rows = list(csv.DictReader(io.StringIO(printout.as_csv(find(store, 1)))))
    assert [row["line"] for row in rows] == ["usage", "usage", "usage", "total"]
    assert {row["model"] for row in rows} == {"llama3", "'=HYPERLINK(1)", ""}
    assert (rows[-1]["cost"], rows[-1]["requests"]) == ("0.0009", "4")


def test_it_prints_as_a_page_in_which_names_are_only_names(december: MetricsCollector, store: Store) -> None:
    close_month(store, "2026-11")
    page = printout.as_html(find(store, 3))
    assert "&lt;alpha&gt;" in page
    assert "<alpha>" not in page
    assert "0.0003" in page


@pytest.mark.parametrize(
    ("nusd", "text"),
    [(0, "0.00"), (1, "0.000000001"), (150_000, "0.00015"), (12_000_000_000, "12.00"), (-1_500_000_000, "-1.50")],
)
def test_an_amount_has_all_its_decimals(nusd: int, text: str) -> None:
    assert printout.exact(nusd) == text
