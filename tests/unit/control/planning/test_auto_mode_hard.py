"""Mode auto where Endpoints and Models are changed under it, of many at once, and of namesakes."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from common.errors import DATABASE_UNAVAILABLE, Conflict, Unavailable
from common.resources import Endpoint, Model, Node, Price
from common.resources.auto_mode import Readers
from common.resources.objectives import ServiceObjective
from common.resources.serving import Replica
from common.store.port import StatusWrite
from control.planning import auto_mode, objectives
from control.planning.kept_supplies import SUPPLIES_SECONDS
from tests.unit.control.planning.test_auto_mode import H100, World, world

__all__ = ["world"]


def at_the_first_write(world: World, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Somebody else is quicker, once."""
    write = world.store.set_statuses
    done: list[bool] = []

    async def late(writes: list[StatusWrite]) -> Any:
        if not done:
            done.append(True)
            await meanwhile()
        return await write(writes)

    world.store.set_statuses = late  # type: ignore[method-assign,assignment]


async def test_a_decision_is_not_written_to_a_namesake_made_meanwhile(world: World) -> None:
    await world.pool(h100=8, h200=8)
    await world.apply(devices={"models": [H100.partition("/")[2]]})

    async def changed_and_then_anew() -> None:
        get = world.store.get
        await world.engines(1)

        async def late(*what: Any) -> Any:
            world.store.get = get  # type: ignore[method-assign]
            await world.store.delete(Endpoint, "chat", "lab")
            await world.apply(devices={"models": ["NVIDIA H200"]})
            return await get(*what)

        world.store.get = late  # type: ignore[method-assign,assignment]

    at_the_first_write(world, changed_and_then_anew)
    await world.loop.step()
    assert (await world.endpoint()).status.auto is None
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == "nvidia/NVIDIA H200"


