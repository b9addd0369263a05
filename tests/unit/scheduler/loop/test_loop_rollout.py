"""The loop when a spec changes: gangs are replaced, replicas roll one by one, budgets are counted."""

import pytest

from common.resources import Queue, Workload
from common.resources.meta import Metadata
from common.resources.pool import DeviceBudget, QueueSpec
from common.resources.workload import Rollout
from tests.fixtures.fabric import accelerator
from tests.unit.scheduler.loop_scene import Scene

SURGE = Rollout(max_surge=1, max_unavailable=0)


@pytest.fixture
async def scene() -> Scene:
    scene = await Scene().set_up()
    del scene.fabric.hosts["c"]
    return scene


async def change_command(scene: Scene, command: str = "900", name: str = "w") -> None:
    workload = await scene.get(name)
    workload.spec.roles[0].command = ["sleep", command]
    await scene.store.apply(workload)


# -- changes of what runs


async def test_a_server_is_replaced_by_one_that_is_ready(scene: Scene) -> None:
    uid = await scene.submit(readiness=True, rollout=SURGE)
    await scene.steps(2)
    scene.fabric.ready(uid)
    await scene.steps(1)
    await change_command(scene)
    await scene.steps(3)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, set(scene.gangs(uid))) == ("Ready", 1, {1, 2})
    assert status.next is not None
    assert scene.used_twice() == []
    scene.fabric.ready(uid)
    await scene.steps(3)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, status.next, set(scene.gangs(uid))) == ("Ready", 2, None, {2})
    assert "TookOver" in await scene.events()
    await scene.steps(3)
    assert (await scene.get()).status.attempt == 2


async def test_a_new_version_that_fails_leaves_the_old_one_running(scene: Scene) -> None:
    uid = await scene.submit(readiness=True, rollout=SURGE)
    await scene.steps(2)
    scene.fabric.ready(uid)
    await change_command(scene)
    await scene.steps(2)
    scene.fabric.exit(uid, 0, 1, attempt=2)
    await scene.steps(1)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, status.next) == ("Ready", 1, None)
    assert status.message.startswith("the new gang failed: rank 0 (main)")
    await scene.steps(3, seconds=1.0)
    assert set(scene.gangs(uid)) == {1, 2}, "it is tried again after the back-off"


async def test_the_new_one_takes_over_at_once_when_the_old_one_breaks(scene: Scene) -> None:
    uid = await scene.submit(readiness=True, rollout=SURGE)
    await scene.steps(2)
    scene.fabric.ready(uid)
    await change_command(scene)
    await scene.steps(2)
    scene.fabric.exit(uid, 0, 9, attempt=1)
    await scene.steps(2)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, status.restarts) == ("Starting", 2, 0)


async def test_without_room_a_change_waits_or_stops_first_as_the_rollout_says(scene: Scene) -> None:
    del scene.fabric.hosts["b"]
    careful = await scene.submit("careful", readiness=True, rollout=SURGE)
    brave = await scene.submit(
        "brave", readiness=True, rollout=Rollout(max_surge=1, max_unavailable=1), priority=-1
    )
    await scene.steps(2)
    for uid in (careful, brave):
        scene.fabric.ready(uid)
    await scene.steps(1)
    await change_command(scene, name="brave")
    await scene.steps(4)
    assert (await scene.get("brave")).status.attempt == 2
    await change_command(scene, name="careful")
    await scene.steps(4)
    status = (await scene.get("careful")).status
    assert (status.phase, status.attempt, bool(status.pending)) == ("Ready", 1, True)


async def test_control_dies_between_any_two_steps_of_a_change(scene: Scene) -> None:
    uid = await scene.submit(readiness=True, rollout=SURGE)
    await scene.steps(2)
    scene.fabric.ready(uid)
    await change_command(scene)
    for _ in range(6):
        scene.loop = scene.new_loop()
        await scene.steps(1)
        assert scene.used_twice() == []
        assert len(scene.gangs(uid)) <= 2
        scene.fabric.ready(uid)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, set(scene.gangs(uid))) == ("Ready", 2, {2})


# -- independent replicas


async def replicas_of(scene: Scene, name: str = "w") -> dict[str, Workload]:
    found = await scene.store.list(Workload)
    return {w.name: w for w in found if w.metadata.owner is not None and w.metadata.owner.name == name}


async def ready_all(scene: Scene) -> None:
    for workload in (await replicas_of(scene)).values():
        scene.fabric.ready(workload.metadata.uid)


