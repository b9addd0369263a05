"""Callers who write at the same time: the same tests on memory, SQLite and PostgreSQL."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.db import Database
from common.errors import ComputilityError, Conflict, Unavailable
from common.resources import Metadata, Project, Queue, Tenant
from common.resources.people import ProjectSpec
from common.resources.pool import QueueSpec
from common.store.answers import Claim, Replay, claimed
from common.store.memory import MemoryStore
from common.store.port import Applied, Delete, Limits, Put, Store, Write
from common.store.sql import SqlStore
from common.store.sql.turns import SqlTurns
from tests.fixtures.stores import Bench, tenant


def queue(name: str, most: int, version: int = 0) -> Queue:
    metadata = Metadata(name=name, resource_version=version)
    return Queue(metadata=metadata, spec=QueueSpec(max_devices=most))


names = st.sampled_from(["a", "b", "c"])
versions = st.integers(min_value=0, max_value=6)
a_write = st.one_of(
    st.builds(lambda n, m, v: Put(queue(n, m, v)), names, st.integers(1, 3), versions),
    st.builds(lambda n, d: Put(tenant(n, d)), names, st.sampled_from(["", "x"])),
    st.builds(lambda n, t: Put(Project(metadata=Metadata(name=n), spec=ProjectSpec(tenant=t))), names, names),
    st.builds(lambda n, v: Delete(Queue, n, None, v), names, versions),
    st.builds(lambda n: Delete(Tenant, n), names),
    st.builds(lambda n: Delete(Project, n), names),
)
callers = st.lists(st.lists(a_write, min_size=1, max_size=3), min_size=1, max_size=8)


async def outcome_of(store: Store, writes: Sequence[Write]) -> list[object]:
    try:
        results = await store.write_all(writes)
    except ComputilityError as error:
        return [type(error), error.message]
    return [_facts(one) for one in results]


def _facts(applied: Applied[Any]) -> tuple[object, ...]:
    meta = applied.resource.metadata
    return (
        applied.outcome,
        applied.resource.key,
        meta.resource_version,
        meta.generation,
        applied.resource.spec,
    )


async def what_is_there(store: Store) -> list[object]:
    kept: list[object] = []
    for change in await store.changes(0):
        owner = tuple(
            "" if not part or part == "*" else "uid" for part in (change.owner.tenant, change.owner.project)
        )
        meta = change.resource.metadata
        kept.append((change.revision, change.type, change.resource.key, meta.resource_version, owner))
    for kind in (Queue, Tenant, Project):
        kept += [(one.key, one.metadata.generation, one.spec) for one in await store.list(kind)]
    return kept


@settings(max_examples=60)
@given(callers)
def test_callers_at_the_same_time_get_what_they_would_get_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[Write]]
) -> None:
    async def compare(folder: Path) -> None:
        database = Database(f"sqlite+aiosqlite:///{folder / 'state.db'}")
        await database.migrate()
        store, model = SqlStore(database, VirtualClock()), MemoryStore(VirtualClock())
        try:
            got = await asyncio.gather(*(outcome_of(store, writes) for writes in asked))
            assert got == [await outcome_of(model, writes) for writes in asked]
            assert await what_is_there(store) == await what_is_there(model)
            assert await store.revision() == await model.revision()
        finally:
            await store.close()

    asyncio.run(compare(tmp_path_factory.mktemp("turns")))


async def test_who_is_refused_holds_up_nobody_who_writes_at_the_same_time(bench: Bench) -> None:
    made = [bench.store.apply(queue(f"q{n}", 1)) for n in range(5)]
    both = bench.store.write_all([Put(queue("torn", 1)), Put(queue("q0", 2, version=99))])
    results = await asyncio.gather(*made, both, return_exceptions=True)
    assert isinstance(results[-1], Conflict)
    assert [one.name for one in await bench.store.list(Queue)] == [f"q{n}" for n in range(5)]
    assert await bench.store.revision() == 5


async def test_what_the_database_does_not_take_is_refused_alone(bench: Bench) -> None:
    if isinstance(bench.store, MemoryStore):
        pytest.skip("memory takes everything")
    odd = queue("odd", 1)
    odd.metadata.labels["text"] = "\ud800"  # no UTF-8
    wanted = [bench.store.apply(queue(f"q{n}", 1)) for n in range(3)]
    *good, bad = await asyncio.gather(*wanted, bench.store.apply(odd), return_exceptions=True)
    assert isinstance(bad, Exception)
    assert all(isinstance(one, Applied) for one in good)
    assert [one.name for one in await bench.store.list(Queue)] == ["q0", "q1", "q2"]


async def test_who_gives_up_before_its_turn_writes_nothing(bench: Bench) -> None:
    if isinstance(bench.store, MemoryStore):
        pytest.skip("memory makes nobody wait")
    first = asyncio.create_task(bench.store.apply(queue("first", 1)))
    given_up = asyncio.create_task(bench.store.apply(queue("given-up", 1)))
    last = asyncio.create_task(bench.store.apply(queue("last", 1)))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(first, last)
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert [one.name for one in await bench.store.list(Queue)] == ["first", "last"]


async def test_each_of_those_who_write_at_the_same_time_has_its_own_answer_kept(bench: Bench) -> None:
    async def ask(number: int) -> None:
        claim = Claim("uid", "uid/web", f"k{number}", "digest")
        with claimed(claim):
            await bench.store.apply(queue(f"q{number}", 1), answer=lambda _: Replay(200, f"answer {number}"))
        assert claim.kept

    await asyncio.gather(*(ask(number) for number in range(4)))
    for number in range(4):
        found = await bench.store.find_answer(Claim("uid", "uid/web", f"k{number}", "digest"))
        assert found == Replay(200, f"answer {number}")


async def test_a_store_that_is_closed_has_made_the_writes_that_it_was_asked_for(
    tmp_path: Path,
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    database = Database(url)
    await database.migrate()
    store = SqlStore(database)
    asked = asyncio.gather(*(store.apply(queue(f"q{n}", 1)) for n in range(3)))
    await asyncio.sleep(0)
    await store.close()
    await asked
    again = SqlStore(Database(url))
    assert len(await again.list(Queue)) == 3
    await again.close()


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), OperationalError("database is locked")])
async def test_a_write_is_made_though_the_file_cannot_be_made_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def full(_: Database) -> None:
        raise error

    monkeypatch.setattr(Database, "shrink", full)
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'state.db'}")
    await database.migrate()
    store = SqlStore(database, VirtualClock(), Limits(history=5))
    for number in range(80):
        await store.apply(queue(f"q{number}", 1))
    assert len(await store.list(Queue)) == 80
    await store.close()


async def test_nobody_waits_for_ever_whatever_an_answer_raises_or_the_task_that_writes_meets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(_: object) -> Replay:
        raise StopIteration

    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'state.db'}")
    await database.migrate()
    store = SqlStore(database, VirtualClock())
    with claimed(Claim("uid", "uid/web", "k", "digest")), pytest.raises(RuntimeError):
        await store.apply(queue("odd", 1), answer=stops)
    assert await store.list(Queue) == []

    made = SqlTurns._together

    async def together(turns: SqlTurns, taken: list[Any]) -> None:
        if len(taken) == 0:
            taken += turns._take()
            raise ValueError("one of them")
        if len(taken) == 1:
            raise asyncio.CancelledError
        await made(turns, taken)

    monkeypatch.setattr(SqlTurns, "_together", together)
    waiting = [asyncio.create_task(store.apply(queue(f"q{n}", 1))) for n in range(3)]
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in outcomes)
    monkeypatch.undo()
    await store.apply(queue("after", 1))
    await store.close()
