"""What would happen if a workload were there; nothing of it is written."""

from typing import Any

from common.resources import Metadata, Workload
from common.resources.pool import DeviceRequest
from common.resources.workload import Readiness, Rollout, WorkloadRole, WorkloadSpec
from tests.unit.scheduler.pool_scene import START_MS, PoolScene, devices


def asked(name: str = "new", replicas: int = 1, project: str = "p", **spec: Any) -> Workload:
    request = DeviceRequest(**spec.pop("request", {}))
    role = WorkloadRole(name="main", replicas=replicas, command=["true"], devices=request)
    return Workload(metadata=Metadata(name=name, project=project), spec=WorkloadSpec(roles=[role], **spec))


async def half_full() -> PoolScene:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    await scene.runs("there", "a", 0, 1, 2, 3)
    return scene


async def test_it_says_where_it_would_start_now_and_writes_nothing() -> None:
    scene = await half_full()
    revision = await scene.store.revision()
    answer = await scene.insight.simulate([asked(replicas=2, request={"count": 2})])
    outcome = answer.workloads[0]
    assert (outcome.starts, outcome.eta_ms, outcome.reasons) == ("Now", START_MS, [])
    assert [rank.node for rank in outcome.ranks] == ["a", "a"]
    held = {grant.device for rank in outcome.ranks for grant in rank.grants}
    assert held == {"a/4", "a/5", "a/6", "a/7"}
    assert await scene.store.revision() == revision
    assert [workload.name for workload in await scene.store.list(Workload)] == ["there"]


async def test_it_says_why_it_would_wait_or_never_start() -> None:
    scene = await half_full()
    answer = await scene.insight.simulate(
        [asked(request={"count": 6}, preemptible=False), asked("huge", request={"count": 16})]
    )
    waits, never = answer.workloads
    assert (waits.starts, waits.reasons[0].code) == ("Unknown", "DevicesBusy")
    assert waits.no_eta.startswith("1 of 1 running workloads has no expectedSeconds, and too few like them")
    assert (never.starts, never.reasons[0].code) == ("Never", "DeviceCount")
    assert "at most 8" in never.remedy


async def test_several_are_decided_about_together() -> None:
    scene = await half_full()
    answer = await scene.insight.simulate(
        [asked("one", request={"count": 4}), asked("two", request={"count": 4})]
    )
    assert [outcome.starts for outcome in answer.workloads] == ["Now", "Unknown"]
    assert answer.workloads[1].position == 1


async def test_a_workload_that_is_there_is_replaced_and_its_places_count_as_free() -> None:
    scene = await half_full()
    answer = await scene.insight.simulate([asked("there", request={"count": 8})])
    outcome = answer.workloads[0]
    assert (outcome.starts, outcome.replaces) == ("Now", "Running")


async def test_at_the_head_it_comes_before_those_that_wait_with_its_priority() -> None:
    scene = await half_full()
    await scene.workload("older", request={"count": 4})
    scene.clock.advance(60)
    behind = await scene.insight.simulate([asked(request={"count": 4})])
    first = await scene.insight.simulate([asked(request={"count": 4})], at_head=True)
    assert (behind.workloads[0].starts, first.workloads[0].starts) == ("Unknown", "Now")
    assert behind.delays == []
    assert [(delay.name, delay.after_ms) for delay in first.delays] == [("older", None)]


async def test_independent_replicas_are_told_apart() -> None:
    scene = await half_full()
    group = asked("web", replicas=3, request={"count": 2}, rollout=Rollout(independent=True))
    answer = await scene.insight.simulate([group])
    assert [(outcome.name, outcome.starts) for outcome in answer.workloads] == [
        ("web-main-0", "Now"),
        ("web-main-1", "Now"),
        ("web-main-2", "Unknown"),
    ]


async def test_what_is_suspended_would_not_start() -> None:
    scene = await half_full()
    outcome = (await scene.insight.simulate([asked(suspend=True)])).workloads[0]
    assert (outcome.starts, "suspended" in outcome.no_eta) == ("Unknown", True)


async def test_a_gang_that_waits_to_take_the_place_of_its_own_old_one_may_be_delayed_too() -> None:
    scene = await half_full()
    await scene.runs("short", "a", 4, 5, expected_seconds=600)
    web = asked("web", request={"count": 2, "vendors": ["nvidia"]}, preemptible=False)
    probed = {"ports": ["http"], "readiness": Readiness(port="http")}
    roles = [web.spec.roles[0].model_copy(update=probed)]
    web.spec = web.spec.model_copy(update={"roles": roles, "rollout": Rollout(max_surge=1)})
    stored = (await scene.store.apply(web)).resource
    there = await scene.runs("model", "a", 6, 7)
    await scene.store.delete(Workload, "model", "p")
    stored.status = there.status.model_copy(update={"phase": "Ready", "placed_digest": "of older roles"})
    await scene.store.set_status(stored)
    answer = await scene.insight.simulate(
        [asked("new", request={"count": 2}, expected_seconds=60)], at_head=True
    )
    assert [(delay.name, delay.before_ms, delay.after_ms) for delay in answer.delays] == [
        ("web", START_MS + 600_000, START_MS + 660_000)
    ]
