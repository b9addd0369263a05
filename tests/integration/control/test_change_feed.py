"""Many watches, one reader: each change reaches whom it concerns, and costs the store one look."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from common.errors import TooManyRequests
from common.resources import Metadata, Queue, Tenant
from common.store.memory import MemoryStore
from common.store.ownership import Viewer
from common.store.port import Change
from control.change_feed import ChangeFeed, Watch

pytestmark = pytest.mark.integration
KINDS = ("Tenant", "Queue")


class CountingStore(MemoryStore):
    """Counts looks at the history."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    async def changes(self, since: int, **options: Any) -> Sequence[Change]:
        self.looks += 1
        return await super().changes(since, **options)


async def seen_by(feed: ChangeFeed, watch: Watch, count: int, viewer: Viewer | None = None) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        told, watch.since = await feed.after(watch.since, KINDS, viewer)
        found += [one.change.revision for one in told]
        if len(found) < count:
            await feed.wait(watch, 5, asyncio.Event())
    return found


async def test_a_hundred_watches_read_each_change_once() -> None:
    store = CountingStore()
    feed = ChangeFeed(store, 100)
    watches = [feed.open("uid-1", 0) for _ in range(100)]
    reading = [asyncio.create_task(seen_by(feed, watch, 20)) for watch in watches]
    await asyncio.sleep(0)
    for number in range(20):
        await store.apply(Tenant(metadata=Metadata(name=f"t{number}")))
    async with asyncio.timeout(10):
        assert await asyncio.gather(*reading) == [list(range(1, 21))] * 100
    before = store.looks
    for number in range(5):
        await store.apply(Queue(metadata=Metadata(name=f"q{number}")))
    async with asyncio.timeout(10):
        assert await asyncio.gather(*(seen_by(feed, w, 5) for w in watches)) == [list(range(21, 26))] * 100
    assert store.looks - before <= 5
    for watch in watches:
        feed.close(watch)


async def test_a_watch_is_not_woken_for_what_others_do() -> None:
    store = MemoryStore()
    for name in ("acme", "globex"):
        await store.apply(Tenant(metadata=Metadata(name=name)))
    mine = Viewer((await store.get(Tenant, "acme")).metadata.uid)
    feed = ChangeFeed(store, 1)
    watch = feed.open("uid-1", 2)
    watch.wants = lambda change: mine.sees(change.owner)
    reading = asyncio.create_task(seen_by(feed, watch, 1, mine))
    await asyncio.sleep(0.05)
    for number in range(10):
        await store.apply(Tenant(metadata=Metadata(name="globex", labels={"n": str(number)})))
    await asyncio.sleep(0.1)
    assert not reading.done()
    assert watch.since == 12, "what is not for it is passed over"
    await store.apply(Tenant(metadata=Metadata(name="acme", labels={"n": "1"})))
    async with asyncio.timeout(5):
        assert await reading == [13]
    feed.close(watch)


async def test_a_watch_from_long_ago_reads_the_store_and_then_joins() -> None:
    store = MemoryStore()
    for number in range(1200):
        await store.apply(Tenant(metadata=Metadata(name=f"t{number}")))
    feed = ChangeFeed(store, 1)
    watch = feed.open("uid-1", 0)
    reading = asyncio.create_task(seen_by(feed, watch, 1201))
    await asyncio.sleep(0.05)
    await store.apply(Queue(metadata=Metadata(name="q")))
    async with asyncio.timeout(10):
        assert await reading == list(range(1, 1202))
    feed.close(watch)


async def test_watches_from_long_ago_read_the_store_one_after_the_other() -> None:
    class Watched(MemoryStore):
        reading = most = widest = 0

        async def changes(self, since: int, **options: Any) -> Sequence[Change]:
            self.reading += 1
            self.most = max(self.most, self.reading)
            await asyncio.sleep(0.001)
            found = await super().changes(since, **options)
            self.widest = max(self.widest, len(found))
            self.reading -= 1
            return found

    store = Watched()
    for number in range(300):
        await store.apply(Tenant(metadata=Metadata(name=f"t{number}")))
    feed = ChangeFeed(store, 20)
    await asyncio.sleep(0)
    watches = [feed.open("uid-1", 0) for _ in range(20)]
    async with asyncio.timeout(30):
        assert await asyncio.gather(*(seen_by(feed, w, 300) for w in watches)) == [list(range(1, 301))] * 20
    assert store.most <= 2, "one of them, and the reader of what is new"
    assert store.widest <= 50
    for watch in watches:
        feed.close(watch)


async def test_a_key_has_so_many_watches_and_no_more() -> None:
    feed = ChangeFeed(MemoryStore(), 2)
    first, second = feed.open("uid-1", 0), feed.open("uid-1", 0)
    other = feed.open("uid-2", 0)
    with pytest.raises(TooManyRequests) as refused:
        feed.open("uid-1", 0)
    assert refused.value.code == "too_many_watches"
    feed.close(first)
    feed.close(first)
    third = feed.open("uid-1", 0)
    for watch in (second, other, third):
        feed.close(watch)
