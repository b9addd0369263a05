"""Resources that are kept from pass to pass are those that a list of the store shows."""

import random
from typing import Any

from common.db import Database
from common.resources import Metadata, Owner, Workload
from common.resources.workload import WorkloadRole, WorkloadSpec
from common.store.kept import KeptList, owned_workloads
from common.store.memory import MemoryStore
from common.store.port import Limits, Store
from common.store.sql import SqlStore


def _workload(name: str, owner: str | None, priority: int = 0) -> Workload:
    spec = WorkloadSpec(roles=[WorkloadRole(name="main", command=["true"])], priority=priority)
    owned = Owner(kind=owner, name="o", uid="1") if owner else None
    return Workload(metadata=Metadata(name=name, project="p", owner=owned), spec=spec)


async def _live(store: Store, seed: int) -> None:
    rng, kept = random.Random(seed), owned_workloads(store, "Endpoint")
    for _ in range(12):
        for _ in range(rng.choice([0, 1, 5, 30])):
            name = f"w{rng.randrange(6)}"
            if rng.random() < 0.3 and await store.find(Workload, name, "p") is not None:
                await store.delete(Workload, name, "p")
            else:
                found = await store.find(Workload, name, "p")
                before = found.metadata.owner.kind if found and found.metadata.owner else None
                owner = before if found else rng.choice([None, "Endpoint", "Endpoint", "FineTune"])
                await store.apply(_workload(name, owner, rng.randrange(9)))
        stored = [(w, w.metadata.owner) for w in await store.list(Workload)]
        assert await kept.now() == [w for w, owner in stored if owner and owner.kind == "Endpoint"]


async def test_what_is_kept_is_what_a_list_shows(database: Database) -> None:
    await _live(SqlStore(database), 1)


async def test_it_is_so_where_old_changes_are_gone() -> None:
    for seed in range(5):
        await _live(MemoryStore(limits=Limits(history=10)), seed)


class _CountingStore(MemoryStore):
    """Counts how often everything of a kind is read, and what changed."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = self.looks = 0

    async def list(self, *args: Any, **kwargs: Any) -> Any:
        self.lists += 1
        return await super().list(*args, **kwargs)

    async def changes(self, *args: Any, **kwargs: Any) -> Any:
        self.looks += 1
        return await super().changes(*args, **kwargs)


async def test_where_nothing_changes_nothing_is_read() -> None:
    store = _CountingStore()
    await store.apply(_workload("w", None))
    kept = KeptList(store, Workload)
    first = await kept.now()
    assert [workload.name for workload in first] == ["w"]
    assert await kept.now() == await kept.now() == first
    assert (store.lists, store.looks) == (1, 0)
    await store.apply(_workload("w", None, priority=7))
    assert [workload.spec.priority for workload in await kept.now()] == [7]
    assert (store.lists, store.looks) == (1, 1)
