"""Answers about the pool for people: explain, overview and simulate, over what the store says now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from common.clock import Clock
from common.resources import Workload
from common.settings import Settings
from common.store.port import Store
from scheduler.catalogue import load_catalogue
from scheduler.core.model.catalogue import Catalogue
from scheduler.insight.answers import Explanation, Overview, Simulation, TideRow
from scheduler.insight.explain import explain_workload
from scheduler.insight.outlook import Outlook, Rules
from scheduler.insight.overview import node_rows, pool_rows, usual_requests, workload_rows
from scheduler.insight.tides import tide_rows
from scheduler.insight.whatif import simulate
from scheduler.policy import PolicyMaker
from scheduler.serving_need import Need
from scheduler.translate.past_runs import PastRuns
from scheduler.translate.views import read_world

REST = 10.0
"""What took a second to work out is good for so many seconds, so that those who ask leave the scheduler most
of the processor."""

A = TypeVar("A")


class Insight:
    """One question at a time; each is worked out in a thread of its own, and nothing is written."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        catalogue: Catalogue | None = None,
        needs: Mapping[str, Need] | None = None,
    ) -> None:
        """``catalogue``: None = as the settings say, read when it is first needed. ``needs``: of inference,
        as the scheduler's loop has them."""
        self._needs = needs
        self._known_catalogue = catalogue
        self._store = store
        self._settings = settings.scheduler
        self._clock = clock
        self._past_runs = PastRuns(store)
        self._lock = asyncio.Lock()
        self._outlook: Outlook | None = None
        self._revision = -1
        self._good_until_seconds = 0.0

    async def explain(self, name: str, project: str) -> Explanation:
        """Why that workload is where it is. Raises ``NotFound``."""
        workload = await self._store.get(Workload, name, project)
        async with self._lock:
            outlook = await self._current(workload)
            return await self._work_out(lambda: explain_workload(workload, outlook))

    async def overview(
        self,
        sees: Callable[[str], bool],
        *,
        nodes: bool = True,
        queues: bool = True,
        limit: int = 10,
    ) -> Overview:
        """The pool now. ``sees``: whether the workloads of a project may be shown; ``nodes`` and ``queues``:
        whether devices and nodes, and queues, may; ``limit``: at most so many nodes and workloads."""
        async with self._lock:
            outlook = await self._current()
            tides = tide_rows(self._policies, outlook.now_ms) if nodes else None
            return await self._work_out(lambda: _overview(outlook, tides, sees, queues, limit))

    async def simulate(self, workloads: Sequence[Workload], *, at_head: bool = False) -> Simulation:
        """What the next cycle would decide were these workloads there."""
        async with self._lock:
            outlook = await self._current()
            return await self._work_out(lambda: simulate(workloads, outlook, at_head=at_head))

    @cached_property
    def _catalogue(self) -> Catalogue:
        if self._known_catalogue is not None:
            return self._known_catalogue
        file = self._settings.catalogue_file
        return load_catalogue(Path(file) if file else None)

    @cached_property
    def _policies(self) -> PolicyMaker:
        return PolicyMaker(self._settings.policy, self._needs)

    async def _current(self, about: Workload | None = None) -> Outlook:
        """The outlook in use, or a new one when the store, or ``about``, has changed since."""
        revision, known = await self._store.revision(), self._outlook
        now_ms, now_seconds = self._clock.now_ms(), self._clock.monotonic_seconds()
        if known is not None and (about is None or _knows(known, about)):
            same_moment = revision == self._revision and now_ms == known.now_ms
            if same_moment or now_seconds < self._good_until_seconds:
                return known
        world, history = await read_world(self._store), await self._past_runs.read()
        self._revision = revision
        grace_seconds = self._settings.stop_grace_seconds
        rules = Rules(self._policies.at(now_ms), self._catalogue, grace_seconds, history)
        self._outlook = Outlook(world, rules, now_ms)
        self._good_until_seconds = now_seconds
        return self._outlook

    async def _work_out(self, answer: Callable[[], A]) -> A:
        began = self._clock.monotonic_seconds()
        result = await asyncio.to_thread(answer)
        ended = self._clock.monotonic_seconds()
        self._good_until_seconds = max(self._good_until_seconds, ended + REST * (ended - began))
        return result


def _knows(outlook: Outlook, workload: Workload) -> bool:
    """Whether the outlook has the workload as it is now."""
    known = outlook.world.workloads.get(workload.metadata.uid)
    return known is not None and known.metadata.resource_version == workload.metadata.resource_version


def _overview(
    outlook: Outlook, tides: list[TideRow] | None, sees: Callable[[str], bool], queues: bool, limit: int
) -> Overview:
    """``tides``: None where nodes may not be seen."""
    world, snapshot = outlook.world, outlook.snapshot
    answer = Overview(at_ms=outlook.now_ms)
    if tides is not None:
        answer.tides = tides
        requests = usual_requests(snapshot.pending, snapshot.running)
        answer.pool = pool_rows(snapshot.pool, world.nodes)
        answer.nodes, answer.totals = node_rows(snapshot.pool, world.nodes, requests, limit)
    if queues:
        answer.queues = list(outlook.queues.values())
    mine = [view for view in snapshot.running if sees(view.workload.project)]
    answer.workloads = workload_rows(mine, outlook)[:limit]
    return answer
