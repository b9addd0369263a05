"""Endpoints become workloads, and ready engines get their adapters."""

import json
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.resources import Adapter, Endpoint, Metadata, Model, Workload
from common.resources.serving import AdapterSpec, EndpointSpec, EngineSpec, ModelSpec
from common.resources.workload import Grant, RankPlacement, WorkloadRole, WorkloadSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from inference.controller import EndpointController
from tests.fixtures.engines import FakeEngines

PROJECT = "lab"
FT = "ft:tiny:acme:zoo:1"


class World:
    """A store, a controller, and a scheduler that does what the test says."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.engines = FakeEngines()
        self.model_path = home / "models" / "tiny"
        self.restart_controller()

    def restart_controller(self) -> None:
        settings = Settings(home=self.home)
        self.controller = EndpointController(self.store, self.engines, settings, self.clock)

    def make_model(self) -> None:
        self.model_path.mkdir(parents=True)
        (self.model_path / "config.json").write_text(json.dumps({"max_position_embeddings": 1024}))
        (self.model_path / "model.safetensors").write_bytes(b"weights")

    async def apply_model(self) -> None:
        spec = ModelSpec(source="$(HOME_DIR)/models/tiny")
        await self.store.apply(Model(metadata=Metadata(name="tiny", project=PROJECT), spec=spec))

    async def apply_endpoint(self, replicas: int = 1, **spec: object) -> None:
        wanted = EndpointSpec.model_validate({"model": "tiny", "replicas": replicas, **spec})
        await self.store.apply(Endpoint(metadata=Metadata(name="chat", project=PROJECT), spec=wanted))

    async def apply_adapter(self, path: str = "/adapters/1", rank: int = 16) -> None:
        spec = AdapterSpec(model="tiny", served_name=FT, path=path, rank=rank)
        await self.store.apply(Adapter(metadata=Metadata(name="zoo", project=PROJECT), spec=spec))

    async def workloads(self) -> dict[str, Workload]:
        return {w.name: w for w in await self.store.list(Workload)}

    async def endpoint(self) -> Endpoint:
        return await self.store.get(Endpoint, "chat", PROJECT)

    async def adapter(self) -> Adapter:
        return await self.store.get(Adapter, "zoo", PROJECT)

    async def start(self, name: str, attempt: int = 1) -> str:
        """What the scheduler and the agent do: the engine of that workload is up and ready."""
        workload = await self.store.get(Workload, name, PROJECT)
        port = 9000 + int(name.rpartition("-")[2])
        grant = Grant(device="d", index=0, vendor="cpu", model="x86-64")
        workload.status.phase, workload.status.attempt = "Ready", attempt
        workload.status.ranks = [
            RankPlacement(
                role="engine",
                replica=0,
                rank=0,
                node="n",
                grants=[grant],
                state="Ready",
                address="10.0.0.1",
                ports={"http": port},
            )
        ]
        await self.store.set_status(workload)
        url = f"http://10.0.0.1:{port}"
        self.engines.start(url)
        return url

    async def lose(self, name: str) -> None:
        workload = await self.store.get(Workload, name, PROJECT)
        workload.status.phase = "Restarting"
        await self.store.set_status(workload)

    async def step(self, times: int = 2) -> None:
        for _ in range(times):
            await self.controller.step()


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    return made


async def test_an_endpoint_gets_one_workload_per_replica(world: World) -> None:
    await world.apply_endpoint(2, queue="serving", priority=7, servedName="small")
    await world.step()
    made = await world.workloads()
    assert list(made) == ["chat-0", "chat-1"]
    workload, endpoint = made["chat-0"], await world.endpoint()
    assert workload.metadata.owner is not None
    assert workload.metadata.owner.uid == endpoint.metadata.uid
    assert workload.metadata.labels == {
        "computility.io/model": "small",
        "computility.io/model-identity": "lab/tiny",
        "computility.io/endpoint": "chat",
    }
    assert (workload.spec.queue, workload.spec.priority) == ("serving", 7)
    assert workload.spec.restart.policy == "Always"
    role = workload.spec.roles[0]
    assert "$(HOME_DIR)/models/tiny" in role.command
    assert role.readiness is not None
    assert role.readiness.path == "/health"
    ready = endpoint.status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "NoReplicaReady")


async def test_ready_replicas_show_where_they_answer_and_on_what(world: World) -> None:
    await world.apply_endpoint()
    await world.step()
    url = await world.start("chat-0")
    await world.step()
    status = (await world.endpoint()).status
    assert status.is_true("Ready")
    assert (status.replicas[0].url, status.replicas[0].device_class) == (url, "cpu/x86-64")
    assert status.context_tokens == 2048
    await world.lose("chat-0")
    await world.step()
    status = (await world.endpoint()).status
    assert not status.is_true("Ready")
    assert status.replicas[0].url == ""


async def test_a_pass_without_news_writes_nothing(world: World) -> None:
    await world.apply_endpoint()
    await world.apply_adapter()
    await world.step()
    await world.start("chat-0")
    await world.step(3)
    before = await world.store.revision()
    world.clock.advance(60)
    await world.step(3)
    assert await world.store.revision() == before


async def test_scaling_makes_and_removes_replicas(world: World) -> None:
    await world.apply_endpoint(1)
    await world.step()
    await world.apply_endpoint(3)
    await world.step()
    assert list(await world.workloads()) == ["chat-0", "chat-1", "chat-2"]
    await world.apply_endpoint(0)
    await world.step()
    assert not await world.workloads()
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    assert ready.reason == "ScaledToZero"


async def test_a_change_replaces_one_serving_replica_at_a_time(world: World) -> None:
    await world.apply_endpoint(3)
    await world.step()
    for i in range(3):
        await world.start(f"chat-{i}")
    await world.step()
    before = {name: w.metadata.uid for name, w in (await world.workloads()).items()}
    await world.apply_endpoint(3, engine=EngineSpec(max_context_tokens=512))
    for i in range(3):
        await world.step(4)
        now = {name: w.metadata.uid for name, w in (await world.workloads()).items()}
        replaced = [name for name in now if now[name] != before[name]]
        assert replaced == [f"chat-{j}" for j in range(i + 1)]
        assert (await world.endpoint()).status.ready_replicas == 2
        await world.start(f"chat-{i}")
    await world.step()
    assert all("512" in w.spec.roles[0].command for w in (await world.workloads()).values())
    assert (await world.endpoint()).status.ready_replicas == 3


async def test_a_new_priority_restarts_no_engine(world: World) -> None:
    await world.apply_endpoint()
    await world.step()
    before = (await world.workloads())["chat-0"].metadata.uid
    await world.apply_endpoint(priority=50)
    await world.step()
    workload = (await world.workloads())["chat-0"]
    assert (workload.metadata.uid, workload.spec.priority) == (before, 50)


async def test_an_engine_tells_the_model_that_it_was_started_with(world: World) -> None:
    """Two Models of one source make the same command; still each is billed as itself."""
    await world.apply_endpoint()
    await world.step()
    await world.start("chat-0")
    await world.step()
    before = (await world.workloads())["chat-0"].metadata.uid
    assert (await world.endpoint()).status.replicas[0].model_identity == "lab/tiny"
    spec = ModelSpec(source="$(HOME_DIR)/models/tiny")
    await world.store.apply(Model(metadata=Metadata(name="twin", project=PROJECT), spec=spec))
    await world.apply_endpoint(model="twin", servedName="tiny")
    await world.step(4)
    workload = (await world.workloads())["chat-0"]
    assert workload.metadata.uid != before
    assert workload.metadata.labels["computility.io/model-identity"] == "lab/twin"


async def test_an_engine_keeps_its_model_when_its_endpoint_names_one_that_cannot_be_started(
    world: World,
) -> None:
    await world.apply_endpoint()
    await world.step()
    await world.start("chat-0")
    await world.apply_endpoint(model="not-there")
    await world.step()
    (replica,) = (await world.endpoint()).status.replicas
    assert (replica.ready, replica.model_identity) == (True, "lab/tiny")


async def test_an_engine_from_before_its_model_was_noted_is_not_restarted(world: World) -> None:
    await world.apply_endpoint()
    await world.step()
    await world.start("chat-0")
    workload = (await world.workloads())["chat-0"]
    before = workload.metadata.uid
    del workload.metadata.labels["computility.io/model-identity"]
    await world.store.apply(workload)
    await world.step()
    workload = (await world.workloads())["chat-0"]
    assert workload.metadata.uid == before
    assert workload.metadata.labels["computility.io/model-identity"] == "lab/tiny"


async def test_replicas_of_a_deleted_endpoint_go(world: World) -> None:
    await world.apply_endpoint(2)
    await world.step()
    await world.store.delete(Endpoint, "chat", PROJECT)
    await world.step()
    assert not await world.workloads()


async def test_an_endpoint_made_anew_gets_workloads_of_its_own(world: World) -> None:
    await world.apply_endpoint()
    await world.step()
    old = (await world.workloads())["chat-0"].metadata.uid
    await world.store.delete(Endpoint, "chat", PROJECT)
    await world.apply_endpoint()
    await world.step()
    workload, endpoint = (await world.workloads())["chat-0"], await world.endpoint()
    assert workload.metadata.uid != old
    assert workload.metadata.owner is not None
    assert workload.metadata.owner.uid == endpoint.metadata.uid


async def test_a_workload_of_someone_else_is_not_touched(world: World) -> None:
    spec = WorkloadSpec(roles=[WorkloadRole(name="r", command=["true"])])
    await world.store.apply(Workload(metadata=Metadata(name="chat-0", project=PROJECT), spec=spec))
    await world.apply_endpoint()
    await world.step()
    assert (await world.workloads())["chat-0"].spec == spec
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    assert ready.reason == "NameTaken"


async def test_no_engine_is_started_for_a_model_that_is_not_there(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.apply_endpoint()
    await world.step()
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    assert ready.reason == "ModelNotFound"
    await world.apply_model()
    await world.step()
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    assert ready.reason == "PathNotFound"
    assert str(world.model_path) in ready.message
    assert not await world.workloads()
    world.make_model()
    await world.step()
    assert list(await world.workloads()) == ["chat-0"]


@pytest.mark.parametrize(
    ("missing", "reason"), [("config.json", "ConfigMissing"), ("model.safetensors", "WeightsMissing")]
)
async def test_an_incomplete_model_is_named(world: World, missing: str, reason: str) -> None:
    (world.model_path / missing).unlink()
    await world.step()
    ready = (await world.store.get(Model, "tiny", PROJECT)).status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", reason)


async def test_a_model_has_a_digest_that_follows_its_weights(world: World) -> None:
    await world.step()
    first = (await world.store.get(Model, "tiny", PROJECT)).status
    assert (len(first.digest), first.context_tokens) == (64, 1024)
    (world.model_path / "model.safetensors").write_bytes(b"other weights")
    await world.step()
    assert (await world.store.get(Model, "tiny", PROJECT)).status.digest != first.digest


async def test_adapters_are_loaded_and_said_to_be_served(world: World) -> None:
    await world.apply_endpoint(2)
    await world.apply_adapter()
    await world.step()
    assert not (await world.adapter()).status.is_true("Served")
    urls = [await world.start(f"chat-{i}") for i in range(2)]
    await world.step()
    assert all(world.engines.running[url].adapters == {FT: "/adapters/1"} for url in urls)
    status = (await world.adapter()).status
    assert (status.is_true("Served"), status.replicas) == (True, 2)
    assert (await world.endpoint()).status.replicas[0].adapters == [FT]


@pytest.mark.parametrize("same_attempt", [False, True])
async def test_a_restarted_engine_gets_its_adapters_again(world: World, same_attempt: bool) -> None:
    await world.apply_endpoint()
    await world.apply_adapter()
    await world.step()
    await world.start("chat-0")
    await world.step()
    await world.lose("chat-0")
    await world.step()
    assert not (await world.adapter()).status.is_true("Served")
    url = await world.start("chat-0", attempt=1 if same_attempt else 2)
    if same_attempt:
        world.clock.advance(20)
    await world.step()
    assert world.engines.running[url].adapters == {FT: "/adapters/1"}
    assert (await world.adapter()).status.is_true("Served")


async def test_a_deleted_adapter_is_unloaded_even_by_a_new_controller(world: World) -> None:
    await world.apply_endpoint()
    await world.apply_adapter()
    await world.step()
    url = await world.start("chat-0")
    await world.step()
    world.restart_controller()
    await world.store.delete(Adapter, "zoo", PROJECT)
    await world.step()
    assert world.engines.running[url].adapters == {}
    assert (await world.endpoint()).status.replicas[0].adapters == []


async def test_an_adapter_with_a_new_path_is_loaded_anew(world: World) -> None:
    await world.apply_endpoint()
    await world.apply_adapter()
    await world.step()
    url = await world.start("chat-0")
    await world.step()
    await world.apply_adapter("/adapters/2")
    await world.step()
    assert world.engines.running[url].adapters == {FT: "/adapters/2"}


async def test_a_refused_adapter_says_why_and_is_tried_again_with_growing_pauses(world: World) -> None:
    await world.apply_endpoint()
    await world.apply_adapter("/gone")
    world.engines.refused.add("/gone")
    await world.step()
    url = await world.start("chat-0")
    await world.step(5)
    assert world.engines.calls.count(f"load {FT}") == 1
    served = (await world.adapter()).status.condition("Served")
    assert served is not None
    assert (served.status, served.reason) == ("False", "LoadRefused")
    assert "/gone: no adapter found" in served.message
    assert (await world.endpoint()).status.is_true("Ready")
    world.clock.advance(5)
    await world.step(5)
    assert world.engines.calls.count(f"load {FT}") == 2
    world.engines.refused.clear()
    world.clock.advance(10)
    await world.step()
    assert world.engines.running[url].adapters == {FT: "/gone"}
    assert (await world.adapter()).status.is_true("Served")


async def test_an_adapter_that_can_never_be_loaded_says_so(world: World) -> None:
    await world.apply_endpoint(engine=EngineSpec(max_adapter_rank=8))
    await world.apply_adapter(rank=16)
    await world.step()
    await world.start("chat-0")
    await world.step()
    served = (await world.adapter()).status.condition("Served")
    assert served is not None
    assert served.reason == "RankTooHigh"
    assert f"load {FT}" not in world.engines.calls


async def test_an_engine_that_cannot_be_reached_holds_up_nobody(world: World) -> None:
    await world.apply_endpoint(2)
    await world.apply_adapter()
    await world.step()
    gone, there = await world.start("chat-0"), await world.start("chat-1")
    del world.engines.running[gone]
    await world.step()
    assert world.engines.running[there].adapters == {FT: "/adapters/1"}
    status = (await world.adapter()).status
    assert (status.is_true("Served"), status.replicas) == (False, 1)


async def test_a_model_that_another_project_shares_is_served(world: World) -> None:
    other = Metadata(name="tiny", project="elsewhere")
    spec = ModelSpec(source="$(HOME_DIR)/models/tiny", shared=True)
    await world.store.delete(Model, "tiny", PROJECT)
    await world.store.apply(Model(metadata=other, spec=spec))
    await world.apply_endpoint()
    await world.store.apply(
        Adapter(
            metadata=Metadata(name="zoo", project=PROJECT),
            spec=AdapterSpec(model="tiny", model_project="elsewhere", served_name=FT, path="/adapters/1"),
        )
    )
    await world.step()
    await world.start("chat-0")
    await world.step(3)
    endpoint = await world.endpoint()
    assert endpoint.status.model_project == "elsewhere"
    assert endpoint.status.replicas[0].adapters == [FT]
    assert (await world.adapter()).status.is_true("Served")
