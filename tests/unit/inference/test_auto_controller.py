"""Endpoints of mode auto: no engine before devices are chosen, and duties that start no engine."""

from pathlib import Path

import pytest

from common.resources import Model
from common.resources.auto_mode import AutoStatus, Readers
from common.resources.pool import DeviceRequest
from inference.routes import build_routing_table
from tests.unit.inference.endpoint_world import PROJECT, World

CPU = "cpu/x86-64"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    return made


async def decide(world: World, **auto: object) -> None:
    endpoint = await world.endpoint()
    endpoint.status.auto = AutoStatus.model_validate({"hands_over": True, "device_class": CPU, **auto})
    await world.store.set_status(endpoint)


def reading(engines: int) -> dict[str, object]:
    return {"readers": [Readers(device_class=CPU, engines=engines)], "min_prompt_tokens": 2048}


async def running(world: World, engines: int, **auto: object) -> None:
    """An Endpoint with so many engines, all of them ready."""
    limits = {"minReplicas": engines, "maxReplicas": 8}
    await world.apply_endpoint(mode="auto", autoscaling=limits)
    await world.step(1)
    await decide(world, **auto)
    await world.step(1)
    for index in range(engines):
        await world.start(f"chat-{index}")
    await world.step()


async def duties(world: World) -> dict[str, str]:
    return {one.workload: one.duty for one in (await world.endpoint()).status.replicas}


async def test_nothing_is_started_before_devices_are_chosen(world: World) -> None:
    await world.apply_endpoint(mode="auto")
    await world.step()
    assert await world.workloads() == {}
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "Deciding")
    await decide(world)
    await world.step()
    (engine,) = (await world.workloads()).values()
    role = engine.spec.roles[0]
    assert (role.devices.vendors, role.devices.models) == (["cpu"], ["x86-64"])
    assert "--kv-transfer-config" in role.command


async def test_engines_that_run_go_on_while_auto_decides(world: World) -> None:
    await world.apply_endpoint(replicas=2)
    await world.step()
    for name in ("chat-0", "chat-1"):
        await world.start(name)
    await world.step()
    await world.apply_endpoint(mode="auto")
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-0", "chat-1"}


async def test_some_read_for_the_others_and_gateways_are_told(world: World) -> None:
    await running(world, 3, **reading(1))
    assert await duties(world) == {"chat-0": "prefill", "chat-1": "decode", "chat-2": "decode"}
    (route,) = (await build_routing_table(world.store)).routes or [None]
    if route is not None:
        told = [(one.role, one.min_prompt_tokens) for one in route.replicas]
        assert told == [("prefill", 2048), ("decode", 0), ("decode", 0)]


async def test_other_duties_start_no_engine(world: World) -> None:
    await running(world, 3, **reading(1))
    before = {one.metadata.uid for one in (await world.workloads()).values()}
    await decide(world, **reading(2))
    await world.let_leave()
    assert list((await duties(world)).values()) == ["prefill", "prefill", "decode"]
    await decide(world)
    await world.let_leave()
    assert set((await duties(world)).values()) == {""}
    assert {one.metadata.uid for one in (await world.workloads()).values()} == before


@pytest.mark.parametrize(("engines", "readers", "reads"), [(3, 7, 2), (2, 2, 1), (1, 1, 0)])
async def test_one_engine_at_least_answers(world: World, engines: int, readers: int, reads: int) -> None:
    await running(world, engines, **reading(readers))
    assert list((await duties(world)).values()).count("prefill") == reads


async def test_an_engine_that_is_lost_is_no_reader(world: World) -> None:
    await running(world, 3, **reading(1))
    await world.lose("chat-0")
    await world.step()
    assert await duties(world) == {"chat-0": "", "chat-1": "prefill", "chat-2": "decode"}


async def test_without_a_way_to_hand_over_nobody_reads_for_others(world: World) -> None:
    await running(world, 3, **{**reading(1), "hands_over": False})
    assert set((await duties(world)).values()) == {""}


async def test_engines_for_embeddings_hand_nothing_over(world: World) -> None:
    model = await world.store.get(Model, "tiny", PROJECT)
    model.spec.tasks = ["embeddings"]
    await world.store.apply(model)
    await world.apply_endpoint(mode="auto")
    await world.step()
    await decide(world)
    await world.step()
    (engine,) = (await world.workloads()).values()
    assert "--kv-transfer-config" not in engine.spec.roles[0].command


async def test_another_mode_forgets_what_auto_decided(world: World) -> None:
    await running(world, 2, **reading(1))
    await world.apply_endpoint(replicas=2, mode="replicated")
    await world.let_leave()
    assert (await world.endpoint()).status.auto is None
    assert set((await duties(world)).values()) == {""}


@pytest.mark.parametrize(
    ("request_", "count"),
    [
        (DeviceRequest(), 4),
        (DeviceRequest(count=2), 2),
        (DeviceRequest(share_millis=500), 1),
    ],
)
def test_the_size_of_an_engine_is_autos_where_it_is_left_open(request_: DeviceRequest, count: int) -> None:
    chosen = AutoStatus(device_class="nvidia/NVIDIA H100 80GB HBM3", devices_per_engine=4)
    narrowed = chosen.narrowed(request_)
    assert (narrowed.vendors, narrowed.models) == (["nvidia"], ["NVIDIA H100 80GB HBM3"])
    assert narrowed.count == count
    assert AutoStatus().narrowed(request_) == request_


def test_a_vendor_that_nobody_knows_has_no_connector() -> None:
    assert AutoStatus(device_class="odd", hands_over=True).connector == ""
    assert AutoStatus(device_class="nvidia/H100", hands_over=True).connector == "NixlConnector"
