"""A change of an Endpoint reaches its engines without an outage."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.load import EngineLoad
from common.resources import Metadata, Project
from common.resources.people import ProjectSpec
from common.resources.rollout import EndpointRollout
from common.resources.serving import EndpointSpec
from inference.core.autoscaling.choice import Candidate
from inference.core.surge import Budget, choose_rolling
from inference.routes import build_routing_table
from tests.unit.inference.endpoint_world import FT, IN_PLACE, PROJECT, World

OTHER: dict[str, Any] = {"engine": {"max_context_tokens": 512}}


def name(index: int) -> str:
    return f"chat-{index}"


def engine(index: int, **facts: Any) -> Candidate:
    return Candidate(name(index), index, **{"ready": True, "in_flight": 0, **facts})


def test_the_new_one_comes_first_and_the_old_one_goes_when_it_answers() -> None:
    old, budget = engine(0, outdated=True), Budget(1, 0)
    assert choose_rolling([old], 1, budget, name) == ["chat-0", "chat-1"]
    assert choose_rolling([old, engine(1, ready=False)], 1, budget, name) == ["chat-0", "chat-1"]
    loading = engine(1, complete=False)
    assert choose_rolling([old, loading], 1, budget, name) == ["chat-0", "chat-1"], "adapters are missing"
    assert choose_rolling([old, engine(1)], 1, budget, name) == ["chat-1"]


def test_without_a_place_an_old_one_makes_room() -> None:
    waits = engine(1, ready=False, starved=True)
    assert choose_rolling([engine(0, outdated=True), waits], 1, Budget(1, 0), name) == ["chat-1"]


class Pool:
    """Engines that come up, stop and leave in any order."""

    def __init__(self, count: int) -> None:
        self.engines = {i: engine(i, outdated=True) for i in range(count)}

    def obey(self, wanted: list[str]) -> None:
        """What the controller does: old ones that serve drain, others go at once, what is missing is made."""
        for index, one in list(self.engines.items()):
            if one.name in wanted:
                if one.outdated and not one.ready:
                    self.engines[index] = engine(index, ready=False)
            elif one.ready:
                self.engines[index] = engine(index, outdated=one.outdated, draining=True)
            else:
                del self.engines[index]
        for text in wanted:
            index = int(text.rpartition("-")[2])
            self.engines.setdefault(index, engine(index, ready=False))

    @property
    def answering(self) -> int:
        return sum(one.ready and not one.draining for one in self.engines.values())


@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 4), st.randoms(use_true_random=False))
def test_never_fewer_answer_and_never_more_are_there_than_may(
    count: int, surge: int, unavailable: int, random: Any
) -> None:
    if not surge and not unavailable:
        surge = 1
    pool, budget = Pool(count), Budget(surge, unavailable)
    for step in range(400):
        wanted = choose_rolling(list(pool.engines.values()), count, budget, name)
        assert len(set(wanted)) == len(wanted)
        pool.obey(wanted)
        assert pool.answering >= count - unavailable
        assert len(pool.engines) <= count + surge
        there = sorted(pool.engines)
        index = random.choice(there) if step < 60 else there[step % len(there)]
        one = pool.engines[index]
        if one.draining:
            del pool.engines[index]
        elif not one.ready:
            pool.engines[index] = engine(index)
    assert len(pool.engines) == count
    assert not any(one.outdated or one.draining for one in pool.engines.values())


def test_some_step_has_to_be_possible() -> None:
    with pytest.raises(ValidationError, match="maxSurge and maxUnavailable must not both be 0"):
        EndpointRollout(max_surge=0)


def test_limits_count_what_a_change_has_beside_beyond_one() -> None:
    ranks = [
        EndpointSpec.model_validate(
            {"model": "m", "replicas": 2, "rollout": {"max_surge": surge}}
        ).engine_ranks
        for surge in (1, 2, 3, 100)
    ]
    assert ranks == [2, 3, 4, 4]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.make_model()
    await made.store.apply(Project(metadata=Metadata(name=PROJECT), spec=ProjectSpec(tenant="acme")))
    await made.apply_model()
    await made.apply_endpoint()
    await made.step()
    await made.start("chat-0")
    await made.step()
    return made


async def serving(world: World, model: str = "tiny") -> list[str]:
    """Who is sent requests."""
    routes = {one.model: one for one in (await build_routing_table(world.store)).routes}
    return [one.id for one in routes[model].replicas]


async def ready(world: World) -> tuple[str, str, str]:
    found = (await world.endpoint()).status.condition("Ready")
    assert found is not None
    return found.status, found.reason, found.message


async def test_an_only_replica_is_replaced_without_an_outage(world: World) -> None:
    await world.apply_endpoint(**OTHER)
    await world.step()
    assert set(await world.workloads()) == {"chat-0", "chat-1"}
    assert await serving(world) == ["chat-0"]
    told = "1 of 1 replicas answer; chat-0 is to be replaced; chat-1 is Pending"
    assert await ready(world) == ("True", "RollingOut", told)
    status = (await world.endpoint()).status
    assert (status.ready_replicas, status.updated_replicas) == (1, 0)
    world.engines.running["http://10.0.0.1:9000"].load = EngineLoad(1, 0, 0.0, ())
    await world.start("chat-1")
    await world.step(3)
    assert await serving(world) == ["chat-1"]
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-0", "chat-1"}, "it works on a request"
    world.engines.running["http://10.0.0.1:9000"].load = EngineLoad(0, 0, 0.0, ())
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-1"}
    assert await ready(world) == ("True", "Ready", "1 of 1 replicas answer")
    assert (await world.endpoint()).status.updated_replicas == 1
    events = [(one.reason, one.message) for one in await world.store.events(kind="Endpoint")]
    why = "chat-0 was stopped, because it has other arguments than are wanted (generation 2)"
    assert events == [("Ready", "1 of 1 replicas answer"), ("EngineReplaced", why)]


async def test_adapters_are_there_before_an_engine_takes_over(world: World) -> None:
    await world.apply_adapter()
    await world.step()
    assert await serving(world, FT) == ["chat-0"]
    await world.apply_endpoint(**OTHER)
    await world.step()
    await world.start("chat-1")
    original = world.engines.loaded_models

    async def silent(url: str) -> Any:
        if url.endswith("9001"):
            raise TimeoutError
        return await original(url)

    world.engines.loaded_models = silent  # type: ignore[method-assign]
    await world.step(5)
    assert "chat-0" in await serving(world, FT)
    world.engines.loaded_models = original  # type: ignore[method-assign]
    world.clock.advance(600)
    await world.step(5)
    assert await serving(world, FT) == ["chat-1"]


async def test_without_room_the_old_one_serves_on_for_a_while_and_then_makes_room(world: World) -> None:
    await world.apply_endpoint(**OTHER)
    await world.step()
    world.clock.advance(59)
    await world.step()
    assert await serving(world) == ["chat-0"]
    world.clock.advance(2)
    await world.step()
    assert set(await world.workloads()) == {"chat-1"}, "an only one is stopped at once"


@pytest.mark.parametrize("case", ["wait", "never fits", "starts"])
async def test_nobody_makes_room_where_it_is_not_to_be_or_does_not_help(world: World, case: str) -> None:
    rollout = {"when_full": "wait"} if case == "wait" else {}
    await world.apply_endpoint(rollout=rollout, **OTHER)
    await world.step()
    new = (await world.workloads())["chat-1"]
    if case == "never fits":
        new.status.never_fits = True
    if case == "starts":
        new.status.phase, new.status.attempt = "Restarting", 3
    await world.store.set_status(new)
    world.clock.advance(5000)
    await world.step(4)
    assert await serving(world) == ["chat-0"]
    assert set(await world.workloads()) == {"chat-0", "chat-1"}


async def test_a_change_that_is_taken_back_leaves_the_old_engine_alone(world: World) -> None:
    before = (await world.workloads())["chat-0"].metadata.uid
    await world.apply_endpoint(**OTHER)
    await world.step()
    await world.lose("chat-1")
    await world.apply_endpoint()
    await world.step()
    found = await world.workloads()
    assert {name: one.metadata.uid for name, one in found.items()} == {"chat-0": before}
    assert (await ready(world))[1] == "Ready"


async def test_a_restart_that_people_ask_for_replaces_each_engine_once(world: World) -> None:
    await world.apply_endpoint(rollout={"restarted_ms": 5})
    await world.step()
    assert set(await world.workloads()) == {"chat-0", "chat-1"}
    await world.start("chat-1")
    await world.step()
    await world.let_leave()
    assert set(await world.workloads()) == {"chat-1"}
    await world.apply_endpoint()
    await world.step(4)
    assert set(await world.workloads()) == {"chat-1"}, "an old file that says nothing of it starts nothing"


async def test_in_place_costs_an_outage_and_no_room(world: World) -> None:
    await world.apply_endpoint(rollout=IN_PLACE, **OTHER)
    await world.step()
    assert set(await world.workloads()) == {"chat-0"}
    assert await serving(world) == []
