"""One reader of the store's history for all who watch: however many they are, each change is read once."""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import Gauge

from common.errors import TooManyRequests
from common.loop import sort_of
from common.store.ownership import Viewer
from common.store.port import Change, Store
from common.telemetry import get_logger
from common.units import MIB
from control.admission.access import document_of

PAGE = 500
"""Changes that a watch takes at once of those kept here."""
BATCH = 50
"""Changes that are read from the store at once: each of them is parsed, which holds up the process."""
REST = 3
"""So many times as long as it took to read a page, nobody reads the next one."""
KEPT_CHANGES = 2000
KEPT_BYTES = 16 * MIB
GATHER_SECONDS = 0.02
"""Changes of so long are given out together."""
POLL_SECONDS = 10.0
RETRY_SECONDS = 1.0

WATCHES = Gauge("computility_control_watches", "Streams of changes that are open")
_log = get_logger("control.watch")


@dataclass(frozen=True)
class Told:
    """A change, and the line that tells it."""

    change: Change
    line: str


@dataclass(eq=False)
class Watch:
    """One stream: what it has seen up to, and what it wants to be woken for."""

    key: str
    since: int
    wants: Callable[[Change], bool] = lambda _: True
    is_idle: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class ChangeFeed:
    """Keeps the latest changes in memory while somebody watches, and wakes those whom a change concerns."""

    def __init__(self, store: Store, most_per_key: int) -> None:
        self._store = store
        self._most_per_key = most_per_key
        self._watches: set[Watch] = set()
        self._per_key: Counter[str] = Counter()
        self._recent: list[Told] = []
        self._recent_bytes = 0
        self._floor: int | None = None
        self.end = 0
        self._reader: asyncio.Task[None] | None = None
        self._backlog = asyncio.Lock()

    @property
    def open_watches(self) -> int:
        """How many there are now, of all keys."""
        return len(self._watches)

    def open(self, key: str, since: int) -> Watch:
        """A new watch of an API key (its uid). Raises ``TooManyRequests`` when it has as many as it may."""
        if self._per_key[key] >= self._most_per_key:
            raise TooManyRequests(
                f"this key has {self._most_per_key} watches open already; end one, or ask for more in one",
                code="too_many_watches",
            )
        watch = Watch(key, since)
        self._watches.add(watch)
        self._per_key[key] += 1
        WATCHES.set(len(self._watches))
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        return watch

    def close(self, watch: Watch) -> None:
        """End a watch; again is no error."""
        if watch not in self._watches:
            return
        self._watches.remove(watch)
        WATCHES.set(len(self._watches))
        self._per_key[watch.key] -= 1
        if not self._per_key[watch.key]:
            del self._per_key[watch.key]
        if not self._watches and self._reader is not None:
            self._reader.cancel()
            self._reader = None
            self._forget(None)

    async def after(self, since: int, kinds: Sequence[str], viewer: Viewer | None) -> tuple[list[Told], int]:
        """What the viewer may see of the next changes after ``since``, and up to where that is all of it.

        What is older than all that is kept here is read from the store by one watch after the other, a
        quarter of the time at most: however many begin long ago, they hold up nobody else.

        Raises ``Conflict`` (``gone``) when the store does not know any more.
        """
        if self._floor is not None and since >= self._floor:
            start = bisect_right(self._recent, since, key=lambda told: told.change.revision)
            page = self._recent[start : start + PAGE]
            upto = page[-1].change.revision if start + PAGE < len(self._recent) else self.end
            return [told for told in page if _shown(told.change, kinds, viewer)], max(since, upto)
        clock = asyncio.get_running_loop().time
        async with self._backlog:
            began = clock()
            told, upto = await self._stored_after(since, kinds, viewer)
            await asyncio.sleep(REST * (clock() - began))
        return told, upto

    async def _stored_after(
        self, since: int, kinds: Sequence[str], viewer: Viewer | None
    ) -> tuple[list[Told], int]:
        """As ``after``, from the store."""
        revision = await self._store.revision()
        changes = await self._store.changes(since, kinds=kinds, limit=BATCH, viewer=viewer)
        last = changes[-1].revision if changes else since
        upto = last if len(changes) == BATCH else max(since, revision, last)
        return [Told(change, _line(change)) for change in changes], upto

    async def wait(self, watch: Watch, timeout_seconds: float, ending: asyncio.Event) -> None:
        """Return when something has come that the watch wants, after a timeout, or when the process ends."""
        if ending.is_set() or (self._floor is not None and watch.since < self.end):
            return
        watch.woken.clear()
        watch.is_idle = True
        events = [asyncio.ensure_future(event.wait()) for event in (watch.woken, ending)]
        try:
            await asyncio.wait(events, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.is_idle = False
            for event in events:
                event.cancel()

    async def _read(self) -> None:
        while True:
            try:
                if self._floor is None:
                    self._forget(await self._store.revision())
                    self._wake_all()
                revision = await self._store.wait(self.end, POLL_SECONDS)
                if revision > self.end:
                    self._take(await self._store.changes(self.end, limit=BATCH), revision)
            except Exception as error:  # noqa: BLE001 - the loop's boundary: the watches read for themselves
                _log.warning("changes cannot be read", error=sort_of(error))
                self._forget(None)
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)

    def _take(self, changes: Sequence[Change], revision: int) -> None:
        for change in changes:
            line = _line(change)
            self._recent.append(Told(change, line))
            self._recent_bytes += len(line)
        last = changes[-1].revision if changes else revision
        self.end = last if len(changes) == BATCH else max(revision, last)
        self._drop_oldest()
        for watch in self._watches:
            if watch.is_idle and any(watch.wants(change) for change in changes):
                watch.woken.set()
            elif watch.is_idle and not watch.woken.is_set():
                watch.since = max(watch.since, self.end)

    def _drop_oldest(self) -> None:
        count = 0
        while len(self._recent) - count > KEPT_CHANGES or self._recent_bytes > KEPT_BYTES:
            self._recent_bytes -= len(self._recent[count].line)
            count += 1
        if count:
            self._floor = self._recent[count - 1].change.revision
            del self._recent[:count]

    def _forget(self, floor: int | None) -> None:
        """Begin anew after revision ``floor``; None = nothing is known now."""
        self._recent = []
        self._recent_bytes = 0
        self._floor, self.end = floor, floor or 0

    def _wake_all(self) -> None:
        for watch in self._watches:
            watch.woken.set()


def _shown(change: Change, kinds: Sequence[str], viewer: Viewer | None) -> bool:
    return change.resource.kind in kinds and (viewer is None or viewer.sees(change.owner))


def _line(change: Change) -> str:
    content = {"type": change.type, "revision": change.revision, "resource": document_of(change.resource)}
    return json.dumps(content) + "\n"
