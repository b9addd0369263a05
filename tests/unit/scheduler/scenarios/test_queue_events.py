"""A queue tells when its quota holds somebody back and when others take what it holds: at most once a minute
for each, and without names of workloads."""

from typing import Any

import pytest

from common.clock import VirtualClock
from common.errors import DATABASE_UNAVAILABLE, Unavailable
from common.guard import Guard
from common.resources import Metadata, Queue, Workload
from common.resources.pool import QueueSpec
from common.store.memory import MemoryStore
from scheduler.core.model.types import Defer
from scheduler.queue_events import QueueNews
from scheduler.translate.kept_world import WorldKeeper
from tests.unit.scheduler.loop_scene import Scene

TOLD = ("QuotaReached", "BudgetSpent", "Reclaimed", "Preempted")


@pytest.fixture
async def scene() -> Scene:
    return await Scene().set_up()


async def make(scene: Scene, name: str, **spec: Any) -> None:
    await scene.store.apply(Queue(metadata=Metadata(name=name), spec=QueueSpec.model_validate(spec)))


async def told(scene: Scene, queue: str) -> list[tuple[str, str]]:
    found = await scene.store.events(kind="Queue", name=queue, limit=100)
    return [(event.reason, event.message) for event in found if event.reason in TOLD]


async def test_a_limit_that_holds_somebody_back_is_told_once(scene: Scene) -> None:
    await make(scene, "q", max_devices=1)
    for name in ("a", "b", "c"):
        await scene.submit(name, queue="q")
    await scene.steps(3)
    [(reason, message)] = await told(scene, "q")
    assert reason == "QuotaReached"
    assert message.startswith("2 workloads wait; the first: waits for queue q: needs 1 device, ")
    await scene.steps(3, 100)
    assert len(await told(scene, "q")) == 1, "it is not told again while it goes on"


async def test_what_comes_again_is_told_after_a_minute(scene: Scene) -> None:
    await make(scene, "q", max_devices=1)
    await scene.submit("a", queue="q")
    await scene.submit("b", queue="q")
    await scene.steps(2)
    await scene.store.delete(Workload, "b", "p")
    await scene.steps(2)
    await scene.submit("c", queue="q")
    await scene.steps(2)
    assert len(await told(scene, "q")) == 1
    await scene.steps(2, 60)
    assert len(await told(scene, "q")) == 2


async def test_what_never_fits_does_not_reach_the_quota(scene: Scene) -> None:
    await make(scene, "q", max_devices=1)
    await scene.submit("a", queue="q", count=2)
    await scene.steps(2)
    assert await told(scene, "q") == []


async def lend(scene: Scene, **spec: Any) -> None:
    """Queue ``a`` borrows all that ``b`` has; then ``b`` wants two devices back."""
    quotas = [{"deviceClass": "*", "nominalDevices": 2}]
    await make(scene, "all", cohort=True)
    await make(scene, "a", parent="all", quotas=quotas)
    await make(scene, "b", parent="all", quotas=quotas)
    for number in range(4):
        await scene.submit(f"w{number}", queue="a")
    await scene.steps(3)
    await scene.steps(1, 600)
    await scene.submit("mine", queue="b", replicas=2, **spec)
    await scene.steps(3)


async def test_what_is_taken_back_is_told_to_the_queue_that_borrowed(scene: Scene) -> None:
    await lend(scene)
    losses = [one for one in await told(scene, "a") if one[0] != "QuotaReached"]
    assert losses == [
        ("Reclaimed", "2 workloads give up 2 devices to queue b, which takes back what was borrowed")
    ]
    assert not [one for one in await told(scene, "b") if one[0] in ("Reclaimed", "Preempted")]


async def test_what_is_taken_by_priority_is_told_as_that(scene: Scene) -> None:
    await lend(scene, priority=9)
    losses = [one for one in await told(scene, "a") if one[0] != "QuotaReached"]
    assert losses == [
        ("Preempted", "2 workloads give up 2 devices to queue b, which has more important workloads")
    ]


async def test_what_cannot_be_written_is_told_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(scene, "q", max_devices=1)
    await scene.submit("a", queue="q")
    await scene.submit("b", queue="q")
    record, down = scene.store.record, True

    async def fail(*events: Any) -> None:
        if down:
            raise Unavailable("away", DATABASE_UNAVAILABLE)
        await record(*events)

    monkeypatch.setattr(scene.store, "record", fail)
    with pytest.raises(Unavailable):
        await scene.steps(2)
    assert await told(scene, "q") == []
    down = False
    await scene.steps(2)
    assert [reason for reason, _ in await told(scene, "q")] == ["QuotaReached"]


async def test_a_decision_that_cannot_be_told_ends_no_pass() -> None:
    clock = VirtualClock()
    store, guard = MemoryStore(clock), Guard("scheduler", clock)
    news, world = QueueNews(store, clock, guard), WorldKeeper(store).world
    news.look([Defer("uid", (), "")], world)
    assert guard.fault_of(("news",)) is not None
    news.look([], world)
    assert guard.fault_of(("news",)) is None
    await news.tell(world)
