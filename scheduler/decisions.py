"""A cycle's decisions become statuses: each placement is written before anything starts or stops for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Literal

from common.resources import Workload
from common.settings import Settings
from common.telemetry import get_logger
from scheduler.aside import SchedulerGuard
from scheduler.core.lifecycle.lifecycle import BACKING_OFF, PLACED, Note
from scheduler.core.model.types import Admit, Decision, Defer, Migrate, Placement, Preempt, Resize
from scheduler.gangs import grace_seconds
from scheduler.journal import Journal
from scheduler.translate.observed import is_drained, is_probed
from scheduler.translate.placements import placement_of
from scheduler.translate.room import Room
from scheduler.translate.transitions import (
    after_admit,
    after_defer,
    after_move,
    after_preempt,
    after_surge,
    after_surge_deferred,
)
from scheduler.translate.views import SUCCESSOR, World, is_group, roles_digest

_log = get_logger(__name__)


def wants_successor(workload: Workload, world: World, now_ms: int) -> bool:
    """Whether another gang is to start beside the current one: its roles changed and it may surge, or its
    node is drained and it can be told when the other one is ready."""
    status, spec = workload.status, workload.spec
    if status.phase not in PLACED or status.next is not None or spec.suspend or is_group(workload):
        return False
    if status.next_start_ms is not None and status.next_start_ms > now_ms:
        return False
    changed = status.placed_digest != roles_digest(spec.roles)
    if changed:
        return spec.rollout.max_surge > 0
    return is_probed(workload) and is_drained(workload, world.nodes) and spec.restart.policy != "Never"


class Decider:
    """Carries out decisions in their order. One for which there is no room now, because another one has not
    ended yet, is left for the next cycle to decide about anew.

    ``touched``: the uids of those of whom something may be new since the last cycle; not of who waits on and
    has been told so."""

    def __init__(self, journal: Journal, settings: Settings, guard: SchedulerGuard) -> None:
        self._journal = journal
        self._settings = settings
        self._guard = guard
        self._told: dict[str, tuple[Workload, Defer]] = {}
        self.touched: set[str] = set()

    def carry_out(
        self,
        decisions: Sequence[Decision],
        world: World,
        held_on: Callable[[Collection[str]], Iterable[Placement]],
        now_ms: int,
    ) -> None:
        """``held_on``: all placements that hold devices of these nodes now, by gangs and by processes that
        still stop."""
        names = {
            rank.node
            for decision in decisions
            if isinstance(decision, Admit | Resize | Migrate)
            for rank in decision.placement
        }
        nodes = [world.nodes[name] for name in names if name in world.nodes]
        room = Room(nodes, held_on(names) if names else ())
        before, self._told, self.touched = self._told, {}, set()
        for decision in decisions:
            uid = decision.uid.removesuffix(SUCCESSOR)
            workload = world.workloads.get(uid)
            told = before.get(decision.uid)
            if told is not None and told[0] is workload and _says_the_same(told[1], decision):
                self._told[uid] = told
                continue
            self.touched.add(uid)
            if workload is not None:
                work = partial(self._carry_out, workload, decision, world, room, now_ms)
                self._guard.step("carry out", workload, world, work)

    def _carry_out(
        self, workload: Workload, decision: Decision, world: World, room: Room, now_ms: int
    ) -> None:
        if workload.metadata.uid != decision.uid:
            self._decide_successor(workload, decision, world, room, now_ms)
        elif isinstance(decision, Admit):
            self._admit(workload, decision, world, room, now_ms)
        elif isinstance(decision, Defer):
            self._defer(workload, decision, world, now_ms)
        elif isinstance(decision, Preempt):
            self._preempt(workload, decision, world, now_ms)
        else:
            self._move(workload, decision, world, room, now_ms)

    def _admit(self, workload: Workload, decision: Admit, world: World, room: Room, now_ms: int) -> None:
        if workload.status.phase != "Pending" or not room.take(decision.placement):
            _log.warning("admission not carried out: no room now", workload=workload.key)
            return
        self._journal.write(workload, after_admit(workload, decision, now_ms), world)
        nodes = ", ".join(sorted({assignment.node for assignment in decision.placement}))
        self._journal.note(workload, Note("Admitted", f"placed on {nodes}"))

    def _defer(self, workload: Workload, decision: Defer, world: World, now_ms: int) -> None:
        first_time, status = not workload.status.pending, after_defer(workload, decision, now_ms)
        if status == workload.status:
            self._told[workload.metadata.uid] = workload, decision
            return
        self._journal.write(workload, status, world)
        if first_time:
            self._journal.note(workload, Note("Waiting", decision.reasons[0].message))

    def _preempt(self, workload: Workload, decision: Preempt, world: World, now_ms: int) -> None:
        if workload.status.phase not in PLACED | BACKING_OFF:
            return
        grace = grace_seconds(workload, self._settings)
        winner = world.workloads.get(decision.beneficiary.removesuffix(SUCCESSOR))
        status = after_preempt(workload, decision, grace, now_ms, winner)
        self._journal.write(workload, status, world)
        by = status.last_preemption.by if status.last_preemption is not None else ""
        text = f"{decision.message}{f' (for {by})' if by else ''}; it has {grace:g} s to end"
        self._journal.note(workload, Note("Preempting", text, "warning"))

    def _move(
        self, workload: Workload, decision: Resize | Migrate, world: World, room: Room, now_ms: int
    ) -> None:
        status = workload.status
        if status.phase not in PLACED or status.next is not None:
            return
        beside = isinstance(decision, Migrate) and is_probed(workload) and room.take(decision.placement)
        if not beside and not room.take(decision.placement, placement_of(workload)):
            _log.info("move not carried out: no room now", workload=workload.key)
            return
        grace = grace_seconds(workload, self._settings)
        moved = after_move(workload, decision, beside, grace, now_ms)
        self._journal.write(workload, moved, world)
        reason = "Resizing" if isinstance(decision, Resize) else "Migrating"
        self._journal.note(workload, Note(reason, decision.message))

    def _decide_successor(
        self, workload: Workload, decision: Decision, world: World, room: Room, now_ms: int
    ) -> None:
        if isinstance(decision, Admit):
            self._surge(workload, decision.placement, world, room, now_ms)
        elif isinstance(decision, Defer):
            self._stay(workload, decision, world)
        elif isinstance(decision, Preempt) and workload.status.next is not None:
            dropped = workload.status.model_copy(update={"next": None}, deep=True)
            self._journal.write(workload, dropped, world)
            self._journal.note(workload, Note("SuccessorPreempted", decision.message, "warning"))

    def _surge(self, workload: Workload, placement: Placement, world: World, room: Room, now_ms: int) -> None:
        if not wants_successor(workload, world, now_ms) or not room.take(placement):
            return
        changed = workload.status.placed_digest != roles_digest(workload.spec.roles)
        cause: Literal["Update", "Drain"] = "Update" if changed else "Drain"
        status = after_surge(workload, placement, cause, now_ms)
        self._journal.write(workload, status, world)
        nodes = ", ".join(sorted({assignment.node for assignment in placement}))
        why = status.next.message if status.next is not None else ""
        self._journal.note(workload, Note("Surging", f"{why}: the next gang starts on {nodes}"))

    def _stay(self, workload: Workload, decision: Defer, world: World) -> None:
        """No room beside it: if it may be unavailable it is stopped first, else the change waits."""
        changed = workload.status.placed_digest != roles_digest(workload.spec.roles)
        if changed and workload.spec.rollout.max_unavailable > 0:
            text = "spec.roles changed, and there is no room for another gang beside it: placed anew"
            update = {"phase": "Pending", "message": text, "admitted_ms": None, "placed_digest": ""}
            stopped = workload.status.model_copy(update=update, deep=True)
            self._journal.write(workload, stopped, world)
            self._journal.note(workload, Note("SpecChanged", text))
            return
        self._journal.write(workload, after_surge_deferred(workload, decision), world)


def _says_the_same(told: Defer, decision: Decision) -> bool:
    """Whether a workload that waits is told by it what its status says already."""
    return isinstance(decision, Defer) and (
        (told.reasons, told.remedy, told.nominated) == (decision.reasons, decision.remedy, decision.nominated)
    )
