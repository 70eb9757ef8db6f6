"""Writes the dump of this schema that later releases must open: `python -m tests.support.dump`, once a migration."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import gemmapy
from gemmapy import MetricsCollector, Store
from gemmapy.storage import migrate, people
from tests.support.clock import FixedClock

RELEASES = Path(__file__).parents[1] / "data" / "releases"


def main() -> None:
    """Two users and three requests, one of them rated and one failed: what `test_upgrade.py` looks for."""
    clock = FixedClock()
    with tempfile.TemporaryDirectory() as folder:
        with Store.open(Path(folder) / "data", clock) as store:
            for name, is_admin in (("ada", True), ("bob", False)):
                store.write(lambda c, n=name, a=is_admin: people.create_user(c, n, None, is_admin=a, now=clock.now()))
            collector = MetricsCollector(store)
            rated = collector.record(
                1, "llama3:8b", "/api/chat", prompt_tokens=25_000, response_tokens=50_000, duration_ms=900
            )
            collector.record(2, "phi4", "/api/chat", prompt_tokens=3, response_tokens=4, duration_ms=90)
            collector.record(2, "llama3", "/api/chat", duration_ms=5, error="upstream died")
            collector.update_rating(rated, 1)
        with closing(sqlite3.connect(store.path)) as connection:
            target = RELEASES / f"{gemmapy.__version__}-schema-{migrate.HEAD}.sql"
            target.write_text("\n".join(connection.iterdump()) + "\n")
    print(target.name)


if __name__ == "__main__":
    main()
