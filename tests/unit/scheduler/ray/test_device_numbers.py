"""Who asks by equivalence learns on the node how many devices it was given: an engine shards over those."""

import pytest

from common.clock import VirtualClock
from common.resources import Endpoint, Metadata, Model, Project
from common.resources.people import ProjectSpec
from common.resources.pool import DeviceRequest, Equivalence
from common.resources.serving import EndpointSpec, ModelSpec
from common.settings import EngineSettings, Settings
from common.store.memory import MemoryStore
from inference.engine_workload import engine_workload
from scheduler.adapters.ray.environment import Surroundings, expand
from scheduler.loop import SchedulerLoop
from tests.fixtures.fabric import FakeFabric, UsageLog, accelerator, cpu_device

GIB = 1024**3
AROUND = Surroundings("/py", "/home", "i1", "127.0.0.1", 1, 0, {"http": 8000}, None, {}, "key")
LARGE = [accelerator("n", 0, model="H200").model_copy(update={"memory_bytes": 141 * GIB})]
SMALL = [
    accelerator("n", index, model="L20").model_copy(update={"memory_bytes": 40 * GIB}) for index in range(4)
]


async def started_command(devices: list[object], request: DeviceRequest) -> list[str]:
    """The command line of an Endpoint's engine as the only node starts it."""
    clock, store = VirtualClock(), MemoryStore()
    fabric = FakeFabric(clock, n=devices)  # type: ignore[arg-type]
    loop = SchedulerLoop(store, fabric, UsageLog(), Settings(), clock)
    await store.apply(Project(metadata=Metadata(name="p"), spec=ProjectSpec(tenant="acme")))
    endpoint = Endpoint(
        metadata=Metadata(name="e", project="p", uid="u"), spec=EndpointSpec(model="m", devices=request)
    )
    model = Model(metadata=Metadata(name="m", project="p"), spec=ModelSpec(source="lab/model"))
    await store.apply(engine_workload(endpoint, model, 0, EngineSettings()))
    await loop.step()
    [(_, order)] = fabric.started
    [rank] = order.ranks
    return [expand(word, rank, AROUND) for word in rank.command]


def shards(command: list[str]) -> str:
    return command[command.index("--tensor-parallel-size") + 1]


@pytest.mark.parametrize(("devices", "size"), [(LARGE, "1"), (SMALL, "4")])
async def test_an_engine_shards_over_the_devices_that_it_was_given(devices: list[object], size: str) -> None:
    request = DeviceRequest(equivalence=Equivalence(memory_bytes=130 * GIB))
    assert shards(await started_command(devices, request)) == size


async def test_slots_of_a_cpu_are_one_device() -> None:
    assert shards(await started_command([cpu_device("n")], DeviceRequest(count=3))) == "1"
    assert shards(await started_command(list(SMALL), DeviceRequest(count=2))) == "2"
