"""What only the control process that leads has: the loops. They are made when it is elected, so that nothing
in them is older than that."""

from __future__ import annotations

from batches.controller import BatchController
from billing.rejected import rejected_usage
from billing.store.orders import Orders
from common.store.batch_lines import BatchLines
from control.budget_watch import BudgetWatch
from control.context import ControlContext
from control.installation_key import keep_installation_key
from control.order_watch import OrderWatch
from control.planning.auto_mode import AutoMode
from control.price_events import PriceWatch
from control.runaway_watch import RunawayWatch
from control.stops.budget_stops import BudgetStops
from control.stops.pause_stops import PauseStops
from control.stops.work_stops import WorkStops
from finetune.adapters.blobs import LocalBlobs
from finetune.files.dataset import DatasetChecks
from finetune.jobs.controller import FineTuneController
from inference.adapters.engine import VllmEngines
from inference.autoscaling.autoscaler import Autoscaler
from inference.canary.judging import CanaryJudge
from inference.controller import EndpointController
from jobs.controller import JobController
from scheduler.loop import SchedulerLoop
from scheduler.ports import Fabric
from scheduler.serving_need import ServingNeed
from scheduler.translate.collector import set_world_apart


class Leader:
    """The parts from which the loops are made. ``context`` has those that the API shares with them."""

    def __init__(
        self,
        context: ControlContext,
        fabric: Fabric,
        engines: VllmEngines,
        blobs: LocalBlobs,
        checks: DatasetChecks,
        need: ServingNeed,
        autoscaler: Autoscaler,
        canaries: CanaryJudge,
        batch_lines: BatchLines,
    ) -> None:
        self._context = context
        self._fabric = fabric
        self._engines = engines
        self._blobs = blobs
        self._checks = checks
        self._need = need
        self._autoscaler = autoscaler
        self._canaries = canaries
        self._batch_lines = batch_lines
        self.scheduler: SchedulerLoop | None = None

    async def begin(self, epoch: int) -> None:
        """Lead under this epoch: nodes are told, and all loops run. Raises ``ComputilityError`` where what
        they begin with cannot be read."""
        context, loops = self._context, self._context.loops
        store, settings, clock = context.store, context.settings, context.clock
        await self._fabric.lead(epoch)
        await keep_installation_key(context)
        if context.tuning is not None:
            await context.tuning.files.tidy()
        await self._need.restore()
        rejected = rejected_usage(settings)
        stops = WorkStops(clock, PauseStops(store), BudgetStops(store, context.ledger.budgets, clock))
        self.scheduler = SchedulerLoop(
            store, self._fabric, context.ledger, settings, clock, self._need.needs, rejected, stops
        )
        auto_mode = AutoMode(store, context.planner, context.traffic, clock, self._autoscaler)
        tuning = FineTuneController(store, context.ledger, self._blobs, settings, clock, self._checks)
        if self._need.has_rules:
            loops.add("serving-need", self._need.run)
        loops.add("scheduler", self.scheduler.run)
        loops.add("autoscaler", self._autoscaler.run)
        loops.add("canaries", self._canaries.run)
        loops.add("endpoints", EndpointController(store, self._engines, settings, clock, context.memory).run)
        loops.add("auto-mode", auto_mode.run)
        loops.add("finetunes", tuning.run)
        loops.add("prices", PriceWatch(store, clock).run)
        loops.add("budgets", BudgetWatch(store, context.ledger.budgets, clock).run)
        loops.add("orders", OrderWatch(store, Orders(context.ledger.database, clock), clock).run)
        loops.add("runaway", RunawayWatch(store, context.ledger, clock).run)
        if context.reconciler is not None:
            loops.add("reconciliation", context.reconciler.run)
        if context.tuning is not None:
            batches = BatchController(
                store, context.ledger, context.tuning.files, self._batch_lines, settings, clock
            )
            loops.add("batches", batches.run)
            loops.add("jobs", JobController(store, context.tuning.files, settings, clock).run)
        set_world_apart()
        loops.start()
