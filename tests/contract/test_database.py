"""What both databases must do below the store and the ledger."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from billing.store import Ledger, UsageFilter
from billing.store.schema import METADATA as LEDGER_TABLES
from common.clock import VirtualClock
from common.db import Database
from common.errors import InvalidInput, Unavailable
from common.resources import Metadata, Tenant
from common.store.answers import Claim, Replay
from common.store.ownership import Viewer
from common.store.port import AuditEntry, Event, Limits
from common.store.schema import METADATA as STORE_TABLES
from common.store.schema import answers, audit_log, events, resource_history
from common.store.sql import SqlStore
from common.store.sql.prune import PRUNE_EVERY
from tests.fixtures.ports import free_port


async def test_the_migrations_make_the_tables_of_the_code(database: Database) -> None:
    of_the_code = sa.MetaData()
    for table in (*STORE_TABLES.tables.values(), *LEDGER_TABLES.tables.values()):
        table.to_metadata(of_the_code)

    def differences(connection: sa.Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, of_the_code))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_again_and_at_the_same_time_is_safe(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    try:
        await asyncio.gather(*(database.migrate() for database in databases))
        await databases[0].migrate()
        assert (
            await SqlStore(databases[0]).apply(Tenant(metadata=Metadata(name="acme")))
        ).outcome == "created"
    finally:
        for database in databases:
            await database.close()


async def test_what_was_written_is_there_after_opening_again(database_url: str) -> None:
    database = Database(database_url)
    await database.migrate()
    store = SqlStore(database)
    made = (await store.apply(Tenant(metadata=Metadata(name="acme", labels={"tier": "gold"})))).resource
    claim = Claim("uid", "uid/web", "k", "digest")
    await store.keep_answer(claim, Replay(200, "{}"))
    await store.close()

    database = Database(database_url)
    await database.migrate()
    store = SqlStore(database)
    assert await store.get(Tenant, "acme") == made
    assert await store.revision() == 1
    assert [c.resource for c in await store.changes(0)] == [made]
    assert await store.find_answer(claim) == Replay(200, "{}")
    assert (await store.apply(Tenant(metadata=Metadata(name="next")))).resource.metadata.resource_version == 2
    await store.close()


async def test_a_writer_elsewhere_wakes_wait(database_url: str) -> None:
    here, there = Database(database_url), Database(database_url)
    await here.migrate()
    waiting = asyncio.create_task(SqlStore(here).wait(0, 30))
    await asyncio.sleep(0.05)
    await SqlStore(there).apply(Tenant(metadata=Metadata(name="acme")))
    async with asyncio.timeout(5):
        assert await waiting == 1
    await here.close()
    await there.close()


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    store = SqlStore(database)

    async def change_and_fail() -> None:
        async with database.write() as connection:
            await connection.execute(sa.text("UPDATE store_revision SET value = 7"))
            raise RuntimeError("the process changed its mind")

    with pytest.raises(RuntimeError):
        await change_and_fail()
    assert await store.revision() == 0


async def test_what_is_kept_is_bounded(database: Database) -> None:
    keep, written = 20, 20 + 2 * PRUNE_EVERY + 1
    clock = VirtualClock()
    store = SqlStore(
        database,
        clock,
        Limits(history=keep, events=keep, answers=keep, audit_entries=keep),
    )
    for n in range(written):
        clock.advance(1)
        at = clock.now_ms()
        await store.apply(Tenant(metadata=Metadata(name="acme", labels={"n": str(n)})))
        await store.record(Event(f"e{n:05}", at, "info", "Made", "", "Tenant", "acme"))
        await store.keep_answer(Claim("uid", "uid/web", f"k{n}", "digest"), Replay(200, "{}"))
        await store.audit(AuditEntry(f"a{n}", at, "root", "apply", "Tenant/acme", "ok"))
    async with database.read() as connection:
        for table in (resource_history, events, answers, audit_log):
            count = await connection.scalar(sa.select(sa.func.count()).select_from(table))
            assert keep <= (count or 0) <= keep + PRUNE_EVERY, table.name
    assert (await store.audit_log(limit=1))[0].id == f"a{written - 1}"
    assert [e.id for e in await store.events(after=f"e{written - 2:05}")] == [f"e{written - 1:05}"]


async def test_large_documents_leave_no_more_behind_than_a_bound(database: Database) -> None:
    bound, size = 1_000_000, 60_000
    store = SqlStore(database, VirtualClock(), Limits(history_bytes=bound))
    for n in range(100):
        large = {"n": str(n), "text": "x" * size}
        await store.apply(Tenant(metadata=Metadata(name="acme", annotations=large)))
    await store.delete(Tenant, "acme")
    async with database.read() as connection:
        held = sa.select(sa.func.sum(resource_history.c.size_bytes))
        assert bound - size <= (await connection.scalar(held) or 0) <= bound + 2 * size
        if database.is_sqlite:
            pages = await connection.scalar(sa.text("PRAGMA page_count")) or 0
            assert pages * (await connection.scalar(sa.text("PRAGMA page_size")) or 0) < 3 * bound
    revision = await store.revision()
    assert [c.type for c in await store.changes(revision - 1)] == ["delete"]


async def test_nobody_s_notes_push_out_those_of_others(database: Database) -> None:
    keep, clock = 30, VirtualClock()
    store = SqlStore(database, clock, Limits(events=keep, answers=keep, audit_entries=keep))
    quiet = AuditEntry("a", 1, "admin", "POST", "/", "ok")
    await store.audit(quiet)
    await store.keep_answer(Claim("uid-1", "uid-1/web", "k", "digest"), Replay(200, "mine"))
    await store.record(Event("mine", 1, "info", "Made", "", "Tenant", "acme"))
    await store.apply(Tenant(metadata=Metadata(name="loud")))
    for n in range(4 * PRUNE_EVERY):
        clock.advance(1)
        await store.audit(AuditEntry(f"a{n}", 2, "loud-member", "GET", "/", "not_found", tenant="uid-2"))
        await store.keep_answer(Claim("uid-2", "uid-2/web", f"k{n}", "digest"), Replay(200, "{}"))
        await store.record(Event(f"e{n}", clock.now_ms(), "info", "Made", "", "Tenant", "loud"))
    assert quiet in await store.audit_log(limit=1000)
    assert (await store.find_answer(Claim("uid-1", "uid-1/web", "k", "digest"))) == Replay(200, "mine")
    assert (await store.events(limit=1))[0].id == "mine"


async def test_events_of_others_cost_nobody_time(database: Database) -> None:
    """A hundred thousand events of others, half of them of the platform's own: none of them is read."""
    store = SqlStore(database, VirtualClock())
    made = (await store.apply(Tenant(metadata=Metadata(name="acme")))).resource
    rest = {"level": "info", "reason": "Did", "message": "it", "kind": "Node", "name": "w", "data": "{}"}
    rows = [
        {**rest, "id": f"e{n}", "time_ms": n, "owner_tenant": f"uid-{n % 2}", "owner_project": ""}
        for n in range(100_000)
    ]
    async with database.write() as connection:
        for start in range(0, len(rows), 1000):
            await connection.execute(sa.insert(events), rows[start : start + 1000])
    await store.record(Event("mine", 200_000, "info", "Made", "", "Tenant", "acme"))
    viewer = Viewer(made.metadata.uid, "uid-of-a-project")
    await store.events(viewer=viewer, kinds=["Tenant", "Node"])
    taken_seconds = []
    for _ in range(5):
        began = time.perf_counter()
        found = await store.events(viewer=viewer, kinds=["Tenant", "Node"], after="e10", limit=1)
        taken_seconds.append(time.perf_counter() - began)
        assert [event.id for event in found] == ["mine"]
    assert min(taken_seconds) < 0.1


