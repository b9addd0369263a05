"""What every source of the load of inference does: the fake that unit tests trust, and the one that asks the
engines of Endpoints."""

from dataclasses import dataclass, field
from typing import Protocol

import pytest

from common.clock import VirtualClock
from common.load import EngineLoad
from common.resources import Metadata, Owner, Workload
from common.resources.workload import Grant, RankPlacement, WorkloadRole, WorkloadSpec
from common.store.memory import MemoryStore
from inference.replica_loads import ReplicaLoads
from scheduler.ports import ServingLoads
from tests.fixtures.engines import FakeEngines
from tests.fixtures.loads import FakeLoads

BUCKETS = ((0.1, 3), (float("inf"), 4))
BUSY = EngineLoad(5, 2, 0.5, BUCKETS)


class World(Protocol):
    """What a test makes happen; ``engine`` has two H100."""

    @property
    def loads(self) -> ServingLoads: ...

    async def engine(self, name: str, load: EngineLoad | None) -> None: ...

    async def end(self, name: str) -> None: ...


@dataclass
class FakeWorld:
    loads: FakeLoads = field(default_factory=FakeLoads)

    async def engine(self, name: str, load: EngineLoad | None) -> None:
        if load is None:
            self.loads.silence(name, millis=2000)
        else:
            self.loads.tell(
                name,
                load.running,
                waiting=load.waiting,
                kv_cache_use=load.kv_cache_use,
                first_token_buckets=load.first_token_buckets,
                millis=2000,
            )

    async def end(self, name: str) -> None:
        self.loads.end(name)


class RealWorld:
    """Workloads in a store, engines behind the port of inference."""

    def __init__(self) -> None:
        self.store = MemoryStore(VirtualClock())
        self.engines = FakeEngines()
        self.loads = ReplicaLoads(self.store, self.engines)

    async def engine(self, name: str, load: EngineLoad | None) -> None:
        self.engines.start(f"http://{name}:8000").load = load
        await apply_engine(self.store, name, "Endpoint")

    async def end(self, name: str) -> None:
        workload = await self.store.get(Workload, name, "p")
        workload.status.phase = "Restarting"
        await self.store.set_status(workload)


async def apply_engine(store: MemoryStore, name: str, owner: str) -> None:
    grants = [Grant(device=f"d{i}", index=i, vendor="nvidia", model="H100") for i in range(2)]
    role = WorkloadRole(name="engine", command=["true"], ports=["http"])
    metadata = Metadata(name=name, project="p", owner=Owner(kind=owner, name="chat", uid="uid-chat"))
    workload = (
        await store.apply(Workload(metadata=metadata, spec=WorkloadSpec(roles=[role], kind="inference")))
    ).resource
    workload.status.phase, workload.status.attempt = "Ready", 1
    workload.status.ranks = [
        RankPlacement(
            role="engine",
            replica=0,
            rank=0,
            node="n",
            grants=grants,
            state="Ready",
            address=name,
            ports={"http": 8000},
        )
    ]
    await store.set_status(workload)


@pytest.fixture(params=["fake", "endpoints"])
def world(request: pytest.FixtureRequest) -> World:
    return FakeWorld() if request.param == "fake" else RealWorld()


async def test_without_engines_there_is_no_load(world: World) -> None:
    assert list(await world.loads.replicas()) == []


async def test_a_ready_engine_tells_its_load_and_its_devices(world: World) -> None:
    await world.engine("a", BUSY)
    (one,) = await world.loads.replicas()
    assert (one.device_class, one.millis, one.load) == ("nvidia/H100", 2000, BUSY)


async def test_who_does_not_tell_is_there_all_the_same(world: World) -> None:
    await world.engine("a", BUSY)
    await world.engine("b", None)
    told = await world.loads.replicas()
    assert [(one.millis, one.load) for one in told] == [(2000, BUSY), (2000, None)]
    assert len({one.id for one in told}) == 2


async def test_an_engine_that_is_not_ready_is_not_there(world: World) -> None:
    await world.engine("a", BUSY)
    await world.engine("b", BUSY)
    await world.end("a")
    assert len(await world.loads.replicas()) == 1


async def test_an_engine_that_started_again_is_another_one() -> None:
    world = RealWorld()
    await world.engine("a", BUSY)
    (before,) = await world.loads.replicas()
    workload = await world.store.get(Workload, "a", "p")
    workload.status.attempt = 2
    await world.store.set_status(workload)
    (after,) = await world.loads.replicas()
    assert before.id != after.id


async def test_only_engines_of_endpoints_are_asked() -> None:
    world = RealWorld()
    await apply_engine(world.store, "train", "FineTune")
    assert list(await world.loads.replicas()) == []
