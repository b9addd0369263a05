"""What a store knows without asking its database is what the database says, whoever writes."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from common.clock import SYSTEM_CLOCK
from common.db import Database
from common.resources import Metadata, Project, Tenant
from common.resources.people import ProjectSpec
from common.store.sql import SqlStore
from common.store.sql import store as store_module
from tests.fixtures.stores import tenant

KINDS = ("Tenant", "Project", "Queue")
STEPS = 40


async def _write(store: SqlStore, rng: random.Random) -> None:
    """Something of some kind: made, changed, said again, its status written or deleted."""
    name, step = f"x{rng.randrange(4)}", rng.randrange(4)
    found = await store.find(Project, name)
    if step == 0:
        await store.apply(tenant(display_name=str(rng.random())))
    elif step == 1 and found is not None:
        await store.delete(Project, name)
    elif step == 2 and found is not None:
        found.status.observed_generation += 1
        await store.set_status(found)
    else:
        await store.apply(Project(metadata=Metadata(name=name), spec=ProjectSpec(tenant="acme")))


@pytest.mark.parametrize("seed", range(3))
async def test_no_change_of_a_kind_is_missed(database_url: str, seed: int) -> None:
    rng, databases = random.Random(seed), [Database(database_url) for _ in range(2)]
    await databases[0].migrate()
    stores = [SqlStore(database) for database in databases]
    await stores[0].apply(tenant())
    read = {(number, kind): 0 for number in range(2) for kind in KINDS}
    for _ in range(STEPS):
        await _write(stores[rng.random() < 0.3], rng)
        number, kind = rng.randrange(2), rng.choice(KINDS)
        store, since = stores[number], read[number, kind]
        latest = await store.revision()
        changed = [change.revision for change in await store.changes(since, kinds=[kind])]
        fresh = SqlStore(databases[number])
        assert changed == [change.revision for change in await fresh.changes(since, kinds=[kind])]
        assert latest == await fresh.revision()
        read[number, kind] = latest
    for database in databases:
        await database.close()


async def test_those_who_wait_for_a_kind_are_told_of_another_process(database_url: str) -> None:
    here, there = Database(database_url), Database(database_url)
    await here.migrate()
    store = SqlStore(here)
    since = (await store.apply(tenant())).resource.metadata.resource_version
    waiting = asyncio.create_task(store.wait(since, 30, ["Project"]))
    await asyncio.sleep(0.05)
    await SqlStore(there).apply(Project(metadata=Metadata(name="web"), spec=ProjectSpec(tenant="acme")))
    async with asyncio.timeout(5):
        assert await waiting == since + 1
    await here.close()
    await there.close()


@pytest.fixture
async def quiet(tmp_path: Path) -> Database:
    """A SQLite database that nobody has written to for a while."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'state.db'}")
    await database.migrate()
    await SqlStore(database).apply(tenant())
    assert database.mark() is None, "what was just written may be written again at the same time"
    _age(database)
    return database


def _age(database: Database, seconds: float = 60) -> None:
    then = time.time() - seconds
    os.utime(f"{database.url.database}-wal", (then, then))


async def test_each_commit_of_whoever_changes_the_mark(quiet: Database) -> None:
    mark, other = quiet.mark(), Database(quiet.url.render_as_string())
    assert mark is not None
    assert mark == quiet.mark()
    store = SqlStore(other)
    for number in range(3):
        assert await store.revision() == number + 1
        await store.apply(Tenant(metadata=Metadata(name=f"t{number}")))
        _age(quiet, 50 - number)
        assert quiet.mark() not in (None, mark)
        mark = quiet.mark()
    await other.close()
    await quiet.close()


async def test_the_database_is_not_read_while_its_file_says_that_nothing_was_written(
    quiet: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "POLL_SECONDS", 0.01)
    store, reads, read = SqlStore(quiet), 0, quiet.read_number

    async def counted(query: object) -> int:
        nonlocal reads
        reads += 1
        return await read(query)  # type: ignore[arg-type]

    monkeypatch.setattr(quiet, "read_number", counted)
    assert await store.wait(1, 0.2) == 1
    assert reads == 1
    there = Database(quiet.url.render_as_string())
    waiting = asyncio.create_task(store.wait(1, 30))
    await SqlStore(there, SYSTEM_CLOCK).apply(Tenant(metadata=Metadata(name="next")))
    async with asyncio.timeout(5):
        assert await waiting == 2
    await there.close()
    await quiet.close()
