"""A queue's status that could not be written is written as soon as it can be; others wait for nothing."""

from collections.abc import Sequence
from typing import Any

import pytest

from common.errors import NotFound, Unavailable
from common.resources import Metadata, Queue
from common.resources.pool import QueueSpec
from scheduler import queues
from tests.unit.scheduler.loop_scene import Scene
from tests.unit.scheduler.poison import BAD


@pytest.mark.parametrize("error", [Unavailable("the disk is full"), NotFound("gone")])
async def test_a_status_that_is_not_written_is_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await Scene().set_up()
    for name in (BAD, "fine"):
        await scene.store.apply(Queue(metadata=Metadata(name=name), spec=QueueSpec()))
        await scene.submit(f"of-{name}", queue=name)
    write_all, broken = queues.write_all, True

    async def write(store: Any, writes: Sequence[Any]) -> list[Any]:
        wanted = [one for one in writes if not broken or one.resource.name != BAD]
        done = iter(await write_all(store, wanted))
        return [next(done) if one in wanted else error for one in writes]

    monkeypatch.setattr(queues, "write_all", write)
    await scene.steps(2)
    bad, fine = [(await scene.store.get(Queue, name)).status for name in (BAD, "fine")]
    assert (bad.running, fine.running) == (0, 1)
    broken = False
    await scene.steps(3, seconds=5)
    status = (await scene.store.get(Queue, BAD)).status
    assert (status.running, status.devices_in_use) == (1, 1)
    before = await scene.store.revision()
    await scene.steps(2)
    assert await scene.store.revision() == before
