"""What a node gives to ranks: how many devices there are, for who asks by equivalence, as an engine shards
over those; and ports, which are free, given once and outside of the system's range."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.errors import Unavailable
from common.resources import Endpoint, Metadata, Model, Project
from common.resources.people import ProjectSpec
from common.resources.pool import DeviceRequest, Equivalence
from common.resources.serving import EndpointSpec, ModelSpec
from common.settings import EngineSettings, Settings
from common.store.memory import MemoryStore
from inference.engine_workload import engine_workload
from scheduler.adapters.ray.environment import Surroundings, expand
from scheduler.adapters.ray.ports import candidates, free_port, system_range
from scheduler.loop import SchedulerLoop
from tests.fixtures.fabric import FakeFabric, UsageLog, accelerator, cpu_device

GIB = 1024**3
PORTS = st.integers(1, 65_535)
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


@given(PORTS, PORTS)
def test_no_candidate_is_in_the_systems_range_unless_that_leaves_none(one: int, other: int) -> None:
    first, last = sorted((one, other))
    found = candidates(first, last)
    assert found == sorted(set(found))
    assert 20_000 <= found[0] <= found[-1] <= 65_535
    if first > 20_000 or last < 65_535:
        assert not any(first <= port <= last for port in found)
    else:
        assert len(found) == 45_536


@given(st.sets(PORTS, min_size=1, max_size=20), st.sets(PORTS), st.data())
def test_a_port_is_free_and_not_taken_or_the_want_is_told(
    ports: set[int], others: set[int], data: st.DataObject
) -> None:
    taken = data.draw(st.sets(st.sampled_from(sorted(ports)))) | others
    busy = data.draw(st.sets(st.sampled_from(sorted(ports))))
    left = ports - taken - busy
    if left:
        assert free_port(taken, ports, lambda port: port not in busy) in left
    else:
        with pytest.raises(Unavailable, match="is free"):
            free_port(taken, ports, lambda port: port not in busy)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("32768\t60999\n", (32768, 60999)),
        ("1024 65000", (1024, 65000)),
        ("", (32768, 60999)),
        ("a b", (32768, 60999)),
    ],
)
def test_the_systems_range_is_what_it_says(tmp_path: Path, text: str, found: tuple[int, int]) -> None:
    file = tmp_path / "range"
    file.write_text(text)
    assert system_range(file) == found
    assert system_range(tmp_path / "none") == (32768, 60999)