async def test_a_decision_is_not_written_to_another_mode(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    at_the_first_write(world, lambda: world.apply(mode="replicated"))
    await world.loop.step()
    assert (await world.endpoint()).status.auto is None


async def test_a_status_that_changed_meanwhile_gets_the_decision(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    at_the_first_write(world, lambda: world.engines(1))
    await world.loop.step()
    endpoint = await world.endpoint()
    assert endpoint.status.auto is not None
    assert len(endpoint.status.replicas) == 1


async def test_devices_are_chosen_anew_for_another_model_of_the_name(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    model = await world.store.get(Model, "llama", "lab")
    model.spec.source = "somewhere/else"
    await world.store.apply(model)
    world.clock.advance(15)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == "", "its sizes were those of the former Model"
    before = await world.store.revision()
    await world.loop.step()
    assert await world.store.revision() == before


async def test_what_joined_since_the_pool_was_looked_at_hands_over_too(world: World) -> None:
    await world.pool(h100=8)
    await world.apply(slo={})
    await world.loop.step()
    await world.store.delete(Node, "h100")
    await world.pool(h200=8)
    world.clock.advance(SUPPLIES_SECONDS)
    await world.loop._supplies.of(await world.endpoint(), afresh=False)
    await world.store.delete(Node, "h200")
    await world.pool(h100=8)
    endpoint = await world.endpoint()
    assert endpoint.status.auto is not None
    endpoint.status.auto.device_class = "nvidia/L40S"
    await world.store.set_status(endpoint)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert (auto.device_class, auto.hands_over) == (H100, True)


async def test_engines_are_as_large_as_the_endpoint_says(world: World) -> None:
    await world.pool(h100=8)
    await world.apply(devices={"count": 8})
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert "8 of them an engine" in auto.reasons[0]
    assert auto.devices_per_engine == 0


async def test_a_size_that_no_node_has_is_not_planned_with_another(world: World) -> None:
    await world.pool(h100=2)
    await world.apply(devices={"count": 4})
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == ""
    assert "no node has 4 of them for an engine (spec.devices.count)" in auto.reasons[0]


LONG = {"promptTokens": 30_000, "outputTokens": 300}


async def test_where_nothing_is_asked_devices_keep_the_limits_of_a_chat(world: World) -> None:
    await world.pool(h100=8, h200=8)
    await world.apply(slo={}, traffic=LONG)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    between = float(auto.reasons[0].partition(" ms between tokens")[0].rpartition(" ")[2])
    assert between <= 50.0, auto.reasons
    assert "50 ms between tokens" in auto.reasons[2]


async def test_where_nothing_is_asked_what_no_device_can_keep_is_no_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "CHAT", ServiceObjective(ttft_milliseconds=0.001))
    await world.pool(h100=8)
    await world.apply(slo={}, traffic=LONG)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == H100


async def test_embeddings_have_no_readers(world: World) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    endpoint = await world.endpoint()
    assert endpoint.status.auto is not None
    assert endpoint.status.auto.hands_over
    endpoint.status.auto.mode = "disaggregated"
    endpoint.status.auto.readers = [Readers(device_class=H100, engines=3)]
    await world.store.set_status(endpoint)
    model = await world.store.get(Model, "llama", "lab")
    model.spec.tasks = ["embeddings"]
    await world.store.apply(model)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert (auto.mode, auto.readers, auto.connector) == ("replicated", [], "")


async def test_engines_whose_layers_are_divided_hand_nothing_over(world: World) -> None:
    await world.pool(h100=8)
    await world.apply(devices={"count": 2}, engine={"pipelineStages": 2})
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert (auto.device_class, auto.hands_over) == (H100, False)


async def test_what_a_namesake_of_another_mode_serves_is_not_that_of_a_shared_one(world: World) -> None:
    await world.pool(h100=8)
    await world.apply(shared=True)
    await world.loop.step()
    await world.engines(8)
    await world.apply(project="zoo", mode="replicated")
    other = await world.store.get(Endpoint, "chat", "zoo")
    other.status.replicas = [Replica(workload="chat-0", ready=True, device_class=H100)]
    await world.store.set_status(other)
    await world.loop.step()
    now, mine = world.clock.now_ms() / 1000, await world.endpoint()
    world.serve(1.0, 60, 100, 10, project="zoo", resource="chat-0")
    assert world.traffic.log_of(mine).recent(now) == []
    world.serve(1.0, 60, 100, 10, project="zoo", resource="chat-1")
    assert len(world.traffic.log_of(mine).recent(now)) > 50, "of which it has none of its own"


async def test_the_pool_is_looked_at_once_for_all_that_ask_for_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.pool(h100=8)
    names = [f"chat-{number}" for number in range(8)]
    for name in names:
        await world.apply(name)
    await world.loop.step()
    asked: list[type] = []
    listed = world.store.list

    async def counted(kind: type[Any], **other: Any) -> Any:
        asked.append(kind)
        return await listed(kind, **other)

    monkeypatch.setattr(world.store, "list", counted)
    world.clock.advance(auto_mode.LOOK_SECONDS + 60)
    await world.loop.step()
    assert asked.count(Node) == 1
    assert asked.count(Model) == 0, "each Model is in its project"


async def test_what_is_new_is_decided_first_and_a_pass_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.pool(h100=8)
    for name in ("a", "b", "c"):
        await world.apply(name)
    await world.loop.step()
    for name in ("a-new", "z-new"):
        await world.apply(name)
    looked: list[str] = []
    look = world.loop._look

    async def noted(endpoint: Endpoint) -> None:
        looked.append(endpoint.name)
        await look(endpoint)

    monkeypatch.setattr(world.loop, "_look", noted)
    monkeypatch.setattr(auto_mode, "PASS_SECONDS", 0.0)
    for _ in range(3):
        world.clock.advance(auto_mode.LOOK_SECONDS)
        await world.loop.step()
    assert looked == ["a-new", "z-new", "a", "b", "c"]


async def test_what_cannot_be_looked_at_is_not_planned_in_each_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.pool(h100=8)
    await world.apply()
    planned = []

    async def fails(*_: Any) -> Any:
        planned.append(True)
        raise Conflict("somebody was quicker")

    monkeypatch.setattr(world.loop, "_chosen", fails)
    for _ in range(100):
        world.clock.advance(auto_mode.LOOK_SECONDS)
        await world.loop.step()
    assert len(planned) < 20
    await world.store.delete(Endpoint, "chat", "lab")
    world.clock.advance(3600)
    await world.loop.step()
    assert not list(world.loop._guard.all_aside()), "what is gone is forgotten"


async def test_a_database_that_is_away_for_a_moment_decides_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.pool(h100=8)
    await world.apply()
    listed = world.store.list

    async def away(kind: type[Any], **other: Any) -> Any:
        if kind is Price:
            raise Unavailable("the database is away", code=DATABASE_UNAVAILABLE)
        return await listed(kind, **other)

    monkeypatch.setattr(world.store, "list", away)
    with pytest.raises(Unavailable):
        await world.loop.step()
    assert (await world.endpoint()).status.auto is None
    monkeypatch.setattr(world.store, "list", listed)
    await world.loop.step()
    auto = (await world.endpoint()).status.auto
    assert auto is not None
    assert auto.device_class == H100


async def test_the_profile_is_made_once_in_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pool(h100=8)
    await world.apply()
    await world.loop.step()
    await world.engines(8)
    for _ in range(4):
        world.serve(4.0, 15, 1000, 100)
        world.clock.advance(15)
        await world.loop.step()
    made = []
    log_of = world.traffic.log_of

    def counted(endpoint: Endpoint) -> Any:
        made.append(endpoint.name)
        return log_of(endpoint)

    monkeypatch.setattr(world.traffic, "log_of", counted)
    for _ in range(9):
        world.clock.advance(auto_mode.LOOK_SECONDS)
        await world.loop.step()
    assert len(made) == 2 * 3, "whether something is new, and what is rehearsed"


async def test_a_plan_says_what_of_the_endpoint_it_does_not_know(world: World) -> None:
    await world.pool(h100=8)
    await world.apply(mode="replicated", nodes=2, devices={"vendors": ["nvidia"], "count": 8})
    endpoint = await world.endpoint()
    planner = world.loop._planner
    model = await world.store.get(Model, "llama", "lab")
    plan = await planner.plan(endpoint, model, "acme", await planner.stock(endpoint, None))
    assert plan.reasons[0] == "each option has its engines on one node, not on 2 as spec.nodes says"
    endpoint.spec.nodes = 1
    plan = await planner.plan(endpoint, model, "acme", await planner.stock(endpoint, None))
    assert not any("node" in reason for reason in plan.reasons)
