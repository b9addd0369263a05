"""Endpoints become workloads, and ready engines get their adapters."""

from pathlib import Path
from typing import Any

import pytest

from common.errors import DATABASE_UNAVAILABLE, Unavailable
from common.resources import Adapter, Endpoint, Metadata, Model, Workload
from common.resources.engines import EngineSpec
from common.resources.serving import AdapterSpec, EndpointSpec, ModelSpec
from common.resources.workload import WorkloadRole, WorkloadSpec
from inference.controller import GONE_PER_PASS, NEW_PER_PASS
from tests.unit.inference.endpoint_world import FT, IN_PLACE, PROJECT, World


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


async def test_many_replicas_are_made_over_several_short_passes(world: World) -> None:
    await world.apply_endpoint(NEW_PER_PASS * 2 + 1)
    for made in (NEW_PER_PASS, NEW_PER_PASS * 2, NEW_PER_PASS * 2 + 1, NEW_PER_PASS * 2 + 1):
        await world.controller.step()
        assert len(await world.workloads()) == made


@pytest.mark.parametrize("deleted", [True, False])
async def test_many_replicas_go_over_several_short_passes(world: World, deleted: bool) -> None:
    many = GONE_PER_PASS * 2 + 1
    await world.apply_endpoint(many)
    while len(await world.workloads()) < many:
        await world.controller.step()
    if deleted:
        await world.store.delete(Endpoint, "chat", PROJECT)
    else:
        await world.apply_endpoint(0)
    for left in (GONE_PER_PASS + 1, 1, 0):
        await world.controller.step()
        assert len(await world.workloads()) == left


async def test_a_change_replaces_one_serving_replica_at_a_time(world: World) -> None:
    await world.apply_endpoint(3, rollout=IN_PLACE)
    await world.step()
    for i in range(3):
        await world.start(f"chat-{i}")
    await world.step()
    before = {name: w.metadata.uid for name, w in (await world.workloads()).items()}
    await world.apply_endpoint(3, rollout=IN_PLACE, engine=EngineSpec(max_context_tokens=512))
    for i in (2, 1, 0):
        await world.let_leave()
        await world.step()
        now = {name: w.metadata.uid for name, w in (await world.workloads()).items()}
        replaced = {name for name in now if now[name] != before[name]}
        assert replaced == {f"chat-{j}" for j in range(i, 3)}
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
    assert "$(HOME_DIR)/models/tiny" in ready.message
    assert str(world.home) not in ready.message
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


async def test_a_private_endpoint_is_given_no_adapter_of_strangers(world: World) -> None:
    spec = AdapterSpec(model="tiny", model_project=PROJECT, served_name="ft:tiny:rival:plans:1", path="/a/1")
    await world.store.apply(Adapter(metadata=Metadata(name="plans", project="rival"), spec=spec))
    await world.apply_adapter()
    await world.apply_endpoint()
    await world.step()
    url = await world.start("chat-0")
    await world.step(3)
    assert (await world.endpoint()).status.replicas[0].adapters == [FT]
    assert [call for call in world.engines.calls if "rival" in call] == []
    theirs = await world.store.get(Adapter, "plans", "rival")
    assert (theirs.status.replicas, theirs.status.is_true("Served")) == (0, False)
    endpoint = await world.endpoint()
    endpoint.spec.shared = True
    await world.store.apply(endpoint)
    await world.step(3)
    assert (await world.store.get(Adapter, "plans", "rival")).status.is_true("Served"), url


async def test_a_link_out_of_a_projects_folder_is_not_followed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.make_model()
    own = tmp_path / "models" / PROJECT
    own.mkdir()
    (own / "m").symlink_to(world.model_path)
    source = f"$(HOME_DIR)/models/{PROJECT}/m"
    await world.store.apply(
        Model(metadata=Metadata(name="tiny", project=PROJECT), spec=ModelSpec(source=source))
    )
    await world.step()
    found = (await world.store.get(Model, "tiny", PROJECT)).status
    ready = found.condition("Ready")
    assert ready is not None
    assert (ready.reason, found.digest, found.context_tokens) == ("LinkLeadsOutside", "", None)
    assert str(tmp_path) not in ready.message


async def test_a_store_that_is_away_ends_the_pass_after_all_endpoints_had_their_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.apply_endpoint()
    spec = EndpointSpec.model_validate({"model": "tiny", "replicas": 1})
    await world.store.apply(Endpoint(metadata=Metadata(name="other", project=PROJECT), spec=spec))
    apply = world.store.apply

    async def away(resource: Any) -> Any:
        if resource.name == "chat-0":
            raise Unavailable("the database is away", code=DATABASE_UNAVAILABLE)
        return await apply(resource)

    monkeypatch.setattr(world.store, "apply", away)
    with pytest.raises(Unavailable, match="the database is away"):
        await world.step(1)
    assert list(await world.workloads()) == ["other-0"]
