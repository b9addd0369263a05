"""Many adapters on one engine: no pass takes long, and what can be asked once is not asked for each."""

import errno
import shutil
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.errors import InvalidInput, Unavailable
from common.resources import Adapter, Metadata, Project
from common.resources.people import ProjectSpec
from common.resources.serving import AdapterSpec
from inference.adapter_files import LOOK_SECONDS, AdapterFiles
from inference.adapter_sync import LOADING_SECONDS
from inference.routes import build_routing_table
from tests.unit.inference.endpoint_world import FT, PROJECT, World

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


async def test_one_whose_files_go_is_let_go_before_an_engine_reads_them_again(
    world: World, tmp_path: Path
) -> None:
    """Others lie where only engines see them. It comes back with its files."""
    config = tmp_path / "zoo" / "adapter_config.json"
    config.parent.mkdir()
    config.touch()
    await world.apply_adapter("$(HOME_DIR)/zoo")
    world.clock.advance(LOOK_SECONDS)
    await world.step()
    held = world.engines.running[URL].adapters
    assert held[FT] == str(config.parent)
    config.unlink()
    world.clock.advance(LOOK_SECONDS)
    await world.controller.step()
    assert len(held) == MANY == await served(world)
    adapter = await world.adapter()
    status = adapter.status.condition("Served")
    assert status is not None
    assert (status.reason, status.message) == ("FilesGone", "nothing is at $(HOME_DIR)/zoo any more")
    assert not adapter.status.is_loadable
    config.touch()
    world.clock.advance(LOOK_SECONDS)
    await world.controller.step()
    assert held[FT] == str(config.parent)
    assert await served(world) == MANY + 1


async def test_files_are_looked_for_now_and_then_and_what_cannot_be_told_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, names = VirtualClock(), ("a", "b", "never")
    files, paths = AdapterFiles(clock), {str(tmp_path / name) for name in names}
    for name in names[:2]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").touch()
    assert not await files.gone(paths)
    shutil.rmtree(tmp_path / "a")
    assert not await files.gone(paths)
    clock.advance(LOOK_SECONDS)
    assert await files.gone(paths) == {str(tmp_path / "a")}
    clock.advance(LOOK_SECONDS)
    assert not await files.gone(paths - {str(tmp_path / "a")}), "it is wanted no more"

    def stale(self: Path) -> None:
        raise OSError(errno.ESTALE, "stale")

    monkeypatch.setattr(Path, "stat", stale)
    clock.advance(LOOK_SECONDS)
    assert not await files.gone(paths)


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
