"""Endpoints whose engines follow their load, with the controller that makes them; engines do what
the test says."""

from pathlib import Path
from typing import Any

import pytest

from common.errors import Conflict
from common.labels import DRAINING
from common.load import EngineLoad
from common.resources import Endpoint, Model
from common.resources.meta import Metadata
from common.resources.serving import ModelSpec
from inference.autoscaling.answers import explain_scaling
from inference.autoscaling.board import STALE_SECONDS
from inference.controller import GONE_PER_PASS
from inference.routes import build_routing_table
from tests.unit.inference.autoscaling.elastic_world import SLEEPY, SMALL, ElasticWorld
from tests.unit.inference.endpoint_world import FT, PROJECT


@pytest.fixture
def world(tmp_path: Path) -> ElasticWorld:
    return ElasticWorld(tmp_path)


async def test_from_one_to_three_and_back(world: ElasticWorld) -> None:
    await world.begin(autoscaling=SMALL)
    await world.go(20)
    assert await world.served() == ["chat-0"]
    world.work(28)
    await world.go(20)
    assert await world.served() == ["chat-0", "chat-1", "chat-2"]
    world.work([1, 9, 5])
    await world.go(200)
    assert await world.served() == ["chat-1", "chat-2"]
    world.work([0, 1])
    await world.go(200)
    assert await world.served() == ["chat-2"], "the least busy one went each time"
    assert [reason for reason, _ in await world.events()] == ["ScaledUp", "ScaledDown", "ScaledDown"]
    assert (await world.events())[0][1] == (
        "from 1 to 3 engines: 28 requests for a target of 10 on each engine: 3 engines"
    )
    [scaling] = (await world.endpoint()).status.scaling
    assert (scaling.wanted, scaling.reason) == (1, "LessLoad")


async def test_an_engine_gets_no_more_requests_before_it_goes_and_goes_when_it_is_idle(
    world: ElasticWorld,
) -> None:
    await world.begin(2)
    await world.go(5)
    world.work([3, 7])
    await world.apply_endpoint(1)
    await world.go(200)
    assert await world.served() == ["chat-1"]
    assert set(await world.workloads()) == {"chat-0", "chat-1"}
    status = (await world.endpoint()).status
    assert [(one.workload, one.draining) for one in status.replicas] == [("chat-0", True), ("chat-1", False)]
    assert status.is_true("Ready")
    world.restart_controller()
    world.work([0, 7])
    await world.go(5)
    assert set(await world.workloads()) == {"chat-0", "chat-1"}, "not before gateways have the new table"
    await world.go(15)
    assert set(await world.workloads()) == {"chat-1"}


async def test_an_engine_that_never_gets_idle_goes_after_the_limit(world: ElasticWorld) -> None:
    await world.begin(2)
    await world.go(5)
    world.work(3)
    await world.apply_endpoint(1)
    await world.go(290)
    assert len(await world.workloads()) == 2
    await world.go(30)
    assert len(await world.workloads()) == 1


async def test_an_engine_that_is_about_to_go_is_the_first_to_come_back(world: ElasticWorld) -> None:
    await world.begin(2)
    await world.go(5)
    world.work([3, 7])
    await world.apply_endpoint(1)
    await world.go(10)
    uid = (await world.workloads())["chat-0"].metadata.uid
    await world.apply_endpoint(2)
    await world.go(5)
    assert await world.served() == ["chat-0", "chat-1"]
    assert (await world.workloads())["chat-0"].metadata.uid == uid
    await world.go(600)
    assert len(await world.workloads()) == 2


async def test_to_zero_and_back_when_somebody_waits(world: ElasticWorld) -> None:
    await world.begin(autoscaling=SLEEPY)
    await world.go(5)
    assert not await world.workloads(), "nobody has asked yet"
    [route] = (await build_routing_table(world.store)).routes
    assert (route.replicas, route.elastic) == ((), ("lab/chat",))
    ready = (await world.endpoint()).status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("True", "ScaledToZero")
    world.hold(1)
    await world.go(5)
    assert await world.served() == ["chat-0"]
    world.hold(0)
    world.work(1)
    await world.go(100)
    assert await world.served() == ["chat-0"]
    world.work(0)
    await world.go(25)
    assert await world.served() == ["chat-0"]
    await world.go(30)
    assert not await world.workloads()
    assert [reason for reason, _ in await world.events()] == ["ScaledUp", "ScaledToZero"]


