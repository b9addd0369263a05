"""What is to be looked at, and when: each key once, by one worker at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from zlib import crc32

K = TypeVar("K", bound=Hashable)
FIRST_SECONDS = 0.5
LONGEST_SECONDS = 60.0


class WorkQueue(Generic[K]):
    """Keys that are due now or later. A key that comes while it is worked on is due again afterwards.

    ``now`` gives seconds that only differences of matter. ``group_of`` says whose a key is: of those who have
    keys that are due each has its turn, however many keys another one has.
    """

    def __init__(self, now: Callable[[], float], group_of: Callable[[K], Hashable] = lambda _: None) -> None:
        self._now, self._group_of = now, group_of
        self._ready: dict[Hashable, list[tuple[float, int, K]]] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._worked: set[K] = set()
        self._again: dict[K, float] = {}
        self._pressed: set[K] = set()
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due) + len(self._worked)

    def add(self, key: K, after_seconds: float = 0.0, *, is_patient: bool = False) -> None:
        """Due after so long, unless it is due earlier already. ``is_patient``: what failed keeps its pause;
        for news that its own failing may have made."""
        due = self._now() + after_seconds
        if key in self._worked:
            self._again[key] = min(due, self._again.get(key, due))
            if not is_patient:
                self._pressed.add(key)
            return
        if is_patient and key in self._failures and key in self._due:
            return
        self._put(key, due)

    def _put(self, key: K, due: float) -> None:
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._count += 1
            heapq.heappush(self._heap, (due, self._count, key))
            self._changed.set()

    def take_due(self) -> K | None:
        """The next key that is due; None when none is. It is worked on until ``done``."""
        while self._heap and self._heap[0][0] <= self._now():
            entry = heapq.heappop(self._heap)
            heapq.heappush(self._ready.setdefault(self._group_of(entry[2]), []), entry)
        for group in list(self._ready):
            waiting = self._ready.pop(group)
            key = self._first_of(waiting)
            if waiting:
                self._ready[group] = waiting  # behind the others
            if key is not None:
                del self._due[key]
                self._worked.add(key)
                return key
        return None

    def _first_of(self, waiting: list[tuple[float, int, K]]) -> K | None:
        """Taken out; entries of keys that are due at another time by now go with it."""
        while waiting:
            due, _, key = heapq.heappop(waiting)
            if self._due.get(key) == due:
                return key
        return None

    async def take(self) -> K:
        """Wait for a key that is due."""
        while True:
            key = self.take_due()
            if key is not None:
                return key
            self._changed.clear()
            wait = self._heap[0][0] - self._now() if self._heap else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: K, *, failed: bool = False) -> None:
        """Worked on. Who failed is due again by itself, after a pause that doubles up to a minute."""
        self._worked.discard(key)
        again, is_pressed = self._again.pop(key, None), key in self._pressed
        self._pressed.discard(key)
        if failed:
            self._failures[key] = self._failures.pop(key, 0) + 1  # the latest stands last
            self._put(key, self._now() + pause_seconds(self._failures[key], key))
            if is_pressed:
                self._put(key, self._now() + FIRST_SECONDS)
        else:
            self._failures.pop(key, None)
            if again is not None:
                self._put(key, max(again, self._now()))

    def hurry(self, most: int | None = None) -> None:
        """What failed is due now, as what kept it from success may be gone: all of it, or so many that were
        tried longest ago."""
        for key in list(self._failures)[:most]:
            self.add(key)


def pause_seconds(failures: int, key: Hashable) -> float:
    """Longer after each failure; a little different for each key, so that not all come at once."""
    pause = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 10))
    return float(pause * (0.75 + crc32(repr(key).encode()) % 1000 / 2000))
