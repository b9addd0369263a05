"""What is on its way, as autoscaling sees it, reaches the looks of mode auto."""

from typing import Any, cast

import pytest

from common.load import EngineLoad, ReplicaLoad
from common.wire import Demand
from control.planning.auto_mode import AutoMode
from inference.autoscaling.autoscaler import Autoscaler
from inference.autoscaling.board import DemandBoard
from inference.autoscaling.watch import EndpointWatch
from tests.unit.control.planning.test_auto_mode import H100, World, world

__all__ = ["world"]


def replica(number: int, load: EngineLoad | None) -> ReplicaLoad:
    return ReplicaLoad(f"chat-{number}", H100, 1000, load)


async def watched(world: World) -> EndpointWatch:
    """Eight engines, of which the loop knows what autoscaling sees."""
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    await world.engines(8)
    scaler = Autoscaler(world.store, cast(Any, None), DemandBoard(world.clock), world.clock)
    watch = scaler._watches[(await world.endpoint()).metadata.uid] = EndpointWatch(world.clock)
    world.loop = AutoMode(world.store, world.loop._planner, world.traffic, world.clock, scaler)
    await world.loop.step()
    world.clock.advance(15)
    return watch


async def test_requests_that_run_wait_or_are_held_count_as_come(world: World) -> None:
    watch = await watched(world)
    world.serve(10.0, 15, 1000, 100)
    loads = [replica(0, EngineLoad(20, 5, 0.1)), replica(1, EngineLoad(15, 0, 0.1))]
    watch.look(await world.endpoint(), {"": loads}, Demand(endpoint="lab/chat", held=10, active=True))
    assert watch.on_their_way == 50
    await world.loop.step()
    now = world.clock.now_ms() / 1000
    endpoint = await world.endpoint()
    assert len(world.traffic.log_of(endpoint).recent(now)) == pytest.approx(200, abs=10), "some end later"
    profile = world.traffic.log_of(endpoint).profile(now)
    assert profile is not None
    assert profile.requests_per_second == pytest.approx(200 / 15, rel=0.1)


async def test_where_an_engine_does_not_tell_it_is_not_known(world: World) -> None:
    watch = await watched(world)
    world.serve(10.0, 15, 1000, 100)
    watch.look(
        await world.endpoint(),
        {"": [replica(0, EngineLoad(20, 5, 0.1)), replica(1, None)]},
        Demand(endpoint="lab/chat", held=10),
    )
    assert watch.on_their_way is None
    await world.loop.step()
    log = world.traffic.log_of(await world.endpoint())
    assert len(log.recent(world.clock.now_ms() / 1000)) <= 150


async def test_before_autoscaling_has_looked_nothing_is_known(world: World) -> None:
    await watched(world)
    world.loop._autoscaler = Autoscaler(world.store, cast(Any, None), DemandBoard(world.clock), world.clock)
    world.serve(10.0, 15, 1000, 100)
    await world.loop.step()
    log = world.traffic.log_of(await world.endpoint())
    assert len(log.recent(world.clock.now_ms() / 1000)) <= 150
