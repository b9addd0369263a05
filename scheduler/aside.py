"""What the scheduler cannot handle is set aside and says why; all else goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from common.clock import Clock
from common.guard import HANDLED, Fault, Guard, mark_handled
from common.resources import Workload
from common.resources.workload import PendingReason
from scheduler.journal import Journal
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.views import World

STEP_PAUSE_SECONDS = 30.0
"""The longest pause before a step of a workload is tried again: its gang is not looked after meanwhile."""
ADVANCE = "advance"
"""The step that takes a workload's status to where its gang is."""
PLACE = "place"
"""The step in which a cycle decides about a workload."""
SET_ASIDE = "SetAside"
"""Code of the pending reason of a workload that cannot be placed because something about it fails."""


def is_set_aside(workload: Workload) -> bool:
    """Whether cycles go on without it for now."""
    handled = workload.status.condition(HANDLED)
    return handled is not None and handled.status == "False"


class SchedulerGuard:
    """The guard of the scheduler's loop. What is set aside is told by the condition ``Handled``, and, of a
    workload that waits, by its pending reason."""

    def __init__(self, journal: Journal, clock: Clock, items: Guard) -> None:
        self.items = items
        self._journal = journal
        self._clock = clock

    def step(self, name: str, workload: Workload, world: World, work: Callable[[], object]) -> None:
        """Do one step for a workload, unless this step of it is set aside."""
        key, generation = (name, workload.metadata.uid), workload.metadata.generation
        if self.items.may_try(key, generation, STEP_PAUSE_SECONDS):
            with self.items.item("Workload", key, generation) as tried:
                work()
            if tried.fault is not None:
                self.tell(workload, tried.fault, world)

    async def long_step(
        self, name: str, workload: Workload, world: World, work: Callable[[], Awaitable[object]]
    ) -> None:
        """The same of a step that others have to answer."""
        key, generation = (name, workload.metadata.uid), workload.metadata.generation
        if self.items.may_try(key, generation, STEP_PAUSE_SECONDS):
            with self.items.item("Workload", key, generation) as tried:
                await work()
            if tried.fault is not None:
                self.tell(workload, tried.fault, world)

    def set_aside(self, name: str, workload: Workload, error: Exception, world: World) -> None:
        """Note what a step of the workload raised."""
        key = (name, workload.metadata.uid)
        fault = self.items.failed("Workload", key, workload.metadata.generation, error)
        if fault is not None:
            self.tell(workload, fault, world)

    def tell(self, workload: Workload, fault: Fault, world: World) -> None:
        """Write down why a workload is set aside. Where that fails too, the next try does it."""
        uid = workload.metadata.uid
        with self.items.item("Workload", ("tell", uid)):
            now = world.workloads.get(uid, workload)
            status = now.status.model_copy(deep=True)
            mark_handled(status, fault, self._clock.now_ms(), now.metadata.generation)
            if status.phase == "Pending":
                message = f"it is set aside and tried again later: {fault.message}"
                status.pending = [PendingReason(code=SET_ASIDE, message=message)]
                status.message = message
            self._journal.write(now, status, world)

    def may_place(self, workload: Workload) -> bool:
        """Whether a cycle may decide about it: not where it could not be followed then."""
        if not self.items.all_aside():
            return True
        uid, generation = workload.metadata.uid, workload.metadata.generation
        return self.items.may_try((PLACE, uid), generation) and self.items.fault_of((ADVANCE, uid)) is None

    def resting(self, world: World) -> set[str]:
        """Workloads, by uid, that cycles go on without for now."""
        keys = [key for key in self.items.all_aside() if isinstance(key, tuple) and key[0] == PLACE]
        return {
            uid
            for _, uid in keys
            if uid in world.workloads
            and not self.items.may_try((PLACE, uid), world.workloads[uid].metadata.generation)
        }

    def after_cycle(self, world: World, resting: set[str], culprits: Mapping[str, Exception]) -> None:
        """Set aside what broke the cycle; what took part in it and did not is in order."""
        for key in [key for key in self.items.all_aside() if isinstance(key, tuple) and key[0] == PLACE]:
            if key[1] not in resting and key[1] not in culprits:
                self.items.handled(key)
        for uid, error in culprits.items():
            if uid in world.workloads:
                self.set_aside(PLACE, world.workloads[uid], error, world)

    def note_views(self, kind: str, faults: Mapping[tuple[str, str], Exception]) -> None:
        """Which nodes or queues cannot be looked at; they say so when they are written next."""
        for key in [key for key in self.items.all_aside() if isinstance(key, tuple) and key[0] == kind]:
            if key not in faults:
                self.items.handled(key)
        for key, error in faults.items():
            if key[0] == kind:
                self.items.failed(kind, key, 0, error)

    def may_break(self, faults: Iterable[tuple[str, str]]) -> bool:
        """Whether something that broke a cycle, or a queue that could not be looked at, is to be tried
        again."""
        broke = any(isinstance(key, tuple) and key[0] == PLACE for key in self.items.all_aside())
        return broke or any(kind == "Queue" for kind, _ in faults)

    def settle(self, world: KeptWorld) -> None:
        """Say of workloads that are in order again that they are."""
        self.items.forget_gone()
        if not world.standings.unhandled:
            return
        aside = self.aside()
        for uid in world.standings.unhandled - aside:
            workload = world.workloads[uid]
            with self.items.item("Workload", ("settle", uid)):
                status = workload.status.model_copy(deep=True)
                mark_handled(status, None, self._clock.now_ms(), workload.metadata.generation)
                self._journal.write(workload, status, world)

    def aside(self) -> set[str]:
        """The uids (and other names) of all that is set aside."""
        return {str(key[1]) for key in self.items.all_aside() if isinstance(key, tuple)}