async def test_requests_between_two_looks_keep_an_engine(world: ElasticWorld) -> None:
    await world.begin(autoscaling=SLEEPY)
    world.hold(1)
    await world.go(5)
    world.hold(0)
    url = world.up["chat-0"]
    for finished in range(60):
        world.engines.running[url].load = EngineLoad(0, 0, 0.0, (), finished)
        await world.go(5)
    assert await world.served() == ["chat-0"]


async def test_an_engine_that_never_comes_up_is_given_up_when_nobody_waits_any_more(
    world: ElasticWorld,
) -> None:
    await world.begin(autoscaling=SLEEPY)
    for _ in range(20):
        world.hold(500)
        world.clock.advance(5)
        await world.autoscaler.step()
        await world.controller.step()
    assert len(await world.workloads()) == 3
    world.clock.advance(STALE_SECONDS + 1)
    for _ in range(10):
        world.clock.advance(5)
        await world.autoscaler.step()
        await world.controller.step()
    assert not await world.workloads()


async def test_a_restart_of_control_scales_nothing(world: ElasticWorld) -> None:
    await world.begin(autoscaling=SMALL)
    await world.go(5)
    world.work(28)
    await world.go(20)
    world.work(0)
    await world.go(50)
    world.restart_autoscaler()
    world.restart_controller()
    await world.go(55)
    assert len(await world.served()) == 3
    await world.go(200)
    assert len(await world.served()) == 1


async def test_engines_that_tell_nothing_all_stay(world: ElasticWorld) -> None:
    await world.begin(autoscaling=SLEEPY)
    world.hold(25)
    await world.go(10)
    world.hold(0)
    for engine in world.engines.running.values():
        engine.load = None
    await world.go(600)
    assert len(await world.served()) == 3


async def test_both_roles_wake_and_sleep_together(world: ElasticWorld) -> None:
    role = {"devices": {"vendors": ["cpu"]}, "autoscaling": SLEEPY}
    await world.begin(mode="disaggregated", prefill=role, decode=role)
    await world.go(5)
    assert not await world.workloads()
    world.hold(1)
    await world.go(5)
    assert set(await world.workloads()) == {"chat-decode-0", "chat-prefill-0"}
    world.hold(0)
    world.work([3, 0])
    await world.go(200)
    assert set(await world.workloads()) == {"chat-decode-0", "chat-prefill-0"}
    world.work(0)
    await world.go(60)
    assert not await world.workloads()


async def test_turning_it_on_takes_no_engine_away_and_turning_it_off_goes_back(world: ElasticWorld) -> None:
    await world.begin(3)
    await world.go(5)
    world.work(5)
    await world.apply_endpoint(1, autoscaling=SMALL)
    await world.controller.step()
    assert len(await world.served()) == 3
    await world.go(20)
    [scaling] = (await world.endpoint()).status.scaling
    assert (scaling.wanted, scaling.reason) == (3, "Begun")
    await world.apply_endpoint(2)
    await world.go(5)
    assert len(await world.served()) == 2
    assert (await world.endpoint()).status.scaling == []


async def test_a_schedule_is_obeyed_in_its_time_zone(world: ElasticWorld) -> None:
    # The clock stands at Tuesday, 14 November 2023, 22:13 UTC: 07:13 of the next day in Tokyo.
    windows = [
        {"window": "Wed 07:00-08:00", "timeZone": "Asia/Tokyo", "minReplicas": 2},
        {"window": "Wed 07:00-08:00", "timeZone": "UTC", "minReplicas": 3},
    ]
    await world.begin(autoscaling={**SMALL, "schedules": windows})
    await world.go(5)
    assert len(await world.served()) == 2
    world.work(0)
    await world.go(3000)
    assert len(await world.served()) == 1


