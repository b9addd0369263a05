"""Many statuses at once: the same tests on memory, SQLite and PostgreSQL."""

from common.errors import Conflict, NotFound
from common.resources import Metadata, Queue
from common.resources.pool import QueueSpec
from common.store.port import StatusWrite, Store
from tests.fixtures.stores import event


async def queue(store: Store, name: str) -> Queue:
    return (await store.apply(Queue(metadata=Metadata(name=name), spec=QueueSpec(max_devices=4)))).resource


async def test_many_statuses_are_written_at_once_and_what_is_refused_holds_up_no_other(store: Store) -> None:
    good, stale, gone, same = [await queue(store, name) for name in ("good", "stale", "gone", "same")]
    await store.apply(Queue(metadata=Metadata(name="stale"), spec=QueueSpec(max_devices=1)))
    await store.delete(Queue, "gone")
    before = await store.revision()
    for one in (good, stale, gone):
        one.status.pending = 7
        one.spec.max_devices = 99
    writes = [StatusWrite(one, (event(f"e-{one.name}", 1),)) for one in (good, stale, gone, same)] + [
        StatusWrite(None, (event("e-alone", 1),))
    ]
    written, refused, missing, unchanged, alone = await store.set_statuses(writes)
    assert isinstance(written, Queue)
    assert (written.status.pending, written.metadata.resource_version) == (7, before + 1)
    assert isinstance(refused, Conflict)
    assert isinstance(missing, NotFound)
    assert isinstance(unchanged, Queue)
    assert (unchanged.metadata.resource_version, alone) == (same.metadata.resource_version, None)
    assert await store.revision() == before + 1
    stored = await store.get(Queue, "good")
    assert (stored.status, stored.spec.max_devices) == (written.status, 4), "a status is not a spec"
    assert (await store.get(Queue, "stale")).status.pending == 0
    assert {one.id for one in await store.events()} == {"e-good", "e-same", "e-alone"}
    [change] = await store.changes(before)
    assert (change.resource.name, change.revision) == ("good", before + 1)


async def test_the_status_after_a_batch_can_be_written_again(store: Store) -> None:
    one = await queue(store, "q")
    for count in range(3):
        one.status.pending = count + 1
        [result] = await store.set_statuses([StatusWrite(one)])
        assert isinstance(result, Queue)
        one = result
    assert (await store.get(Queue, "q")).status.pending == 3
    assert (await store.get(Queue, "q")).metadata.resource_version == one.metadata.resource_version


async def test_whoever_knows_a_change_is_not_told_of_it(store: Store) -> None:
    mine, other = await queue(store, "mine"), await queue(store, "other")
    known = {mine.metadata.resource_version}
    assert [change.resource.name for change in await store.changes(0, known=known)] == ["other"]
    assert [change.resource.name for change in await store.changes(0, known=known, limit=1)] == ["other"]
    assert await store.changes(0, known=known | {other.metadata.resource_version}) == []
