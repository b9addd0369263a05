"""Orders tell before they end, and raise the quota of their queue while they hold."""

from typing import cast

import pytest

from billing.core.allotments import Taken
from billing.core.products import DAY_MS, Order, Product, ShelfPrice
from billing.store.orders import Orders, Placed
from common.clock import VirtualClock
from common.resources import Metadata, Queue, Tenant
from common.resources.pool import DeviceQuota, OrderedQuota, QueueSpec, QueueStatus
from common.store.memory import MemoryStore
from control.order_watch import OrderWatch
from scheduler.translate.ordered_quota import quotas_in_force
from scheduler.translate.views import queue_view

HALF = Product(
    "half", "device_seconds", 30, (ShelfPrice(0, 1),), device_class="nvidia/H100", devices_millis=500
)
PACK = Product("pack", "tokens", 30, (ShelfPrice(0, 1),), amount=100)


class Held:
    """The orders that are not over."""

    def __init__(self) -> None:
        self.orders: list[Placed] = []
        self.closed = 0

    async def not_over(self) -> list[Placed]:
        return self.orders

    async def close(self) -> list[Placed]:
        self.closed += 1
        return []


class Scene:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.held = Held()
        self.watch = self.another()

    def another(self) -> OrderWatch:
        return OrderWatch(self.store, cast(Orders, self.held), self.clock)

    async def tenant(self) -> str:
        return (await self.store.apply(Tenant(metadata=Metadata(name="acme")))).resource.metadata.uid

    def order(self, product: Product, uid: str = "uid", pieces: int = 1) -> Placed:
        at_ms = self.clock.now_ms()
        queue, id_ = "acme" if product.devices_millis else "", f"po-{len(self.held.orders)}"
        order = Order(id_, "acme", uid, product, pieces, at_ms, at_ms, queue=queue)
        self.held.orders.append(Placed(order, Taken()))
        return self.held.orders[-1]

    async def told(self) -> list[str]:
        return sorted(event.reason for event in await self.store.events(kind="Tenant", limit=100))


async def test_each_notice_is_told_once_also_by_the_next_process() -> None:
    scene = Scene()
    placed = scene.order(PACK, await scene.tenant())
    await scene.watch.step()
    assert await scene.told() == []
    scene.held.orders = [Placed(placed.order, Taken(80))]
    for days, reasons in (
        (0, ["OrderNearlyUsed"]),
        (24, ["OrderEndsSoon", "OrderNearlyUsed"]),
        (5.5, ["OrderEndsSoon", "OrderEndsSoon", "OrderNearlyUsed"]),
        (1, ["OrderEnded", "OrderEndsSoon", "OrderEndsSoon", "OrderNearlyUsed"]),
    ):
        scene.clock.advance(days * DAY_MS / 1000)
        await scene.watch.step()
        await scene.another().step()
        assert await scene.told() == reasons
    assert scene.held.closed == 9


async def test_who_had_the_name_before_is_told_nothing() -> None:
    scene = Scene()
    await scene.tenant()
    placed = scene.order(PACK, "uid-of-a-namesake")
    scene.held.orders = [Placed(placed.order, Taken(100))]
    await scene.watch.step()
    assert await scene.told() == []


async def test_a_queue_has_what_is_ordered_as_long_as_it_holds() -> None:
    scene = Scene()
    await scene.store.apply(Queue(metadata=Metadata(name="acme")))
    scene.order(HALF, pieces=3)
    scene.order(HALF)
    await scene.watch.step()
    assert await ordered(scene) == [("nvidia/H100", 2000)]
    revision = await scene.store.revision()
    await scene.another().step()
    assert await scene.store.revision() == revision
    first = scene.held.orders[0]
    scene.held.orders[0] = Placed(first.order, Taken(), scene.clock.now_ms(), cancelled=True)
    await scene.watch.step()
    assert await ordered(scene) == [("nvidia/H100", 500)]
    await scene.store.apply(Queue(metadata=Metadata(name="acme"), spec=QueueSpec(weight=3)))
    assert await ordered(scene) == [("nvidia/H100", 500)], "applying the queue again takes nothing away"
    scene.clock.advance(30 * DAY_MS / 1000)
    await scene.watch.step()
    assert await ordered(scene) == []


async def ordered(scene: Scene) -> list[tuple[str, int]]:
    [queue] = await scene.store.list(Queue)
    return [(one.device_class, one.devices_millis) for one in queue.status.ordered]


@pytest.mark.parametrize(
    ("own", "in_force"),
    [
        ([], [("nvidia/H100", 500)]),
        ([("amd", 2)], [("amd", 2000), ("nvidia/H100", 500)]),
        ([("*", 4)], [("*", 4500)]),
        ([("*", 4), ("nvidia", 2)], [("*", 4500), ("nvidia", 2500)]),
        ([("nvidia/h100", 1.5), ("nvidia/A100", 1)], [("nvidia/h100", 2000), ("nvidia/A100", 1000)]),
    ],
)
def test_quotas_that_the_devices_count_in_are_raised(
    own: list[tuple[str, float]], in_force: list[tuple[str, int]]
) -> None:
    quotas = [DeviceQuota(device_class=name, nominal_devices=devices) for name, devices in own]
    status = QueueStatus(ordered=[OrderedQuota(device_class="nvidia/H100", devices_millis=500)])
    queue = Queue(metadata=Metadata(name="acme"), spec=QueueSpec(quotas=quotas), status=status)
    view = queue_view(queue, {}, 0)
    assert [(quota.device_class, quota.nominal_millis) for quota in view.quotas] == in_force
    assert [quota.nominal_devices for quota in queue.spec.quotas] == [devices for _, devices in own]
    assert len(quotas_in_force(queue)) == len(in_force)
