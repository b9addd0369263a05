"""Many adapters on one engine: no pass takes long, and what can be asked once is not asked for each."""

from pathlib import Path

import pytest

from common.errors import InvalidInput, Unavailable
from common.resources import Adapter, Metadata, Project
from common.resources.people import ProjectSpec
from common.resources.serving import AdapterSpec
from inference.adapter_sync import LOADING_SECONDS
from inference.routes import build_routing_table
from tests.unit.inference.endpoint_world import PROJECT, World

MANY = 40
URL = "http://10.0.0.1:9000"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.apply_model()
    for number in range(MANY):
        spec = AdapterSpec(model="tiny", served_name=f"ft:{number}", path=f"/adapters/{number}")
        await made.store.apply(Adapter(metadata=Metadata(name=f"a{number}", project=PROJECT), spec=spec))
    await made.apply_endpoint()
    await made.step()
    await made.start("chat-0")
    return made


def loads_take(world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    load = world.engines.load_adapter

    async def slowly(url: str, name: str, path: str) -> None:
        world.clock.advance(seconds)
        await load(url, name, path)

    monkeypatch.setattr(world.engines, "load_adapter", slowly)


async def served(world: World) -> int:
    return sum(adapter.status.is_true("Served") for adapter in await world.store.list(Adapter))


async def test_an_engine_is_asked_for_its_list_once_however_many_are_loaded(world: World) -> None:
    await world.controller.step()
    assert len(world.engines.running[URL].adapters) == MANY == await served(world)
    assert world.engines.calls.count(f"list {URL}") == 2, "before, and after"


async def test_what_takes_longer_than_a_pass_may_is_loaded_in_several(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the engine serves its model, and what it has."""
    loads_take(world, monkeypatch, LOADING_SECONDS / 9.5)
    for loaded in (10, 20, 30, MANY, MANY):
        await world.controller.step()
        assert len(world.engines.running[URL].adapters) == loaded == await served(world)
        [replica] = (await world.endpoint()).status.replicas
        assert (replica.ready, len(replica.adapters)) == (True, loaded)


async def test_one_that_takes_as_long_as_a_pass_may_is_loaded_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads_take(world, monkeypatch, 3 * LOADING_SECONDS)
    await world.step(2)
    assert len(world.engines.running[URL].adapters) == 2


async def test_those_that_are_refused_hold_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    loads_take(world, monkeypatch, LOADING_SECONDS / 9.5)
    world.engines.refused = {f"/adapters/{number}" for number in range(0, MANY, 2)}
    await world.step(6)
    assert len(world.engines.running[URL].adapters) == MANY / 2 == await served(world)


async def test_an_engine_that_does_not_list_what_it_loaded_keeps_what_it_had(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads_take(world, monkeypatch, LOADING_SECONDS / 9.5)
    await world.controller.step()
    listing, calls = world.engines.loaded_models, []

    async def once(url: str) -> object:
        calls.append(url)
        if len(calls) == 2:
            raise Unavailable("too slow")
        return await listing(url)

    monkeypatch.setattr(world.engines, "loaded_models", once)
    await world.controller.step()
    [replica] = (await world.endpoint()).status.replicas
    assert len(replica.adapters) == 10
    world.clock.advance(20)
    await world.step(5)
    assert await served(world) == MANY


async def test_each_adapter_has_a_route_to_those_that_hold_it(world: World) -> None:
    await world.controller.step()
    await world.store.delete(Adapter, "a0", PROJECT)
    world.engines.running[URL].adapters.pop("ft:1")
    world.clock.advance(20)

    async def refuse(url: str, name: str, path: str) -> None:
        raise InvalidInput("no")

    world.engines.load_adapter = refuse  # type: ignore[method-assign]
    await world.controller.step()
    await world.store.apply(project())
    routes = {route.model: len(route.replicas) for route in (await build_routing_table(world.store)).routes}
    assert routes == {"tiny": 1, "ft:1": 0, **{f"ft:{number}": 1 for number in range(2, MANY)}}


def project() -> Project:
    return Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant="acme"))
