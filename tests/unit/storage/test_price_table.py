"""The price table: appended to, seeded once."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from tests.support.clock import FixedClock

from gemmapy.pricing.bundled import BUNDLED
from gemmapy.storage import prices, revisions
from gemmapy.storage.store import Store
from gemmapy.storage.tables import prices as table


def test_a_new_installation_is_seeded_once_and_each_price_says_where_it_is_from(
    store: Store, clock: FixedClock
) -> None:
    for _ in range(2):
        store.write(lambda connection: prices.seed(connection, clock.now()))
    with store.read() as connection:
        rows = connection.execute(table.select()).mappings().all()
    assert [row["model"] for row in rows] == [bundled.model for bundled in BUNDLED]
    assert all("default" in row["source"] and "2025-10-29" in row["source"] for row in rows)


def test_where_somebody_entered_a_price_first_nothing_is_seeded(store: Store, clock: FixedClock) -> None:
    store.write(
        lambda connection: prices.append(connection, prices.NewPrice("phi", 1, 2, clock.now()), clock.now(), None)
    )
    store.write(lambda connection: prices.seed(connection, clock.now()))
    with store.read() as connection:
        assert [price.model for price in prices.every_price(connection)] == ["phi"]


def test_prices_that_were_all_withdrawn_are_not_seeded_again(store: Store, clock: FixedClock) -> None:
    store.write(lambda connection: prices.seed(connection, clock.now()))
    store.write(lambda connection: connection.execute(table.update().values(withdrawn_at=clock.now())))
    store.write(lambda connection: prices.seed(connection, clock.now()))
    with store.read() as connection:
        assert prices.every_price(connection) == []


def test_a_price_keeps_who_entered_it_and_its_predecessor(store: Store, clock: FixedClock) -> None:
    first = store.write(
        lambda connection: prices.append(connection, prices.NewPrice("phi", 1, 2, clock.now()), clock.now(), 1)
    )
    clock.go_on(days=1)
    second = store.write(
        lambda connection: prices.append(connection, prices.NewPrice("phi", 3, 4, clock.now()), clock.now(), 2)
    )
    with store.read() as connection:
        rows = connection.execute(table.select().order_by(table.c.id)).mappings().all()
        entered = {price.id: (price.input_nusd_per_1k, price.effective_at) for price in prices.every_price(connection)}
    assert [(row["id"], row["created_by"]) for row in rows] == [(first, 1), (second, 2)]
    assert set(entered) == {first, second}
    assert (entered[second][0], entered[second][1]) == (3, clock.now())


def test_a_price_and_its_revision_are_one_transaction(store: Store, clock: FixedClock) -> None:
    def fail(connection: Connection) -> None:
        prices.append(connection, prices.NewPrice("phi", 1, 2, clock.now()), clock.now(), None)
        raise RuntimeError("no")

    with store.read() as connection:
        before = revisions.current(connection)["prices"]
    with pytest.raises(RuntimeError):
        store.write(fail)
    with store.read() as connection:
        assert prices.every_price(connection) == []
        assert revisions.current(connection)["prices"] == before