@pytest.mark.parametrize(
    ("rollout", "least"),
    [
        (Rollout(independent=True, max_surge=1, max_unavailable=0), 3),
        (Rollout(independent=True, max_surge=0, max_unavailable=1), 2),
        (Rollout(independent=True, max_surge=1, max_unavailable=1), 2),
    ],
)
async def test_replicas_roll_and_enough_of_them_are_ready(scene: Scene, rollout: Rollout, least: int) -> None:
    scene.fabric.hosts["a"].devices = tuple(accelerator("a", index) for index in range(4))
    await scene.submit(replicas=3, readiness=True, rollout=rollout)
    for _ in range(3):
        await scene.steps(1)
        await ready_all(scene)
    await scene.steps(2)
    group = (await scene.get()).status
    assert (group.phase, len(group.ranks), group.message) == ("Ready", 3, "3 of 3 replicas are ready")
    await change_command(scene)
    lowest = 3
    for _ in range(40):
        await scene.steps(1, seconds=0.1)
        children = await replicas_of(scene)
        assert all(child.spec.rollout in (Rollout(), SURGE) for child in children.values())
        lowest = min(lowest, sum(child.status.phase == "Ready" for child in children.values()))
        assert scene.used_twice() == []
        await ready_all(scene)
    assert lowest == least
    commands = {child.spec.roles[0].command[1] for child in (await replicas_of(scene)).values()}
    running = {
        order.ranks[0].command[1]
        for node, order in scene.fabric.started
        if (node, order.uid, order.attempt) in scene.fabric.alive()
    }
    assert (commands, running) == ({"900"}, {"900"})
    assert (await scene.get()).status.phase == "Ready"


async def test_replicas_follow_their_group(scene: Scene) -> None:
    await scene.submit(replicas=2, rollout=Rollout(independent=True))
    await scene.steps(3)
    assert sorted(await replicas_of(scene)) == ["w-main-0", "w-main-1"]
    assert (await scene.get()).status.phase == "Running"
    group = await scene.get()
    group.spec.roles[0].replicas, group.spec.priority = 3, 5
    await scene.store.apply(group)
    await scene.steps(3)
    children = await replicas_of(scene)
    assert {child.spec.priority for child in children.values()} == {5}
    assert [child.status.attempt for child in children.values()] == [1, 1, 1], "nothing was restarted"
    group = await scene.get()
    group.spec.roles[0].replicas = 1
    await scene.store.apply(group)
    await scene.steps(3)
    assert sorted(await replicas_of(scene)) == ["w-main-0"]
    await scene.store.delete(Workload, "w", "p")
    await scene.steps(3)
    assert (await scene.store.list(Workload), scene.fabric.alive()) == ([], [])


async def test_a_quiet_pass_over_a_group_writes_nothing(scene: Scene) -> None:
    await scene.submit(replicas=6, readiness=True, rollout=Rollout(independent=True))
    for _ in range(4):
        await scene.steps(1)
        await ready_all(scene)
    await scene.steps(2)
    group = (await scene.get()).status
    assert (group.message, bool(group.pending)) == ("4 of 6 replicas are ready", True)
    revision = await scene.store.revision()
    await scene.steps(4)
    assert await scene.store.revision() == revision


async def test_a_name_that_another_workload_has_is_said(scene: Scene) -> None:
    await scene.submit("w-main-1")
    await scene.submit(replicas=2, rollout=Rollout(independent=True))
    await scene.steps(2)
    status = (await scene.get()).status
    assert (status.pending[0].code, len(status.ranks)) == ("NameTaken", 1)


# -- device time


async def test_device_time_is_counted_per_queue_and_a_spent_budget_admits_nothing(scene: Scene) -> None:
    budget = DeviceBudget(device_class="nvidia", device_hours=1.0, period="day")
    await scene.store.apply(Queue(metadata=Metadata(name="default"), spec=QueueSpec(budgets=[budget])))
    await scene.submit("first", count=2)
    await scene.steps(2)
    for _ in range(20):
        await scene.steps(1, seconds=100.0)
    await scene.submit("second")
    await scene.steps(2)
    queue = (await scene.store.get(Queue, "default")).status
    used = {use.device_class: use.day_seconds for use in queue.used}
    assert used["nvidia/H100"] == pytest.approx(4000, abs=400)
    status = (await scene.get("second")).status
    assert (status.phase, status.pending[0].code) == ("Pending", "BudgetSpent")
    assert (await scene.get("first")).status.phase == "Running"
    scene.loop = scene.new_loop()
    await scene.steps(2)
    assert (await scene.get("second")).status.pending[0].code == "BudgetSpent", (
        "known to the next control too"
    )


async def test_a_new_version_that_is_in_the_way_of_somebody_more_important_is_dropped(scene: Scene) -> None:
    """What serves goes on, and the change waits for room."""
    uid = await scene.submit(readiness=True, rollout=SURGE)
    await scene.steps(2)
    scene.fabric.ready(uid)
    await scene.submit("beside", priority=10)
    await scene.steps(1, seconds=700)
    await change_command(scene)
    await scene.steps(2)
    serves = (await scene.get()).status
    assert serves.next is not None
    assert serves.next.ranks[0].node != serves.ranks[0].node
    urgent = await scene.submit("urgent", count=2, priority=10)
    await scene.steps(3, seconds=10)
    status = (await scene.get()).status
    assert (status.phase, status.attempt, status.next, set(scene.gangs(uid))) == ("Ready", 1, None, {1})
    assert (await scene.get("urgent")).status.phase == "Running"
    assert scene.gangs(urgent) == {1: {serves.next.ranks[0].node}}
    assert "SuccessorPreempted" in await scene.events()
