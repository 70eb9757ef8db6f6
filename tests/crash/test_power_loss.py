"""The power fails: whatever of the unsynced writes came to the disk, no promise that was given is broken."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from gemmapy.storage.store import Store
from tests.crash.load import Load, Seen, upstream_for
from tests.crash.powerloss import Disk, Event, Keep, Traced, events, try_moments, under_strace

RELEASES = Path(__file__).parents[1] / "data" / "releases"


def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_trace(), reason="strace is missing, or this machine lets nobody use it")


@dataclass
class Run:
    """Two starts of a gateway under load, both killed, as strace saw them."""

    folder: Path
    happened: list[Event]
    seen: list[Seen]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("power")
    chance = random.Random(5)
    happened: list[Event] = []
    seen: Sequence[Seen] = ()
    with upstream_for(chance) as upstream:
        first = Traced(folder / "data", upstream.url, folder / "trace")
        key = re.findall(r"gp-[\w-]{43}", first.printed)[0]
        with Load(4, key, chance) as load:
            for program in (first, None):
                traced = program or Traced(folder / "data", upstream.url, folder / "trace")
                load.go(traced.port)
                time.sleep(0.7)
                traced.kill()
                load.pause()
                happened += events(folder / "trace", folder)
                (folder / "trace").unlink()
            seen = load.seen
    return Run(folder, happened, [*seen])


@pytest.mark.timeout(180)
def test_no_promise_is_broken_whatever_was_left_unsynced(run: Run, tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    tried = try_moments(run.happened, run.folder, run.seen, 30, tmp_path, random.Random(seed))
    print(tried)
    assert tried.broken == []
    assert tried.states >= 3 * 25
    assert tried.complete > 20


def test_a_disk_that_only_pretends_to_sync_is_found_out(run: Run, tmp_path: Path) -> None:
    pretending = [event for event in run.happened if event.call != "sync" or not event.path.endswith("-wal")]
    tried = try_moments(pretending, run.folder, run.seen, 9, tmp_path, random.Random(1))
    assert any("no record" in broken or "no row" in broken for broken in tried.broken)


def test_an_upgrade_is_done_or_not_and_its_backup_was_there_first(tmp_path: Path, seed: int) -> None:
    data = tmp_path / "power" / "data"
    data.mkdir(parents=True)
    with closing(sqlite3.connect(data / "gemmapy.db")) as connection:
        connection.executescript((RELEASES / "0.1.0-schema-0004.sql").read_text())
        old = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        requests = connection.execute("SELECT count(*) FROM llm_metrics").fetchone()
    assert requests > (0,)
    disk = Disk()
    disk.hold(data.parent)
    upgrade = f"from gemmapy.storage.store import Store; Store.open({str(data)!r}).close()"
    subprocess.run(under_strace(tmp_path / "trace", sys.executable, "-c", upgrade), check=True)
    chance = random.Random(seed)
    print(f"seed {seed}")
    seen: set[bool] = set()
    happened = [event for event in events(tmp_path / "trace", data.parent) if event.call != "send"]
    moments = {n for n, event in enumerate(happened) if event.call in ("sync", "link", "rename", "unlink")}
    for number, event in enumerate(happened):
        disk.apply(event)
        keeps: tuple[Keep, ...] = ("nothing", "some") if number in moments else ()
        for keep in keeps:
            state = tmp_path / "state"
            shutil.rmtree(state, ignore_errors=True)
            state.mkdir()
            disk.fail(data.parent, state, keep, chance)
            with closing(sqlite3.connect(state / "data" / "gemmapy.db")) as connection:
                is_upgraded = connection.execute("SELECT version_num FROM alembic_version").fetchone() != old
            seen.add(is_upgraded)
            if is_upgraded:
                (backup,) = (state / "data" / "backups").glob("*.db")
                with closing(sqlite3.connect(backup)) as connection:
                    assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == old
                    assert connection.execute("SELECT count(*) FROM llm_metrics").fetchone() == requests
            if keep == "some":
                with Store.open(state / "data") as store, store.read() as connection:
                    assert connection.exec_driver_sql("SELECT count(*) FROM llm_metrics").one() == requests
    assert seen == {True, False}
