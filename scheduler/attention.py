"""Which workloads a pass looks at: those of which something has changed, and those that time may change."""

from __future__ import annotations

import math
from collections.abc import Iterable

from common.clock import Clock
from common.loop import in_turns
from common.resources import Workload
from scheduler.gangs import is_wanted
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.observed import Moved, Observed

SWEEP_SECONDS = 3600.0
"""Within this time everything is looked at once, changed or not: nothing is forgotten for good."""
QUIET: frozenset[str] = frozenset(("Pending", "Running", "Ready", "Suspended", "Succeeded", "Failed"))
"""Phases that time alone does not end."""


class Attention:
    """Remembers who is to be looked at again although nothing about it has changed."""

    def __init__(self, world: KeptWorld, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._changed = world.reader()
        self._busy: set[str] = set()
        self._rest: list[str] = []
        self._swept_seconds = clock.monotonic_seconds()
        self._owed = 0.0

    def look(self, moved: Moved, aside: Iterable[str]) -> set[str]:
        """The uids of this pass, of workloads that are gone too. ``aside``: what is set aside."""
        on_node = self._world.standings.on_node
        uids = self._busy | self._changed.take_workloads() | moved.uids | set(self._sweep())
        uids.update(uid for uid in aside if uid in self._world.workloads)
        for name in moved.places | self._changed.take_nodes():
            uids |= on_node.get(name, set())
        self._busy = uids
        return uids

    async def settle(self, observed: Observed) -> None:
        """Leave alone, until something changes, those of the pass who have come to rest."""
        self._busy = {uid async for uid in in_turns(self._busy) if not is_at_rest(uid, self._world, observed)}

    @property
    def is_busy(self) -> bool:
        """Whether somebody is looked at again in the next pass."""
        return bool(self._busy)

    def _sweep(self) -> list[str]:
        """Some of all, in turns."""
        now = self._clock.monotonic_seconds()
        self._owed += len(self._world.workloads) * (now - self._swept_seconds) / SWEEP_SECONDS
        self._swept_seconds = now
        count = math.floor(self._owed)
        self._owed -= count
        if not self._rest:
            self._rest = list(self._world.workloads)
        swept = self._rest[-count:] if count else []
        del self._rest[len(self._rest) - len(swept) :]
        return swept


def is_at_rest(uid: str, world: KeptWorld, observed: Observed) -> bool:
    """Whether nothing becomes of it until it, or a node that it is on, changes."""
    workload: Workload | None = world.workloads.get(uid)
    if workload is None:
        return not observed.gangs_of(uid)
    status = workload.status
    timed = status.next is not None or (status.next_start_ms is not None and status.phase != "Pending")
    if timed or status.phase not in QUIET:
        return False
    return all(is_wanted(gang, node.name, world) for node, gang in observed.gangs_of(uid))
