"""Price books tell when they begin, end, and are replaced; once each, whoever leads meanwhile."""

from common.clock import VirtualClock, rfc3339
from common.resources import Metadata, Price
from common.resources.money import PriceItem, PriceSpec
from common.store.memory import MemoryStore
from control.price_events import LOOK_BACK_MS, PriceWatch

HOUR_MS = 3_600_000


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.begin_ms = self.clock.now_ms()
        self.watch = PriceWatch(self.store, self.clock)

    async def book(self, name: str, begin: int, end: int | None = None, tenant: str | None = None) -> None:
        """``begin`` and ``end`` in hours."""
        spec = PriceSpec(
            effective_from=rfc3339(self.begin_ms + begin * HOUR_MS),
            effective_until=None if end is None else rfc3339(self.begin_ms + end * HOUR_MS),
            tenant=tenant,
            items=[PriceItem(meter="prompt_tokens", microcredits_per_million=1)],
        )
        await self.store.apply(Price(metadata=Metadata(name=name), spec=spec))

    async def told(self) -> list[tuple[str, str]]:
        found = await self.store.events(kind="Price", limit=100)
        return [(event.name, event.reason) for event in found if event.reason != "Created"]


async def test_a_book_tells_when_it_begins_is_replaced_and_ends() -> None:
    scene = Scene()
    await scene.book("one", 0)
    await scene.book("two", 1, 2)
    await scene.book("own", 1, tenant="acme")
    await scene.watch.step()
    assert await scene.told() == [("one", "Begun")]
    assert scene.watch.tick_seconds() == 60
    scene.clock.advance(3590)
    await scene.watch.step()
    assert scene.watch.tick_seconds() == 10
    scene.clock.advance(10)
    await scene.watch.step()
    assert sorted(await scene.told()) == sorted(
        [("one", "Begun"), ("one", "Replaced"), ("two", "Begun"), ("own", "Begun")]
    )
    scene.clock.advance(3600)
    await scene.watch.step()
    assert (await scene.told())[-1] == ("two", "Ended")


async def test_each_is_told_once_also_by_the_next_process() -> None:
    scene = Scene()
    await scene.book("one", 0, 1)
    scene.clock.advance(3600)
    for watch in (scene.watch, scene.watch, PriceWatch(scene.store, scene.clock)):
        await watch.step()
    assert await scene.told() == [("one", "Begun"), ("one", "Ended")]


async def test_what_is_long_over_is_not_told() -> None:
    scene = Scene()
    await scene.book("one", 0, 1)
    scene.clock.advance((LOOK_BACK_MS + 2 * HOUR_MS) / 1000)
    await scene.watch.step()
    assert await scene.told() == []


async def test_a_book_that_never_is_in_force_tells_nothing_and_replaces_none() -> None:
    scene = Scene()
    await scene.book("one", 0)
    await scene.book("void", 1, 1)
    scene.clock.advance(7200)
    await scene.watch.step()
    assert await scene.told() == [("one", "Begun")]
