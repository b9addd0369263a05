"""A canary's engines: made and removed beside the others, promoted without a start, and in nobody's way."""

from pathlib import Path
from typing import Any

import pytest

from common.load import EngineLoad
from common.resources import Endpoint, Metadata, Model, Project
from common.resources.canary import CanaryStatus, trial_of
from common.resources.people import ProjectSpec
from common.wire import Route
from inference.routes import build_routing_table
from tests.unit.inference.endpoint_world import FT, PROJECT, World

CANARY = {"model": "tiny-v2", "weight_percent": 25.0}


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.store.apply(Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant="acme")))
    for name in ("tiny", "tiny-v2"):
        await made.apply_model(name)
    return made


async def apply(world: World, replicas: int, **spec: Any) -> None:
    await world.apply_endpoint(replicas, served_name="chat", **spec)


async def up(world: World, replicas: int = 1, **canary: Any) -> None:
    """An Endpoint with a canary, all of whose engines answer."""
    await apply(world, replicas, canary={**CANARY, **canary})
    await world.step()
    for name in await world.workloads():
        await world.start(name)
    await world.step()


async def route(world: World) -> Route:
    (found,) = (await build_routing_table(world.store)).routes
    return found


def sides(found: Route) -> dict[str, str]:
    return {one.id: one.role for one in found.replicas}


async def take_back(world: World) -> None:
    endpoint = await world.endpoint()
    trial = trial_of(endpoint.spec)
    endpoint.status.canary = CanaryStatus(trial=trial, rolled_back=True, reason="TooManyErrors", since_ms=1)
    await world.store.set_status(endpoint)


async def ready(world: World, type_: str = "Ready") -> tuple[str, str]:
    found = (await world.endpoint()).status.condition(type_)
    assert found is not None
    return found.status, found.reason


async def test_its_engines_have_a_label_a_model_and_arguments_of_their_own(world: World) -> None:
    await up(world, 2, args=["--seed", "7"])
    workloads = await world.workloads()
    assert set(workloads) == {"chat-0", "chat-1", "chat-canary-0"}
    canary, own = workloads["chat-canary-0"], workloads["chat-0"]
    assert canary.metadata.labels["computility.io/engine-role"] == "canary"
    assert canary.metadata.labels["computility.io/model-identity"] == "lab/tiny-v2"
    assert canary.spec.roles[0].command == [*own.spec.roles[0].command, "--seed", "7"]
    assert canary.spec.roles[0].devices == own.spec.roles[0].devices
    found = await route(world)
    assert sides(found) == {"chat-0": "", "chat-1": "", "chat-canary-0": "canary"}
    assert {one.id: one.model_identity for one in found.replicas}["chat-canary-0"] == "lab/tiny-v2"
    assert found.canary is not None
    endpoint = await world.endpoint()
    assert (found.canary.endpoint, found.canary.weight_percent) == (endpoint.metadata.uid, 25.0)
    assert endpoint.status.ready_replicas == 2
    assert await ready(world, "CanaryReady") == ("True", "Ready")


async def test_a_canary_that_does_not_come_up_is_in_nobodys_way(world: World) -> None:
    await apply(world, 2, canary=CANARY)
    await world.step()
    for name in ("chat-0", "chat-1"):
        await world.start(name)
    await world.step()
    assert await ready(world) == ("True", "Ready")
    assert await ready(world, "CanaryReady") == ("False", "NoneReady")
    before = {name: one.metadata.uid for name, one in (await world.workloads()).items()}
    await apply(world, 2, canary=CANARY, engine={"maxContextTokens": 512})
    await world.let_leave()
    now = {name: one.metadata.uid for name, one in (await world.workloads()).items()}
    assert {name for name in now if now[name] != before.get(name)} == {"chat-2", "chat-canary-0"}


@pytest.mark.parametrize("gone", ["deleted", "unusable"])
async def test_without_its_model_what_runs_goes_on_and_nothing_is_started(world: World, gone: str) -> None:
    await up(world)
    if gone == "deleted":
        await world.store.delete(Model, "tiny-v2", PROJECT)
    else:
        await world.apply_model("tiny-v2", source="$(HOME_DIR)/models/nowhere")
    await world.step()
    assert set(await world.workloads()) == {"chat-0", "chat-canary-0"}
    assert await ready(world) == ("True", "Ready")
    status, reason = await ready(world, "CanaryReady")
    assert (status, reason) == ("False", "ModelNotFound" if gone == "deleted" else "PathNotFound")
    await apply(world, 2, canary={**CANARY, "replicas": 3})
    await world.step()
    assert set(await world.workloads()) == {"chat-0", "chat-1", "chat-canary-0"}


async def test_a_namesake_of_another_project_is_not_its_model(world: World) -> None:
    await world.apply_model("v3", "zoo", shared=True)
    await apply(world, 1, canary={**CANARY, "model": "v3"})
    await world.step()
    label = "computility.io/model-identity"
    assert (await world.workloads())["chat-canary-0"].metadata.labels[label] == "zoo/v3"
    await world.apply_model("v3")
    await world.step()
    assert (await world.workloads())["chat-canary-0"].metadata.labels[label] == "lab/v3"


