"""A Workload of independent replicas: each is a Workload of its own, and changes reach them one by one."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from common.errors import Conflict, NotFound
from common.resources import Metadata, Workload
from common.resources.meta import Owner
from common.resources.workload import PendingReason, Rollout, WorkloadRole, WorkloadSpec
from common.store.port import Delete, Put, Store
from scheduler.aside import SchedulerGuard
from scheduler.core.lifecycle.lifecycle import FINISHED, PLACED, Note, Phase
from scheduler.core.lifecycle.rolling import ReplicaProgress, next_replacements
from scheduler.journal import Journal
from scheduler.translate.kept_world import KeptWorld
from scheduler.translate.standing import OWNER_KIND
from scheduler.translate.transitions import after_summary
from scheduler.translate.views import World, roles_digest

GROUP_LABEL = "computility.io/replica-of"
LONGEST_NAME = 200
MOST_PER_PASS = 200
"""So many replicas are made and deleted in one pass."""
MOST_PER_GROUP = 50
"""So many of one group: other groups get their turn."""
Family = dict[str, Workload]
"""The replicas of one group, by name."""


@dataclass(frozen=True)
class Slot:
    """One replica that there should be."""

    name: str
    role: WorkloadRole
    replica: int


def slots_of(group: Workload) -> list[Slot]:
    """All replicas of the group, by role and number."""
    return [
        Slot(replica_name(group.name, role.name, number), role, number)
        for role in group.spec.roles
        for number in range(role.replicas)
    ]


def replica_name(group: str, role: str, number: int) -> str:
    name = f"{group}-{role}-{number}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 13]}x{hashlib.sha256(name.encode()).hexdigest()[:12]}"


class ReplicaKeeper:
    """Makes, changes and deletes the Workloads of replicas, and sums them up in the status of their group.
    Looks at groups of which something has changed, and at those that are not yet as they should be, in turns:
    however many replicas there are, a pass makes and deletes a bounded number of them."""

    def __init__(self, store: Store, journal: Journal, guard: SchedulerGuard, world: KeptWorld) -> None:
        self._store = store
        self._journal = journal
        self._guard = guard
        self._changed, self._to_sum = world.reader(), world.reader()
        self._open: dict[str, None] = {}
        self._current: dict[str, tuple[int, int]] = {}
        self._left = 0

    async def sync(self, world: KeptWorld) -> None:
        """Bring all replicas to what their groups say, as fast as their rollouts allow."""
        standings = world.standings
        touched = self._changed.take_workloads()
        self._open.update(
            dict.fromkeys(uid for uid in touched if uid in standings.groups or uid in standings.families)
        )
        self._current = {uid: known for uid, known in self._current.items() if uid in world.workloads}
        self._left = MOST_PER_PASS
        for uid in list(self._open):
            if self._left <= 0:
                return
            del self._open[uid]
            children = dict(standings.families.get(uid, {}))
            if uid in standings.groups:
                group = world.workloads[uid]
                work = partial(self._sync_group, group, children, world)
                await self._guard.long_step("replicas", group, world, work)
                if self._guard.items.fault_of(("replicas", uid)) is not None:
                    self._open[uid] = None
            elif children:
                await self._remove(uid, list(children.values()), world)

    async def _remove(self, uid: str, children: list[Workload], world: World) -> None:
        """Delete some of them; the others when the group's turn comes again."""
        count = min(len(children), MOST_PER_GROUP, self._left)
        self._left -= count
        writes = [Delete(Workload, child.name, child.project) for child in children[:count]]
        with self._guard.items.item("Workload", ("remove", uid)):
            try:
                await self._store.write_all(writes)
            except NotFound:
                for child in children[:count]:
                    with suppress(NotFound):
                        await self._store.delete(Workload, child.name, child.project)
            for child in children[:count]:
                world.workloads.pop(child.metadata.uid, None)
        if count < len(children) or self._guard.items.fault_of(("remove", uid)) is not None:
            self._open[uid] = None

    async def _sync_group(self, group: Workload, children: Family, world: KeptWorld) -> None:
        slots, uid = {slot.name: slot for slot in slots_of(group)}, group.metadata.uid
        spare = [children.pop(name) for name in list(children) if name not in slots]
        if spare:
            await self._remove(uid, spare, world)
        missing = [slot for slot in slots.values() if slot.name not in children]
        if missing:
            self._open[uid] = None
            free = [slot for slot in missing if (group.project, slot.name) not in world.standings.names]
            await self._make(group, free[: min(MOST_PER_GROUP, self._left)], world)
        for name in children:
            children[name] = await self._follow(group, slots[name], children[name], world)
        replicas = [
            self._replica(group, slot, children[name]) for name, slot in slots.items() if name in children
        ]
        rollout = group.spec.rollout
        for answer in next_replacements(replicas, rollout.max_surge, rollout.max_unavailable):
            child = children[answer.name]
            spec = child_spec(group, slots[answer.name], _mode(answer.surge))
            if await self._apply(child, spec, world) is not child:
                how = "beside the old one" if answer.surge else "in its place"
                self._journal.note(group, Note("Replacing", f"{answer.name}: the new one starts {how}"))

    async def _make(self, group: Workload, slots: list[Slot], world: World) -> None:
        self._left -= len(slots)
        made = [
            Workload(
                metadata=Metadata(
                    name=slot.name,
                    project=group.project,
                    labels={**group.metadata.labels, GROUP_LABEL: group.name},
                    owner=Owner(kind=OWNER_KIND, name=group.name, uid=group.metadata.uid),
                ),
                spec=child_spec(group, slot, _mode(surge=False)),
            )
            for slot in slots
        ]
        for applied in await self._store.write_all([Put(one) for one in made]) if made else ():
            assert isinstance(applied.resource, Workload)
            world.workloads[applied.resource.metadata.uid] = applied.resource

    async def _follow(self, group: Workload, slot: Slot, child: Workload, world: World) -> Workload:
        """What is no matter of the processes (priority, queue, suspension) is changed at once."""
        if self._is_current(group, child):
            return child
        spec = child_spec(group, slot, child.spec.rollout)
        spec.roles = child.spec.roles
        return await self._apply(child, spec, world)

    async def _apply(self, child: Workload, spec: WorkloadSpec, world: World) -> Workload:
        """The replica with this spec; as it was where it has just been changed by somebody else."""
        if child.spec == spec:
            return child
        changed = child.copy_deep()
        changed.spec = spec
        try:
            applied = (await self._store.apply(changed)).resource
        except (Conflict, NotFound):
            return child
        world.workloads[applied.metadata.uid] = applied
        return applied

    def _is_current(self, group: Workload, child: Workload) -> bool:
        """Whether its spec is known to be what the group says."""
        generations = group.metadata.generation, child.metadata.generation
        return self._current.get(child.metadata.uid) == generations

    def _replica(self, group: Workload, slot: Slot, child: Workload) -> ReplicaProgress:
        current = self._is_current(group, child)
        if not current and child.spec.roles == child_spec(group, slot, child.spec.rollout).roles:
            current = True
            generations = group.metadata.generation, child.metadata.generation
            self._current[child.metadata.uid] = generations
        runs = child.status.placed_digest == roles_digest(child.spec.roles) or child.status.phase in FINISHED
        ready = is_ready(child)
        return ReplicaProgress(
            slot.name, ready, current, current and runs and ready, child.spec.rollout.max_surge > 0
        )

    def sum_up(self, world: KeptWorld) -> None:
        """Write the status of each group of which something has changed."""
        for uid in self._to_sum.take_workloads():
            if uid in world.standings.groups:
                group = world.workloads[uid]
                work = partial(self._sum_up, group, world.standings.families.get(uid, {}), world)
                self._guard.step("sum up", group, world, work)
                if self._guard.items.fault_of(("sum up", uid)) is not None:
                    self._to_sum.workloads.add(uid)

    def _sum_up(self, group: Workload, children: Family, world: KeptWorld) -> None:
        slots = slots_of(group)
        found = [(slot, children[slot.name]) for slot in slots if slot.name in children]
        ranks = [
            rank.model_copy(update={"rank": number, "replica": slot.replica})
            for number, (slot, child) in enumerate(found)
            for rank in child.status.ranks[:1]
        ]
        phase = group_phase([child for _, child in found], len(slots))
        pending = next((child.status.pending for _, child in found if child.status.pending), [])
        taken = (
            slot
            for slot in slots
            if slot.name not in children and (group.project, slot.name) in world.standings.names
        )
        first = next(taken, None)
        if first is not None:
            pending = [_name_taken(first)]
        ready = sum(is_ready(child) for _, child in found)
        message = f"{ready} of {len(slots)} replicas are ready"
        status = after_summary(group, phase, ranks, pending, message, self._journal.now_ms())
        self._journal.write(group, status, world)


