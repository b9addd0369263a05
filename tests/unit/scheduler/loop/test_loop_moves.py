"""The loop when things that run have to move, shrink, change or make room."""

from typing import Any

import pytest

from common.resources import Workload
from scheduler.core.model.types import Admit, Decision, Migrate, Placement, Preempt, Resize
from scheduler.decisions import Decider
from scheduler.translate.placements import placement_of
from scheduler.translate.views import World
from tests.unit.scheduler.loop_scene import Scene


@pytest.fixture
async def scene() -> Scene:
    scene = await Scene().set_up()
    del scene.fabric.hosts["c"]
    return scene


class Decide:
    """Puts decisions into the next pass, as if the cycle had made them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.next: list[Decision] = []

        carry_out = Decider.carry_out

        def also_mine(
            self_: Decider, decisions: list[Decision], world: World, held: Any, now_ms: int
        ) -> None:
            mine, self.next = self.next, []
            carry_out(self_, [*mine, *decisions], world, held, now_ms)

        monkeypatch.setattr(Decider, "carry_out", also_mine)


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Decide:
    return Decide(monkeypatch)


async def placement(scene: Scene, name: str = "w") -> Placement:
    return placement_of(await scene.get(name))


def at(where: Placement, *places: tuple[str, int]) -> Placement:
    """The first ranks of a placement, each on one device of the node that is named."""
    return tuple(
        rank._replace(
            node=node, shares=(rank.shares[0]._replace(device=f"{node}-nvidia-{index}", index=index),)
        )
        for rank, (node, index) in zip(where, places, strict=False)
    )


# -- preemption


async def test_a_preempted_gang_has_its_grace_and_waits_for_room(scene: Scene, decide: Decide) -> None:
    low = await scene.submit("low", count=2, replicas=2, grace_seconds=30, priority=-10)
    await scene.steps(2)
    scene.fabric.deaf.add(low)
    high = await scene.submit("high", count=2)
    decide.next = [Preempt(low, high, "gives way to high")]
    await scene.steps(3, seconds=1.0)
    status = (await scene.get("low")).status
    assert (status.phase, status.message) == ("Preempting", "gives way to high")
    assert status.leaves_by_ms == scene.clock.now_ms() - 2000 + 30_000
    assert (await scene.get("high")).status.phase == "Pending", "its devices are still in use"
    scene.fabric.deaf.clear()
    for rank in (0, 1):
        scene.fabric.exit(low, rank, 0)
    await scene.steps(3, seconds=1.0)
    assert (await scene.get("high")).status.phase == "Running"
    status = (await scene.get("low")).status
    assert (status.phase, status.restarts, status.preemptions) == ("Pending", 0, 1)
    told = {event.reason: event.message for event in await scene.store.events(kind="Workload", name="low")}
    assert told["Preempting"] == "gives way to high (for high); it has 30 s to end"
    assert told["Preempted"] == "has ended, and waits for a new place: gives way to high"
    last = status.last_preemption
    assert last is not None
    assert (last.by, last.by_uid, last.message) == ("high", high, "gives way to high")
    assert last.nodes == sorted({rank.node for rank in status.ranks})
    scene.fabric.exit(high, 0, 0)
    await scene.steps(4, seconds=1.0)
    status = (await scene.get("low")).status
    assert (status.phase, status.attempt, status.restarts) == ("Running", 2, 0)
    assert {"Preempting", "Preempted"} <= set(await scene.events("low"))


async def test_the_grace_is_that_of_the_workload(scene: Scene, decide: Decide) -> None:
    low = await scene.submit("low", replicas=4, grace_seconds=30)
    await scene.steps(2)
    decide.next = [Preempt(low, "uid-high", "gives way")]
    await scene.steps(2)
    assert set(scene.fabric.graces) == {30.0}


async def test_work_that_was_done_before_it_was_told_to_end_is_not_done_again(
    scene: Scene, decide: Decide
) -> None:
    low = await scene.submit("low", replicas=2)
    await scene.steps(2)
    decide.next = [Preempt(low, "uid-high", "gives way")]
    scene.fabric.refuse_stop = True
    await scene.steps(1)
    for rank in (0, 1):
        scene.fabric.exit(low, rank, 0)
    await scene.steps(2)
    assert (await scene.get("low")).status.phase == "Succeeded"


# -- other ranks, other places


async def test_an_elastic_gang_starts_again_with_the_ranks_that_it_keeps(
    scene: Scene, decide: Decide
) -> None:
    uid = await scene.submit(replicas=4, min_replicas=2)
    await scene.steps(2)
    before = await placement(scene)
    decide.next = [Resize(uid, before[:2], "shrinks for another")]
    await scene.steps(1)
    assert (await scene.get()).status.phase == "Resizing"
    await scene.submit("other", count=2)
    await scene.steps(4)
    status = (await scene.get()).status
    assert (status.phase, len(status.ranks), status.attempt, status.restarts) == ("Running", 2, 2, 0)
    assert {order.world_size for _, order in scene.fabric.started if order.attempt == 2} == {2}
    assert (await scene.get("other")).status.phase == "Running"
    await scene.store.delete(Workload, "other", "p")
    await scene.steps(2)
    decide.next = [Resize(uid, before, "grows")]
    await scene.steps(4)
    status = (await scene.get()).status
    assert (status.phase, len(status.ranks), status.attempt) == ("Running", 4, 3)
    assert scene.used_twice() == []


async def test_the_places_of_a_gang_that_moves_are_kept_for_it(scene: Scene, decide: Decide) -> None:
    uid = await scene.submit()
    await scene.steps(2)
    where = await placement(scene)
    goal = "b" if where[0].node == "a" else "a"
    scene.fabric.deaf.add(uid)
    decide.next = [Migrate(uid, at(where, (goal, 0)), "makes room")]
    await scene.submit("four", replicas=4)
    await scene.steps(3)
    assert (await scene.get()).status.phase == "Migrating"
    await scene.submit("two", replicas=2)
    await scene.steps(2)
    held = {share.device for rank in await placement(scene, "two") for share in rank.shares}
    assert held.isdisjoint({where[0].shares[0].device, f"{goal}-nvidia-0"})
    scene.fabric.deaf.clear()
    scene.fabric.exit(uid, 0, 0)
    await scene.steps(3)
    status = (await scene.get()).status
    assert (status.phase, status.ranks[0].node, status.attempt) == ("Running", goal, 2)
    assert scene.used_twice() == []


async def test_a_server_moves_by_way_of_a_second_one(scene: Scene, decide: Decide) -> None:
    uid = await scene.submit(readiness=True)
    await scene.steps(2)
    scene.fabric.ready(uid)
    await scene.steps(1)
    where = await placement(scene)
    goal = "b" if where[0].node == "a" else "a"
    decide.next = [Migrate(uid, at(where, (goal, 1)), "makes room")]
    await scene.steps(2)
    assert (await scene.get()).status.phase == "Ready"
    assert set(scene.gangs(uid)) == {1, 2}
    scene.fabric.ready(uid)
    await scene.steps(3)
    status = (await scene.get()).status
    assert (status.phase, status.ranks[0].node, set(scene.gangs(uid))) == ("Ready", goal, {2})


async def test_a_server_without_room_for_two_stops_first(scene: Scene, decide: Decide) -> None:
    del scene.fabric.hosts["b"]
    uid = await scene.submit(readiness=True)
    await scene.submit("other")
    await scene.steps(2)
    scene.fabric.ready(uid)
    await scene.steps(1)
    where = await placement(scene)
    decide.next = [Migrate(uid, where, "to the same place, which is all that there is")]
    await scene.steps(3)
    status = (await scene.get()).status
    assert (status.phase, status.attempt) == ("Starting", 2)


async def test_a_move_to_a_place_that_is_taken_is_left(scene: Scene, decide: Decide) -> None:
    first, _ = await scene.submit("first"), await scene.submit("second")
    await scene.steps(2)
    taken = (await placement(scene, "second"))[0]
    decide.next = [Migrate(first, (taken,), "not possible now")]
    await scene.steps(2)
    status = (await scene.get("first")).status
    assert (status.phase, status.attempt, status.next) == ("Running", 1, None)


async def test_two_admissions_to_one_device_are_never_both_carried_out(scene: Scene, decide: Decide) -> None:
    one = await scene.submit("one")
    await scene.steps(2)
    where = await placement(scene, "one")
    await scene.store.delete(Workload, "one", "p")
    await scene.steps(2)
    uids = [await scene.submit(name) for name in ("two", "three")]
    decide.next = [Admit(uid, where) for uid in uids]
    await scene.steps(3)
    assert one not in uids
    assert scene.used_twice() == []
    assert (await scene.get("two")).status.phase == "Running"


async def test_a_planned_place_that_breaks_is_not_used(scene: Scene, decide: Decide) -> None:
    uid = await scene.submit()
    await scene.steps(2)
    where = await placement(scene)
    goal = "b" if where[0].node == "a" else "a"
    scene.fabric.deaf.add(uid)
    decide.next = [Migrate(uid, at(where, (goal, 0)), "makes room")]
    await scene.steps(2)
    scene.fabric.set_device(goal, 0, healthy=False, fault="XID 79")
    scene.fabric.deaf.clear()
    scene.fabric.exit(uid, 0, 0)
    await scene.steps(4)
    status = (await scene.get()).status
    assert (status.phase, status.restarts) == ("Running", 0)
    assert status.ranks[0].grants[0].device != f"{goal}-nvidia-0"
