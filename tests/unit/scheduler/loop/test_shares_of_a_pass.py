"""One pass does a bounded part of what is due, for all alike, and posts many at once."""

from collections import Counter
from collections.abc import Sequence

import pytest

from billing.core.events import UsageEvent
from common.resources import Workload
from common.resources.workload import Rollout
from scheduler import replicas
from tests.fixtures.fabric import UsageLog
from tests.unit.scheduler.loop_scene import Scene

ALONE = Rollout(independent=True)


async def made(scene: Scene) -> Counter[str]:
    """Replicas by group."""
    return Counter(one.metadata.owner.name for one in await scene.store.list(Workload) if one.metadata.owner)


@pytest.fixture
async def few(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Ten replicas in a pass, four of one group."""
    monkeypatch.setattr(replicas, "MOST_PER_PASS", 10)
    monkeypatch.setattr(replicas, "MOST_PER_GROUP", 4)
    return await Scene().set_up()


async def test_no_more_replicas_are_made_in_a_pass_than_may_be_and_all_in_the_end(few: Scene) -> None:
    for name in "abc":
        await few.submit(name, replicas=7, rollout=ALONE)
    totals, before = [], Counter[str]()
    for _ in range(4):
        await few.steps()
        now = await made(few)
        totals.append(now.total())
        assert max((now - before).values(), default=0) <= 4
        before = now
    assert totals == [10, 20, 21, 21]


async def test_no_more_replicas_are_deleted_in_a_pass_than_may_be_and_all_in_the_end(few: Scene) -> None:
    for name in "abc":
        await few.submit(name, replicas=7, rollout=ALONE)
    await few.steps(4)
    for name in "abc":
        await few.store.delete(Workload, name, "p")
    totals = []
    for _ in range(4):
        await few.steps()
        totals.append((await made(few)).total())
    assert totals == [11, 1, 0, 0]


class CountedPosts(UsageLog):
    def __init__(self) -> None:
        super().__init__()
        self.posts: list[int] = []

    async def post(self, events: Sequence[UsageEvent]) -> object:
        self.posts.append(len(events))
        return await super().post(events)


async def test_device_time_of_many_gangs_is_posted_at_once_and_nothing_where_none_is_due() -> None:
    scene = Scene()
    usage = scene.usage = CountedPosts()
    scene.loop = scene.new_loop()
    await scene.set_up()
    for name in "abc":
        await scene.submit(name)
    await scene.steps(2)
    await scene.steps(1, seconds=59.5)
    assert usage.posts == []
    await scene.steps(1, seconds=0.5)
    assert usage.posts == [3]
    await scene.steps(2, seconds=10)
    assert usage.posts == [3]
    await scene.steps(1, seconds=40)
    assert usage.posts == [3, 3]
    assert scene.usage.device_seconds() == 3 * 120
