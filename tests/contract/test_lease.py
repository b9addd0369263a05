"""The lease and its fence, on both databases: who lost it writes nothing, and who takes it waits for nobody
that has stopped."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from billing.core.events import UsageEvent
from billing.store import Ledger
from common.clock import VirtualClock
from common.db import Database
from common.db import database as database_module
from common.errors import Unavailable
from common.leadership.rules import Candidate, Lease
from common.resources import Tenant
from common.store.answers import Replay
from common.store.port import AuditEntry, Delete, Put, StatusWrite
from common.store.samples import SqlSampleLog
from common.store.sql import SqlStore
from common.store.sql.lease import Fence, SqlLease
from tests.fixtures.stores import claim, event, tenant

A = Candidate("a:1", "x", "http://a:1")
B = Candidate("b:1", "y", "http://b:1")
WAIT_SECONDS = 0.5


@pytest.fixture
async def other(database: Database, database_url: str) -> AsyncIterator[Database]:
    """The same database, of another process."""
    other = Database(database_url)
    yield other
    await other.close()


async def led(database: Database, me: Candidate) -> Lease:
    """`me` leads from now on, and the fence of `database` lets it through."""
    lease = SqlLease(database)
    taken = await lease.take(await lease.read(), me)
    assert taken is not None
    fence = Fence()
    fence.epoch, database.fence = taken.epoch, fence
    return taken


async def test_at_first_nobody_has_it(database: Database) -> None:
    assert await SqlLease(database).read() == Lease()


async def test_a_renewal_whose_answer_was_lost_is_a_sign_of_life_and_so_is_the_next(
    database: Database,
) -> None:
    held, lease = await led(database, A), SqlLease(database)
    assert await lease.renew(held) is not None, "its answer is lost: the holder knows the old beat"
    renewed = await lease.renew(held)
    assert renewed == await lease.read()
    assert renewed is not None
    assert renewed.beat == held.beat + 2


async def test_of_two_who_saw_the_same_one_gets_it(database: Database, other: Database) -> None:
    seen = await SqlLease(database).read()
    taken = await asyncio.gather(SqlLease(database).take(seen, A), SqlLease(other).take(seen, B))
    assert sorted(lease is None for lease in taken) == [False, True]
    [winner] = [lease for lease in taken if lease]
    assert await SqlLease(database).read() == winner
    assert winner.epoch == 1


async def test_one_that_was_renewed_meanwhile_is_not_taken(database: Database, other: Database) -> None:
    held = await led(database, A)
    seen = await SqlLease(other).read()
    renewed = await SqlLease(database).renew(held)
    assert renewed is not None
    assert renewed.beat == held.beat + 1
    assert await SqlLease(other).take(seen, B) is None
    assert await SqlLease(other).take(renewed, B) == Lease(2, B.holder, B.url, 0)
    assert await SqlLease(database).renew(renewed) is None
    await SqlLease(database).release(renewed)
    assert (await SqlLease(other).read()).holder == B.holder


async def test_one_that_is_given_back_keeps_its_epoch(database: Database) -> None:
    held = await led(database, A)
    await SqlLease(database).release(held)
    assert await SqlLease(database).read() == Lease(1)


async def test_nothing_is_written_by_who_has_lost_it(database: Database, other: Database) -> None:
    clock = VirtualClock()
    store, ledger, samples = (
        SqlStore(database, clock),
        Ledger(database, SqlStore(database)),
        SqlSampleLog(database),
    )
    await led(database, A)
    kept = (await store.apply(tenant())).resource
    before = await store.revision()
    await led(other, B)
    ended_ms = clock.now_ms()
    usage = UsageEvent.from_dict(
        {
            "id": "use-1",
            "kind": "inference",
            "tenant": "acme",
            "project": "web",
            "started_ms": ended_ms - 1,
            "ended_ms": ended_ms,
            "quantities": {"prompt_tokens": 1},
        }
    )
    for write in (
        store.apply(tenant("late")),
        store.write_all([Put(tenant("late")), Delete(Tenant, "acme")]),
        store.set_status(kept),
        store.set_statuses([StatusWrite(kept)]),
        store.delete(Tenant, "acme"),
        store.record(event("e1", ended_ms)),
        store.keep_answer(claim(), Replay(200, "{}")),
        ledger.post([usage]),
        samples.add("load", ended_ms, 1.0),
        samples.forget_before(ended_ms),
    ):
        with pytest.raises(Unavailable) as refused:
            await write
        assert refused.value.code == "not_leading"
    assert await store.revision() == before
    assert await store.find(Tenant, "late") is None
    assert await store.events() == []
    assert await ledger.transactions("use-1") == []
    assert await SqlStore(other).apply(tenant("next"))


async def test_the_audit_log_takes_what_others_refuse(database: Database) -> None:
    store = SqlStore(database)
    database.fence = Fence()
    await store.audit(AuditEntry("aud-1", 1, "nobody", "GET", "/api/v1/keys", "unauthenticated"))
    assert len(await store.audit_log()) == 1


async def test_a_write_that_is_under_way_comes_before_the_next_leader(
    database: Database, other: Database
) -> None:
    await led(database, A)
    lease = SqlLease(other)
    seen = await lease.read()
    async with database.write():
        taking = asyncio.create_task(lease.take(seen, B))
        await asyncio.sleep(WAIT_SECONDS)
        assert not taking.done(), "what is under way may still be written"
    assert (await taking) is not None
    with pytest.raises(Unavailable):
        async with database.write():
            pass


@pytest.mark.postgres
async def test_renewing_waits_for_no_write(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.migrate()
    held = await led(database, A)
    async with database.write(), asyncio.timeout(5):
        assert await SqlLease(database).renew(held) is not None
    await database.close()


@pytest.mark.postgres
async def test_one_that_stops_in_the_midst_of_a_write_holds_nobody_up(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Database(postgres_url)
    await other.migrate()
    monkeypatch.setattr(database_module, "IDLE_IN_TRANSACTION_SECONDS", 1)
    database = Database(postgres_url)
    await led(database, A)
    seen = await SqlLease(other).read()

    async def write_slowly() -> None:
        async with database.write() as connection:
            await connection.execute(sa.text("UPDATE store_revision SET value = value + 7"))
            async with asyncio.timeout(10):
                assert await SqlLease(other).take(seen, B) is not None
            await connection.execute(sa.text("SELECT 1"))

    with pytest.raises(Unavailable):
        await write_slowly()
    assert await SqlStore(other).revision() == 0
    await database.close()
    await other.close()
