"""The parts of the control process that its HTTP API works with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from billing.store import Ledger
from billing.store.searches import Searches
from common.clock import SYSTEM_CLOCK, Clock
from common.leadership.elector import Elector
from common.resources import Endpoint, Workload
from common.settings import Settings
from common.store.kept import KeptList, owned_workloads
from common.store.port import Store
from control.admission.access import DirectoryCache
from control.audit import AuditTrail
from control.change_feed import ChangeFeed
from control.loops import Loops
from control.planning.plan import Planner
from control.planning.served_traffic import ServedTraffic
from control.reconciling.loop import Reconciler
from finetune.api.service import FineTuneService
from inference.autoscaling.autoscaler import Autoscaler
from inference.canary.judging import CanaryJudge
from inference.device_table import DeviceTable
from inference.engine_memory import EngineMemory
from inference.routes import RoutingTables
from inference.two_legs.board import ThresholdBoard
from scheduler.insight.insight import Insight
from scheduler.ports import Fabric
from scheduler.serving_need import ServingNeed

Drain = Callable[[float, bool], Awaitable[list[str]]]
"""Stops all gangs, waits at most so many seconds, then ends the agents if told to; returns the uids of the
gangs that still run."""


@dataclass
class ControlContext:
    """Without ``fabric`` there are no logs, without ``tuning`` no ``/v1/files`` and ``/v1/fine_tuning``, and
    without ``drain`` nothing to drain: as in tests, or where the API is served alone. ``ending`` is set when
    the process begins to end: whoever waits is answered then. Without ``need`` tides follow the calendar;
    without ``autoscaler`` nobody hears what gateways have waiting, without ``canaries`` what they have
    counted; without ``elector`` this process leads; without ``reconciler`` engines' counts are not judged.
    """

    store: Store
    ledger: Ledger
    settings: Settings
    clock: Clock = SYSTEM_CLOCK
    fabric: Fabric | None = None
    tuning: FineTuneService | None = None
    drain: Drain | None = None
    need: ServingNeed | None = None
    autoscaler: Autoscaler | None = None
    canaries: CanaryJudge | None = None
    elector: Elector | None = None
    reconciler: Reconciler | None = None
    traffic: ServedTraffic = field(default_factory=ServedTraffic)
    loops: Loops = field(default_factory=Loops)
    write_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    directories: DirectoryCache = field(init=False)
    engines: KeptList[Workload] = field(init=False)
    feed: ChangeFeed = field(init=False)
    audit: AuditTrail = field(init=False)
    insight: Insight = field(init=False)
    routes: RoutingTables = field(init=False)
    planner: Planner = field(init=False)
    memory: EngineMemory = field(init=False)
    work_searches: Searches = field(init=False)
    thresholds: ThresholdBoard = field(init=False)

    def __post_init__(self) -> None:
        self.directories = DirectoryCache(self.store)
        self.engines = owned_workloads(self.store, Endpoint.__name__)
        self.work_searches = Searches(self.clock)
        self.feed = ChangeFeed(self.store, self.settings.control.max_watches_per_key)
        self.audit = AuditTrail(self.store, self.clock)
        self.routes = RoutingTables(self.store)
        needs = self.need.needs if self.need else None
        self.insight = Insight(self.store, self.settings, self.clock, needs=needs)
        self.thresholds = ThresholdBoard(self.clock)
        self.planner = Planner(self.store, self.settings, self.clock)
        self.memory = EngineMemory(DeviceTable(self.store, self.clock), self.planner.config_of, self.clock)

    async def wait_for_change(self, revision: int, timeout_seconds: float, kinds: Sequence[str]) -> bool:
        """Whether the store went beyond ``revision`` in time, by a change of one of these kinds as far as is
        known; False at once when the process ends."""
        change = asyncio.ensure_future(self.store.wait(revision, timeout_seconds, kinds))
        end = asyncio.create_task(self.ending.wait())
        try:
            await asyncio.wait((change, end), return_when=asyncio.FIRST_COMPLETED)
            return change.done() and change.result() > revision
        finally:
            change.cancel()
            end.cancel()
