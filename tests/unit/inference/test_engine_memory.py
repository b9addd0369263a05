"""What no devices of the pool can hold is told before an engine is started, and nothing else is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.errors import DATABASE_UNAVAILABLE, Unavailable
from common.resources import Endpoint, Metadata, Model, Node
from common.resources.pool import NodeStatus
from common.resources.serving import EndpointSpec, ModelSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from common.units import GIB
from inference.controller import EndpointController
from inference.core.performance.device_figures import DeviceFigures, Layout
from inference.core.performance.memory import least_need, most_sequences, room_bytes
from inference.core.performance.steps import Engine
from inference.device_table import FRESH_SECONDS, DeviceRow, DeviceTable
from inference.engine_memory import ConfigOf, EngineMemory
from inference.model_config import find_config
from tests.fixtures.performance_scene import LLAMA_8B, configs, shape
from tests.unit.inference.endpoint_world import World

PROJECT = "lab"


def configs_at(home: Path) -> ConfigOf:
    return lambda model: find_config(model.spec.source, home, model.project)


class Scene:
    """A pool, and a model in the home folder."""

    def __init__(self, home: Path, config: dict[str, Any] | None = None) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.devices = DeviceTable(self.store, self.clock)
        self.memory = EngineMemory(self.devices, configs_at(home), self.clock)
        folder = home / "models" / "big"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config or configs()[LLAMA_8B]))
        spec = ModelSpec(source="$(HOME_DIR)/models/big")
        self.model = Model(metadata=Metadata(name="big", project=PROJECT), spec=spec)

    async def add_node(
        self, name: str, count: int, vendor: str, model: str, gib: int, beside_gib: int = 0
    ) -> None:
        devices = [
            {"id": f"{name}-{n}", "index": n, "vendor": vendor, "model": model, "memory_bytes": gib * GIB}
            for n in range(count)
        ]
        if beside_gib:
            host = {"id": name, "index": 0, "vendor": "cpu", "model": "x86-64"}
            devices.append({**host, "memory_bytes": beside_gib * GIB})
        node = Node(metadata=Metadata(name=name), status=NodeStatus.model_validate({"devices": devices}))
        await self.store.set_status(
            (await self.store.apply(node)).resource.model_copy(update={"status": node.status})
        )

    async def why(self, **spec: Any) -> str:
        wanted = EndpointSpec.model_validate({"model": "big", **spec})
        endpoint = Endpoint(metadata=Metadata(name="chat", project=PROJECT), spec=wanted)
        return await self.memory.why_too_little(endpoint, self.model)


@pytest.fixture
async def scene(tmp_path: Path) -> Scene:
    """Llama 3.1 8B: 15 GiB of weights, and 16 GiB of KV cache for its 131,072 tokens."""
    made = Scene(tmp_path)
    await made.add_node("a", 2, "nvidia", "T4", 16)
    await made.add_node("b", 4, "nvidia", "A10", 24)
    return made


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"devices": {"models": ["t4"]}}, "15.0 GiB of weights on each device do not fit into the 14.7 GiB"),
        ({}, "15.0 GiB of weights and 16.0 GiB of KV cache for 131072 tokens do not fit into the 22.1 GiB"),
        ({"engine": {"maxContextTokens": 8192}}, ""),
        ({"devices": {"count": 2}}, ""),
        ({"nodes": 2, "devices": {"vendors": ["nvidia"]}}, ""),
        ({"mode": "auto"}, ""),
        ({"devices": {"equivalence": {"memoryBytes": 40 * GIB}}}, ""),
        ({"devices": {"vendors": ["ascend"]}}, ""),
        ({"devices": {"notModels": ["A10", "T4"]}}, ""),
        ({"engine": {"args": ["--cpu_offload_gb=20"]}}, ""),
        ({"engine": {"args": ["--hf-overrides.rope_theta", "1"]}}, ""),
        ({"engine": {"args": ["--enforce-eager"]}}, "131072 tokens"),
    ],
)
async def test_what_no_devices_hold_is_told(scene: Scene, spec: dict[str, Any], told: str) -> None:
    why = await scene.why(**spec)
    assert told in why if told else not why
    if told:
        assert why.startswith("spec.devices: ")
        assert "ask for more" in why


async def test_each_role_is_looked_at(scene: Scene) -> None:
    small = {"devices": {"vendors": ["nvidia"], "models": ["T4"]}}
    large = {"devices": {"vendors": ["nvidia"], "models": ["A10"], "count": 4}}
    why = await scene.why(mode="disaggregated", prefill=large, decode=small)
    assert why.startswith("spec.decode.devices: ")


async def test_the_cpu_of_a_node_is_one_device_however_many_slots(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    await scene.add_node("a", 1, "cpu", "x86-64", 12)
    assert "15.0 GiB of weights" in await scene.why(devices={"vendors": ["cpu"], "count": 4})
    scene.clock.advance(FRESH_SECONDS)
    await scene.add_node("b", 1, "cpu", "x86-64", 16)
    assert not await scene.why(devices={"vendors": ["cpu"], "count": 4})


async def test_the_memory_of_a_host_is_none_of_its_accelerators(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    await scene.add_node("a", 1, "nvidia", "T4", 16, beside_gib=512)
    assert "nvidia/T4" in await scene.why()
    scene.clock.advance(FRESH_SECONDS)
    await scene.add_node("b", 1, "cpu", "x86-64", 512)
    assert not await scene.why(), "an engine may be on a node that has nothing else"


async def test_weights_of_four_bytes_are_kept_in_two(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {**configs()[LLAMA_8B], "torch_dtype": "float32"})
    await scene.add_node("a", 1, "nvidia", "A10", 24)
    assert not await scene.why(engine={"maxContextTokens": 8192})


@pytest.mark.parametrize("config", [{"max_position_embeddings": 8}, {"num_hidden_layers": "many"}])
async def test_what_is_not_understood_is_not_judged(tmp_path: Path, config: dict[str, Any]) -> None:
    scene = Scene(tmp_path, config)
    await scene.add_node("a", 1, "nvidia", "T4", 16)
    assert not await scene.why()


async def test_nodes_are_listed_once_a_minute(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = 0
    listed = scene.store.list

    async def count(*args: Any, **options: Any) -> Any:
        nonlocal lists
        lists += 1
        return await listed(*args, **options)

    monkeypatch.setattr(scene.store, "list", count)
    for _ in range(3):
        assert await scene.devices.rows() == [
            DeviceRow("nvidia", "A10", 24 * GIB, 4),
            DeviceRow("nvidia", "T4", 16 * GIB, 2),
        ]
    assert lists == 1
    scene.clock.advance(FRESH_SECONDS)
    await scene.devices.rows()
    assert lists == 2


async def test_a_store_that_does_not_answer_changes_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await scene.devices.rows()

    async def fail(*_: Any, **__: Any) -> Any:
        raise Unavailable("down", DATABASE_UNAVAILABLE)

    monkeypatch.setattr(scene.store, "list", fail)
    scene.clock.advance(FRESH_SECONDS)
    assert await scene.devices.rows() == before


async def test_an_endpoint_says_so_until_an_engine_answers(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.make_model()
    (world.model_path / "config.json").write_text(json.dumps(configs()[LLAMA_8B]))
    await world.apply_model()
    scene = Scene(tmp_path / "other")
    await scene.add_node("a", 1, "nvidia", "T4", 16)
    settings = Settings(home=tmp_path)
    memory = EngineMemory(scene.devices, configs_at(tmp_path), world.clock)
    world.controller = EndpointController(world.store, world.engines, settings, world.clock, memory)
    await scene.devices.rows()
    await world.apply_endpoint()
    await world.step()
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "TooLittleMemory")
    assert "15.0 GiB of weights" in ready.message
    assert (await world.endpoint()).status.is_startable  # it is said, not forbidden
    await world.start("chat-0")
    await world.step()
    assert (await world.endpoint()).status.is_true("Ready")


async def test_an_engine_that_fits_nowhere_is_so_in_its_endpoint(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.make_model()
    await world.apply_model()
    await world.apply_endpoint()
    await world.step()
    workload = (await world.workloads())["chat-0"]
    workload.status.never_fits, workload.status.message = True, "no node has 8 devices"
    await world.store.set_status(workload)
    await world.step()
    status = (await world.endpoint()).status
    assert status.replicas[0].never_fits
    ready = status.condition("Ready")
    assert ready is not None
    assert ready.message == "0 of 1 replicas answer; chat-0 is Pending (no node has 8 devices)"


@given(
    model=st.sampled_from(sorted(configs())),
    gib=st.integers(4, 200),
    tensor=st.sampled_from([1, 2, 4, 8]),
    tokens=st.integers(1, 200_000),
)
def test_what_the_planner_has_room_for_is_never_refused(
    model: str, gib: int, tensor: int, tokens: int
) -> None:
    figures = DeviceFigures("nvidia/X", "X", memory_bytes=gib * GIB)
    engine = Engine(shape(model), figures, Layout(tensor))
    need = least_need(engine.shape, engine.layout, tokens)
    if most_sequences(engine, tokens):
        assert need.bytes <= gib * GIB
    assert need.weights <= max(0.0, gib * GIB - room_bytes(engine))
