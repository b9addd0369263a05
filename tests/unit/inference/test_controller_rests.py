"""When the endpoint controller may rest, and that no change of a condition alone is lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from common.errors import DATABASE_UNAVAILABLE, Unavailable
from common.resources import Adapter, Endpoint, Metadata, Model
from common.resources.serving import AdapterSpec, ModelSpec
from inference import controller
from inference.core.rollout import ReplicaState
from inference.rolling_out import state_of
from tests.unit.inference.endpoint_world import FT, PROJECT, World

SOON_SECONDS, LATE_SECONDS = 2.0, 10.0


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    return made


async def test_it_rests_while_all_models_endpoints_and_adapters_are_as_they_should_be(world: World) -> None:
    async def tick_seconds() -> float:
        await world.step()
        return world.controller.tick_seconds()

    assert world.controller.tick_seconds() == SOON_SECONDS, "before its first pass"
    assert await tick_seconds() == LATE_SECONDS
    await world.apply_endpoint()
    assert await tick_seconds() == SOON_SECONDS
    await world.start("chat-0")
    assert await tick_seconds() == LATE_SECONDS
    world.engines.refused.add("/gone")
    await world.apply_adapter("/gone")
    assert await tick_seconds() == SOON_SECONDS
    await world.store.delete(Adapter, "zoo", PROJECT)
    assert await tick_seconds() == LATE_SECONDS
    spec = ModelSpec(source="$(HOME_DIR)/models/none")
    await world.store.apply(Model(metadata=Metadata(name="none", project=PROJECT), spec=spec))
    assert await tick_seconds() == SOON_SECONDS


async def test_a_pass_that_breaks_off_is_followed_soon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.step()
    assert world.controller.tick_seconds() == LATE_SECONDS

    async def away(*_: Any) -> Any:
        raise Unavailable("the database is away", code=DATABASE_UNAVAILABLE)

    monkeypatch.setattr(world.store, "wait", away)
    with pytest.raises(Unavailable):
        await world.step(1)
    assert world.controller.tick_seconds() == SOON_SECONDS


async def test_it_runs_passes_that_may_rest_and_closes_what_reads_models(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    async def run_passes(*arguments: Any, **options: Any) -> None:
        calls.append((arguments, options))
        raise asyncio.CancelledError

    async def close() -> None:
        calls.append("closed")

    monkeypatch.setattr(controller, "run_passes", run_passes)
    monkeypatch.setattr(world.controller._models, "close", close)
    stop = asyncio.Event()
    with pytest.raises(asyncio.CancelledError):
        await world.controller.run(stop)
    made = world.controller
    arguments = ("endpoints", made.step, world.store, stop, made.tick_seconds, None)
    assert calls == [(arguments, {"rests": True, "kinds": controller.KINDS}), "closed"]


async def test_a_new_reason_alone_is_written(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.apply_model()
    await world.apply_endpoint()

    async def reason() -> str:
        await world.step()
        ready = (await world.endpoint()).status.condition("Ready")
        assert ready is not None
        return ready.reason

    assert await reason() == "PathNotFound"
    world.model_path.mkdir(parents=True)
    assert await reason() == "ConfigMissing"


async def test_a_new_reason_of_an_adapter_alone_is_written(world: World) -> None:
    await world.apply_adapter()

    async def reason() -> str:
        await world.step()
        served = (await world.adapter()).status.condition("Served")
        assert served is not None
        return served.reason

    first = await reason()
    await world.apply_endpoint()
    await world.step()
    await world.start("chat-0")
    world.engines.refused.add("/adapters/1")
    assert (first, await reason()) == ("NoReplicaReady", "LoadRefused")


async def test_what_is_known_of_starts_and_endpoints_that_are_over_is_forgotten(world: World) -> None:
    await world.apply_endpoint()
    await world.apply_adapter()
    await world.step()
    await world.start("chat-0")
    await world.step()
    uid = (await world.workloads())["chat-0"].metadata.uid
    assert list(world.controller._sync._held) == [(uid, 1)]
    await world.start("chat-0", attempt=2)
    await world.step()
    assert list(world.controller._sync._held) == [(uid, 2)]
    await world.store.delete(Endpoint, "chat", PROJECT)
    await world.step()
    assert not world.controller._sync._held
    assert not world.controller._wanted_engines._known


async def test_what_is_wanted_is_made_once_for_each_state_of_endpoint_and_model(world: World) -> None:
    await world.apply_endpoint()
    model = await world.store.get(Model, "tiny", PROJECT)
    wanted = world.controller._wanted_engines
    first = wanted.of(await world.endpoint(), model)
    assert wanted.of(await world.endpoint(), model) is first
    await world.apply_endpoint(priority=9)
    changed = wanted.of(await world.endpoint(), model)
    assert changed[""].workload.spec.priority == 9
    for change in ({"uid": "another"}, {"generation": 99}):
        other = model.model_copy(update={"metadata": model.metadata.model_copy(update=change)})
        assert wanted.of(await world.endpoint(), other) is not changed


async def test_an_engine_of_a_mode_that_is_not_wanted_is_not_outdated(world: World) -> None:
    await world.apply_endpoint()
    await world.step()
    workload = (await world.workloads())["chat-0"]
    model = await world.store.get(Model, "tiny", PROJECT)
    engine = world.controller._wanted_engines.of(await world.endpoint(), model)[""]
    assert state_of(workload, "", None) == ReplicaState(False, False, "")
    assert state_of(workload, "", engine) == ReplicaState(False, False, "")
    for labels, outdated in (({}, False), ({"computility.io/model-identity": "lab/other"}, True)):
        workload.metadata.labels = labels
        assert state_of(workload, "", engine).outdated is outdated
        assert not engine.is_same(workload)


async def test_no_adapter_is_loaded_where_it_has_no_room(world: World) -> None:
    for number, rank in enumerate((8, 9)):
        spec = AdapterSpec(model="tiny", served_name=f"{FT}{number}", path=f"/a/{number}", rank=rank)
        await world.store.apply(Adapter(metadata=Metadata(name=f"zoo{number}", project=PROJECT), spec=spec))
    for most, held in ((2, [f"{FT}0"]), (0, [])):
        await world.apply_endpoint(engine={"maxAdapters": most, "maxAdapterRank": 8})
        await world.step(3)
        await world.start("chat-0")
        await world.step()
        assert (await world.endpoint()).status.replicas[0].adapters == held