def child_spec(group: Workload, slot: Slot, rollout: Rollout) -> WorkloadSpec:
    """The spec of one replica: that of its group, with one role of one rank."""
    role = slot.role.model_copy(update={"replicas": 1}, deep=True)
    return group.spec.model_copy(update={"roles": [role], "rollout": rollout}, deep=True)


def _mode(surge: bool) -> Rollout:
    return Rollout(max_surge=1, max_unavailable=0) if surge else Rollout()


def is_ready(child: Workload) -> bool:
    """Whether it serves: its rank answers its probe, or runs and has none, or has done its work."""
    phase = child.status.phase
    return phase in ("Ready", "Succeeded") or (phase == "Running" and child.spec.roles[0].readiness is None)


def group_phase(children: list[Workload], wanted: int) -> Phase:
    """One phase for all of them."""
    phases = [child.status.phase for child in children]
    if phases and len(phases) == wanted:
        if len(set(phases)) == 1:
            return phases[0]
        if all(phase in FINISHED for phase in phases):
            return "Failed"
        if all(is_ready(child) for child in children):
            return "Ready" if "Ready" in phases else "Running"
    if any(phase in PLACED for phase in phases):
        return "Starting" if "Starting" in phases else "Running"
    return "Pending"


def _name_taken(slot: Slot) -> PendingReason:
    return PendingReason(
        code="NameTaken", message=f"another Workload has the name of its replica: {slot.name}"
    )