async def test_another_writer_delays_nothing(world: ElasticWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.begin(autoscaling=SLEEPY)
    await world.go(5)
    world.hold(1)
    written = world.store.set_statuses
    met = 0

    async def meet_another(writes: Any) -> Any:
        nonlocal met
        met += 1
        return [Conflict("changed meanwhile")] if met == 1 else await written(writes)

    monkeypatch.setattr(world.store, "set_statuses", meet_another)
    await world.autoscaler.step()
    assert (met, (await world.endpoint()).status.scaling[0].wanted) == (2, 1)


async def test_a_namesake_made_meanwhile_does_not_get_its_engines(
    world: ElasticWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.begin(autoscaling=SLEEPY)
    await world.go(5)
    world.hold(1)
    written = world.store.set_statuses

    async def made_anew(writes: Any) -> Any:
        monkeypatch.setattr(world.store, "set_statuses", written)
        former = await world.endpoint()
        await world.store.delete(Endpoint, "chat", PROJECT)
        await world.store.apply(Endpoint(metadata=Metadata(name="chat", project=PROJECT), spec=former.spec))
        return [Conflict("changed meanwhile")]

    monkeypatch.setattr(world.store, "set_statuses", made_anew)
    await world.autoscaler.step()
    assert (await world.endpoint()).status.scaling == []


async def test_what_cannot_be_started_is_not_woken(world: ElasticWorld) -> None:
    await world.begin(autoscaling=SLEEPY)
    spec = ModelSpec(source="$(HOME_DIR)/models/gone")
    await world.store.apply(Model(metadata=Metadata(name="tiny", project=PROJECT), spec=spec))
    await world.go(5)
    [route] = (await build_routing_table(world.store)).routes
    assert route.elastic == ()


async def test_endpoints_without_it_are_left_alone(world: ElasticWorld) -> None:
    await world.begin(2)
    await world.go(10)
    before = await world.store.revision()
    await world.autoscaler.step()
    assert await world.store.revision() == before
    endpoint = await world.store.get(Endpoint, "chat", PROJECT)
    assert (endpoint.status.scaling, world.autoscaler.watch_of(endpoint)) == ([], None)


async def test_why_there_are_so_many_is_told_with_what_is_seen_now(world: ElasticWorld) -> None:
    await world.begin(autoscaling=SLEEPY)
    await world.go(5)
    world.hold(2)
    await world.go(5)
    world.work(15)
    await world.autoscaler.step()
    endpoint, now = await world.endpoint(), world.clock.monotonic_seconds()
    [told] = explain_scaling(endpoint, world.autoscaler.watch_of(endpoint), now).roles
    assert (told.wanted, told.ready, told.starting, told.least, told.most) == (1, 1, 0, 0, 3)
    assert (told.asked, told.held, told.idle_seconds, told.sleeps_after_seconds) == (2, 2, 0, 30)
    assert told.signals[0].text == "17 requests for a target of 10 on each engine"
    assert told.why.startswith("2 requests for a target of 10 on each engine")
    [stored] = explain_scaling(endpoint, None, now).roles
    assert (stored.wanted, stored.asked, stored.now) == (1, None, "")
    await world.apply_endpoint(2)
    [fixed] = explain_scaling(await world.endpoint(), None, now).roles
    assert (fixed.wanted, fixed.follows_load, fixed.why) == (2, False, "")


@pytest.mark.parametrize("use", [float("nan"), float("inf"), -5.0, 1e300])
async def test_odd_numbers_of_engines_are_taken_for_what_they_can_be(world: ElasticWorld, use: float) -> None:
    await world.begin(autoscaling={**SMALL, "targets": {"kvCacheUse": 0.01, "requestsPerReplica": 0.1}})
    await world.go(5)
    world.engines.running[world.up["chat-0"]].load = EngineLoad(0, 0, use)
    await world.go(30)
    assert len(await world.served()) == (3 if use > 1 else 1)


async def test_many_engines_are_told_to_leave_over_several_passes(world: ElasticWorld) -> None:
    many = GONE_PER_PASS + 10
    await world.begin(many)
    for _ in range(8):
        await world.go(5)
    world.work(1)
    await world.apply_endpoint(0)
    for marked in (GONE_PER_PASS, many):
        await world.controller.step()
        status = (await world.endpoint()).status
        workloads = await world.workloads()
        assert sum(DRAINING in one.metadata.annotations for one in workloads.values()) == marked
    assert len(status.replicas) == many
    world.work(0)
    await world.go(30)
    assert not await world.workloads()


async def test_an_adapter_wakes_its_base_unless_engines_refuse_it(world: ElasticWorld) -> None:
    await world.begin(autoscaling=SLEEPY)
    await world.apply_adapter()
    await world.go(5)

    async def woken_by_adapter() -> tuple[str, ...]:
        routes = (await build_routing_table(world.store)).routes
        return next(route.elastic for route in routes if route.model == FT)

    assert await woken_by_adapter() == ("lab/chat",)
    world.engines.refused.add("/adapters/1")
    world.hold(1)
    await world.go(10)
    assert await world.served() == ["chat-0"]
    assert await woken_by_adapter() == ()