async def test_at_weight_0_engines_are_there_and_get_nothing(world: World) -> None:
    await up(world, weight_percent=0.0)
    assert set(await world.workloads()) == {"chat-0", "chat-canary-0"}
    assert sides(await route(world)) == {"chat-0": ""}


async def test_rolled_back_it_leaves_and_another_number_does_not_bring_it_back(
    world: World,
) -> None:
    await up(world)
    await take_back(world)
    found = await route(world)
    assert (sides(found), found.canary and found.canary.weight_percent) == ({"chat-0": ""}, 0.0)
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-0"}
    assert await ready(world) == ("True", "Ready")
    assert await ready(world, "CanaryReady") == ("False", "RolledBack")
    await apply(world, 2, canary=CANARY, routing={"load": 2.0})
    world.restart_controller()
    await world.step()
    assert set(await world.workloads()) == {"chat-0", "chat-1"}
    await apply(world, 2, canary={**CANARY, "weight_percent": 5.0})
    await world.step()
    assert set(await world.workloads()) == {"chat-0", "chat-1", "chat-canary-0"}


async def test_rolled_back_it_leaves_though_its_model_is_unusable_by_now(world: World) -> None:
    await up(world)
    await world.apply_model("tiny-v2", source="$(HOME_DIR)/models/nowhere")
    await take_back(world)
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-0"}
    assert await ready(world, "CanaryReady") == ("False", "RolledBack")


async def test_promoted_its_engines_serve_on_and_the_old_ones_leave_when_idle(world: World) -> None:
    await up(world)
    before = await world.workloads()
    world.engines.running["http://10.0.0.1:9000"].load = EngineLoad(1, 0, 0.0, ())
    await apply(world, 1, model="tiny-v2")
    await world.step(1)
    now = await world.workloads()
    assert now["chat-canary-0"].metadata.uid == before["chat-canary-0"].metadata.uid
    assert "computility.io/engine-role" not in now["chat-canary-0"].metadata.labels
    await world.step(1)
    assert sides(await route(world)) == {"chat-canary-0": ""}
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-0", "chat-canary-0"}, "it works on a request"
    world.engines.running["http://10.0.0.1:9000"].load = EngineLoad(0, 0, 0.0, ())
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-canary-0"}
    assert (await world.endpoint()).status.condition("CanaryReady") is None
    await apply(world, 1, model="tiny-v2", canary={"model": "tiny"})
    await world.step()
    assert set(await world.workloads()) == {"chat-canary-0", "chat-canary-1"}


async def test_promoted_among_several_one_after_the_other_is_drained_and_replaced(world: World) -> None:
    await up(world, 3)
    await apply(world, 3, model="tiny-v2")
    identities: set[tuple[str, ...]] = set()
    for _ in range(12):
        await world.let_leave()
        for name, workload in (await world.workloads()).items():
            if workload.status.phase != "Ready":
                await world.start(name)
        await world.step()
        serving = (await route(world)).replicas
        assert len(serving) >= 3
        identities.add(tuple(sorted(one.model_identity for one in serving)))
    assert max(identities) == ("lab/tiny-v2",) * 3
    assert len(await world.workloads()) == 3


async def test_after_a_promotion_all_are_replaced_though_two_have_the_same_number(world: World) -> None:
    await up(world, 1)
    await apply(world, 2, model="tiny-v2")
    for change in ({}, {"engine": {"max_adapters": 2}}):
        await apply(world, 2, model="tiny-v2", **change)
        for _ in range(6):
            await world.let_leave()
            for name, workload in (await world.workloads()).items():
                if workload.status.phase != "Ready":
                    await world.start(name)
        workloads = await world.workloads()
        assert len(workloads) == 2
    for workload in workloads.values():
        command = workload.spec.roles[0].command
        assert command[command.index("--max-loras") + 1] == "2"
        assert workload.metadata.annotations == {}


async def test_one_that_is_not_what_the_stable_side_is_to_run_is_not_taken_for_it(world: World) -> None:
    await up(world, args=["--seed", "7"])
    await apply(world, 1, model="tiny-v2")
    await world.step()
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-0", "chat-1"}
    assert (await world.endpoint()).status.updated_replicas == 0


async def test_adapters_are_not_loaded_there_and_not_missed_there(
    world: World,
) -> None:
    await up(world)
    await world.apply_adapter()
    await world.step()
    assert (await world.adapter()).status.is_true("Served")
    assert FT not in world.engines.running["http://10.0.0.1:9300"].adapters
    found = {one.model: sides(one) for one in (await build_routing_table(world.store)).routes}
    assert found[FT] == {"chat-0": ""}


async def test_its_context_does_not_shrink_the_endpoints(world: World) -> None:
    await up(world)
    world.engines.running["http://10.0.0.1:9300"].context_tokens = 16
    world.clock.advance(60)
    await world.step()
    assert (await world.endpoint()).status.context_tokens == 2048


def test_limits_count_its_engines() -> None:
    spec = {"model": "tiny", "replicas": 2, "servedName": "c", "canary": {"model": "v2", "replicas": 3}}
    endpoint = Endpoint.model_validate({"kind": "Endpoint", "metadata": {"name": "chat"}, "spec": spec})
    assert (endpoint.spec.engines, endpoint.spec.engine_ranks) == (5, 5)
