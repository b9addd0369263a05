"""When the autoscaler looks, and of what it writes what it saw."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from common.errors import Conflict
from common.guard import LONGEST_PAUSE_SECONDS
from common.resources import Endpoint
from inference.autoscaling import autoscaler as module
from inference.autoscaling.autoscaler import LEAST_SECONDS, LOOK_SECONDS
from tests.unit.inference.autoscaling.elastic_world import SLEEPY, ElasticWorld
from tests.unit.inference.endpoint_world import PROJECT


@pytest.fixture
def world(tmp_path: Path) -> ElasticWorld:
    return ElasticWorld(tmp_path)


@pytest.mark.parametrize(("computed", "rest"), [(0.0, LEAST_SECONDS), (0.4, 1.2), (9.0, LOOK_SECONDS)])
async def test_who_begins_to_wait_again_and_again_leaves_time_to_others(
    world: ElasticWorld, monkeypatch: pytest.MonkeyPatch, computed: float, rest: float
) -> None:
    await world.begin(autoscaling=SLEEPY)
    spent, rests, stop, sleep = 0.0, [], asyncio.Event(), asyncio.sleep
    looked = world.autoscaler.step

    async def step() -> None:
        nonlocal spent
        await looked()
        spent += computed
        world.hold(0)
        world.hold(1)

    async def rested(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            stop.set()
        await sleep(0)

    monkeypatch.setattr(world.autoscaler, "step", step)
    monkeypatch.setattr(module.time, "thread_time", lambda: spent)
    monkeypatch.setattr(module.asyncio, "sleep", rested)
    await asyncio.wait_for(world.autoscaler.run(stop), 10)
    assert rests == [pytest.approx(rest)] * 3


async def test_what_was_seen_of_an_endpoint_is_not_written_to_another_of_its_name(
    world: ElasticWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.begin(autoscaling=SLEEPY)
    await world.go(5)
    world.hold(25)
    written = world.store.set_statuses
    met: list[Any] = []

    async def meet_another(writes: Any) -> Any:
        if met:
            return await written(writes)
        met.append(writes)
        await world.store.delete(Endpoint, "chat", PROJECT)
        await world.apply_endpoint(autoscaling=SLEEPY)
        return [Conflict("changed meanwhile")]

    monkeypatch.setattr(world.store, "set_statuses", meet_another)
    await world.autoscaler.step()
    assert met
    assert (await world.endpoint()).status.scaling == []


async def test_an_endpoint_that_cannot_be_looked_at_is_forgotten_when_it_is_gone(
    world: ElasticWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.begin(autoscaling=SLEEPY)

    def broken(*_: object) -> None:
        raise RuntimeError("a look that fails")

    monkeypatch.setattr(module.EndpointWatch, "look", broken)
    await world.autoscaler.step()
    assert list(world.autoscaler._guard.all_aside())
    await world.store.delete(Endpoint, "chat", PROJECT)
    world.clock.advance(2 * LONGEST_PAUSE_SECONDS + 1)
    await world.autoscaler.step()
    assert not list(world.autoscaler._guard.all_aside())
