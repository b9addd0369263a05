"""What becomes of orders with time: notices before they end, quota while they hold, their closing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from billing.core.order_notices import notices_of
from billing.store.orders import Orders, Placed
from common.clock import Clock
from common.loop import LoopHealth, run_passes
from common.resources import Queue, Tenant
from common.resources.pool import OrderedQuota
from common.store.kept import KeptList
from common.store.port import Event, StatusWrite, Store
from common.store.transitions import event_of

LOOK_SECONDS = 15.0
"""Between two looks; an order has its quota within as much."""


class OrderWatch:
    """Looks at all orders that are not over."""

    def __init__(self, store: Store, orders: Orders, clock: Clock) -> None:
        self._store, self._orders, self._clock = store, orders, clock
        self._tenants, self._queues = KeptList(store, Tenant), KeptList(store, Queue)
        self._told: set[str] = set()

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Until ``stop`` is set."""
        await run_passes(
            "orders", self.step, self._store, stop, lambda: LOOK_SECONDS, health, rests=True, kinds=[]
        )

    async def step(self) -> None:
        """Tell, grant and close."""
        found = await self._orders.not_over()
        now_ms = self._clock.now_ms()
        tenants = {one.metadata.uid: one for one in await self._tenants.now()} if found else {}
        events = [event for one in found for event in _events(one, tenants, now_ms)]
        fresh = [event for event in events if event.id not in self._told]
        if fresh:
            await self._store.record(*fresh)
        self._told = {event.id for event in events}
        await self._grant(found, now_ms)
        if found:
            await self._orders.close()

    async def _grant(self, found: Sequence[Placed], now_ms: int) -> None:
        """Let each queue have what is ordered for it now, and no more."""
        granted = quotas_at(found, now_ms)
        writes = []
        for queue in await self._queues.now():
            wanted = [
                OrderedQuota(device_class=device_class, devices_millis=millis)
                for device_class, millis in sorted(granted.get(queue.name, {}).items())
            ]
            if wanted != queue.status.ordered:
                changed = queue.copy_deep()
                changed.status.ordered = wanted
                writes.append(StatusWrite(changed))
        if writes:
            await self._store.set_statuses(writes)


def quotas_at(found: Sequence[Placed], at_ms: int) -> Mapping[str, Mapping[str, int]]:
    """Thousandths of devices that orders have in force, by queue and class."""
    granted: dict[str, dict[str, int]] = {}
    for placed in found:
        order, terms = placed.order, placed.order.allotment
        if order.queue and not placed.cancelled and terms.from_ms <= at_ms < terms.until_ms:
            of_queue = granted.setdefault(order.queue, {})
            millis = order.product.devices_millis * order.pieces
            of_queue[terms.device_class] = of_queue.get(terms.device_class, 0) + millis
    return granted


def _events(placed: Placed, tenants: Mapping[str, Tenant], now_ms: int) -> Iterator[Event]:
    tenant = tenants.get(placed.order.tenant_uid)
    if tenant is None or placed.cancelled:
        return
    for notice in notices_of(placed.order.allotment, placed.taken, now_ms):
        level = "warning" if notice.warns else "info"
        at_ms = notice.at_ms or now_ms
        yield event_of(tenant, level, notice.reason, notice.message, at_ms, placed.order.id, notice.name)