async def test_text_that_a_database_cannot_hold_is_made_fit(database: Database) -> None:
    store = SqlStore(database)
    await store.record(
        Event("e1", 1, "error", "Failed", "a\x00b\ud800", "Tenant", "acme", data={"raw": "\x00"})
    )
    found = (await store.events())[0]
    assert found.message == "a\N{REPLACEMENT CHARACTER}b?"
    assert found.data == {"raw": "\x00"}


async def test_a_value_that_a_database_cannot_take_is_bad_input_and_no_outage(database: Database) -> None:
    ledger = Ledger(database, SqlStore(database))
    with pytest.raises(InvalidInput):
        await ledger.usage((), UsageFilter(from_ms=10**30))
    with suppress(InvalidInput):  # SQLite compares a NUL as any other character
        assert await SqlStore(database).find(Tenant, "\0") is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "is not a database URL"),
        ("mysql://root@localhost/x", r"mysql:// is not supported; write sqlite\+aiosqlite"),
        ("postgresql://root@localhost/x", r"postgresql\+asyncpg://"),
        ("sqlite+aiosqlite://", "needs a file"),
    ],
)
def test_a_wrong_url_says_what_to_write(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        Database(url)


async def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    database = Database(f"postgresql+asyncpg://me:secret@127.0.0.1:{free_port()}/db")
    with pytest.raises(
        Unavailable, match=r"the database postgresql\+asyncpg://me:.* cannot be used"
    ) as refused:
        await SqlStore(database).list(Tenant)
    assert "secret" not in str(refused.value)
    await database.close()
    (tmp_path / "state.db").write_bytes(b"this is not a database" * 100)
    broken = Database(f"sqlite+aiosqlite:///{tmp_path / 'state.db'}")
    with pytest.raises(Unavailable, match="not a database"):
        await broken.migrate()
    await broken.close()
