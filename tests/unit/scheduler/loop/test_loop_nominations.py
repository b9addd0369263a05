"""What was cleared for a workload stays its own from pass to pass, and over a restart of control."""

import pytest

from common.resources import Metadata, Queue, Workload
from common.resources.pool import DeviceQuota, QueueSpec
from common.resources.workload import RestartPolicy
from tests.unit.scheduler.loop_scene import Scene


@pytest.fixture
async def scene() -> Scene:
    """The guest runs on all that the owner lent it, and the owner asks for it."""
    scene = await Scene().set_up()
    del scene.fabric.hosts["c"]
    await scene.store.apply(Queue(metadata=Metadata(name="team"), spec=QueueSpec(cohort=True)))
    for name, devices in (("owner", 4), ("guest", 0)):
        quota = DeviceQuota(device_class="*", nominal_devices=devices)
        spec = QueueSpec(parent="team", quotas=[quota])
        await scene.store.apply(Queue(metadata=Metadata(name=name), spec=spec))
    guest = await scene.submit("borrower", count=2, replicas=2, queue="guest", grace_seconds=30)
    await scene.steps(2)
    await scene.steps(1, seconds=400)
    scene.fabric.deaf.add(guest)
    await scene.submit("mine", count=2, replicas=2, queue="owner")
    await scene.steps(2, seconds=1)
    assert (await scene.get("borrower")).status.phase == "Preempting"
    return scene


async def leave(scene: Scene) -> None:
    """The guest ends."""
    uid = (await scene.get("borrower")).metadata.uid
    scene.fabric.deaf.clear()
    for rank in (0, 1):
        scene.fabric.exit(uid, rank, 0)


async def test_it_is_told_where_and_starts_there_although_the_other_is_older(scene: Scene) -> None:
    nomination = (await scene.get("mine")).status.nominated
    assert nomination is not None
    assert [rank.node for rank in nomination.ranks] == ["a", "b"]
    await leave(scene)
    await scene.steps(4, seconds=1)
    status = (await scene.get("mine")).status
    assert (status.phase, status.nominated) == ("Running", None)


async def test_a_restart_of_control_forgets_nothing(scene: Scene) -> None:
    scene.loop = scene.new_loop()
    await leave(scene)
    await scene.steps(4, seconds=1)
    assert (await scene.get("mine")).status.phase == "Running"
    assert (await scene.get("borrower")).status.preemptions == 1


async def test_who_changes_what_it_asks_for_gives_it_up(scene: Scene) -> None:
    mine = await scene.get("mine")
    spec = mine.spec.model_copy(update={"suspend": True})
    await scene.store.apply(mine.model_copy(update={"spec": spec}))
    await scene.steps(1, seconds=1)
    assert (await scene.get("mine")).status.nominated is None
    await leave(scene)
    await scene.steps(4, seconds=1)
    assert (await scene.get("borrower")).status.phase == "Running"


async def test_who_has_a_device_break_among_its_places_does_not_start_there(scene: Scene) -> None:
    scene.fabric.set_device("a", 0, healthy=False, fault="XID 79")
    await leave(scene)
    await scene.steps(4, seconds=1)
    status = (await scene.get("mine")).status
    assert (status.phase, status.nominated) == ("Pending", None)


async def test_it_waits_on_where_the_one_who_leaves_is_deleted_before_its_processes_have_ended(
    scene: Scene,
) -> None:
    borrower = await scene.get("borrower")
    await scene.store.delete(Workload, "borrower", "p")
    await scene.steps(3, seconds=1)
    assert (await scene.get("mine")).status.nominated is not None
    scene.fabric.deaf.clear()
    for rank in (0, 1):
        scene.fabric.exit(borrower.metadata.uid, rank, 0)
    await scene.steps(4, seconds=1)
    assert (await scene.get("mine")).status.phase == "Running"


async def test_who_waits_for_its_restart_gives_its_places_back_too() -> None:
    """Else the claimant would be told so in every pass, and others be stopped for it in vain."""
    scene = await Scene().set_up()
    del scene.fabric.hosts["c"]
    restart = RestartPolicy(backoff_seconds=60)
    low = await scene.submit("low", count=2, replicas=2, min_replicas=1, priority=-1, restart=restart)
    await scene.steps(2)
    for rank in (0, 1):
        scene.fabric.exit(low, rank, 1)
    await scene.steps(2, seconds=1)
    assert (await scene.get("low")).status.phase == "Restarting"
    await scene.submit("high", count=2, replicas=2)
    await scene.steps(4, seconds=1)
    assert (await scene.get("high")).status.phase == "Running"
    status = (await scene.get("low")).status
    assert (status.phase, status.preemptions, status.restarts) == ("Pending", 1, 1)
