"""Events of price books: one when it begins, and one when it ends or another one takes its place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from common.clock import Clock, rfc3339
from common.loop import LoopHealth, run_passes
from common.resources import Price
from common.store.kept import KeptList
from common.store.port import Event, Store
from common.store.transitions import event_of
from control.admission.prices import begin_ms, end_ms

LOOK_BACK_MS = 24 * 3_600_000
"""What happened so long ago, while no control process was there, is still told. The store keeps the same
event once."""
MOST_SECONDS = 60.0
"""Between two looks; clocks may be set meanwhile."""


class PriceWatch:
    """Looks at the books when one changes, and when the next of them begins or ends."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._prices = KeptList(store, Price)
        self._told: set[str] = set()
        self._next_ms: int | None = None

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Until ``stop`` is set."""
        await run_passes(
            "prices", self.step, self._store, stop, self.tick_seconds, health, rests=True, kinds=["Price"]
        )

    def tick_seconds(self) -> float:
        """Until the next book begins or ends, a minute at most."""
        if self._next_ms is None:
            return MOST_SECONDS
        return min(MOST_SECONDS, max(0.0, (self._next_ms - self._clock.now_ms()) / 1000))

    async def step(self) -> None:
        """Record what has happened since the last look, or within ``LOOK_BACK_MS`` before the first."""
        now_ms = self._clock.now_ms()
        found = list(turns_of(await self._prices.now()))
        past = [event for event in found if now_ms - LOOK_BACK_MS < event.time_ms <= now_ms]
        fresh = [event for event in past if event.id not in self._told]
        if fresh:
            await self._store.record(*fresh)
        self._told = {event.id for event in past}
        self._next_ms = min((event.time_ms for event in found if event.time_ms > now_ms), default=None)


def turns_of(prices: Sequence[Price]) -> Iterator[Event]:
    """All events that these books have had and will have, as they are now. Of several books for the same
    tenants the one that began last counts, of those the last by name, as where usage is rated."""
    by_tenant: dict[str | None, list[Price]] = {}
    for price in sorted(prices, key=lambda one: (begin_ms(one), one.name)):
        by_tenant.setdefault(price.spec.tenant, []).append(price)
    for books in by_tenant.values():
        for place, price in enumerate(books):
            yield from _of_book(price, books[place + 1 :])


def _of_book(price: Price, later: Sequence[Price]) -> Iterator[Event]:
    begins, ends = begin_ms(price), end_ms(price)
    whom = f"tenant {price.spec.tenant}" if price.spec.tenant else "all tenants"
    if ends is None or ends > begins:
        yield event_of(price, "info", "Begun", f"is in force for {whom}", begins, begins)
    successor = next((one for one in later if begin_ms(one) > begins and _lasts(one)), None)
    if successor is not None and (ends is None or begin_ms(successor) < ends):
        at_ms = begin_ms(successor)
        yield event_of(price, "info", "Replaced", f"{successor.name} is in force in its place", at_ms, at_ms)
    if ends is not None and ends > begins:
        message = f"ended; what is used from {rfc3339(ends)} on is rated by other books, or has no price"
        yield event_of(price, "info", "Ended", message, ends, ends)


def _lasts(price: Price) -> bool:
    ends = end_ms(price)
    return ends is None or ends > begin_ms(price)
