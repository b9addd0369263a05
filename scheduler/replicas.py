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
from common.store.port import Store
from scheduler.aside import SchedulerGuard
from scheduler.core.lifecycle.lifecycle import FINISHED, PLACED, Note, Phase
from scheduler.core.lifecycle.rolling import Replica, next_replacements
from scheduler.journal import Journal
from scheduler.translate.transitions import after_summary
from scheduler.translate.views import World, is_group, roles_digest

GROUP_LABEL = "computility.io/replica-of"
LONGEST_NAME = 200
KIND = "Workload"
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
    """Makes, changes and deletes the Workloads of replicas, and sums them up in the status of their group."""

    def __init__(self, store: Store, journal: Journal, guard: SchedulerGuard) -> None:
        self._store = store
        self._journal = journal
        self._guard = guard

    async def sync(self, world: World) -> None:
        """Bring all replicas to what their groups say, as fast as their rollouts allow."""
        groups = {
            workload.metadata.uid: workload for workload in world.workloads.values() if is_group(workload)
        }
        names = {(workload.project, workload.name) for workload in world.workloads.values()}
        families = families_of(world)
        for orphans in [children for uid, children in families.items() if uid not in groups]:
            for child in orphans.values():
                await self._guard.step("remove", child, world, partial(self._delete, child, world))
        for uid, group in groups.items():
            work = partial(self._sync_group, group, families.get(uid, {}), names, world)
            await self._guard.step("replicas", group, world, work)

    async def _delete(self, workload: Workload, world: World) -> None:
        with suppress(NotFound):
            await self._store.delete(Workload, workload.name, workload.project)
        world.workloads.pop(workload.metadata.uid, None)

    async def _sync_group(
        self, group: Workload, children: Family, names: set[tuple[str | None, str]], world: World
    ) -> None:
        slots = {slot.name: slot for slot in slots_of(group)}
        for name in [name for name in children if name not in slots]:
            await self._delete(children.pop(name), world)
        for name, slot in slots.items():
            if name in children:
                children[name] = await self._follow(group, slot, children[name], world)
            elif (group.project, name) not in names:
                await self._make(group, slot, world)
        replicas = [_replica(group, slot, children[name]) for name, slot in slots.items() if name in children]
        rollout = group.spec.rollout
        for answer in next_replacements(replicas, rollout.max_surge, rollout.max_unavailable):
            child = children[answer.name]
            spec = child_spec(group, slots[answer.name], _mode(answer.surge))
            if await self._apply(child, spec, world) is not child:
                how = "beside the old one" if answer.surge else "in its place"
                await self._journal.note(group, Note("Replacing", f"{answer.name}: the new one starts {how}"))

    async def _make(self, group: Workload, slot: Slot, world: World) -> None:
        metadata = Metadata(
            name=slot.name,
            project=group.project,
            labels={**group.metadata.labels, GROUP_LABEL: group.name},
            owner=Owner(kind=KIND, name=group.name, uid=group.metadata.uid),
        )
        made = Workload(metadata=metadata, spec=child_spec(group, slot, _mode(surge=False)))
        applied = (await self._store.apply(made)).resource
        world.workloads[applied.metadata.uid] = applied

    async def _follow(self, group: Workload, slot: Slot, child: Workload, world: World) -> Workload:
        """What is no matter of the processes (priority, queue, suspension) is changed at once."""
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

    async def sum_up(self, world: World) -> None:
        """Write the status of each group."""
        families = families_of(world)
        for group in [workload for workload in world.workloads.values() if is_group(workload)]:
            work = partial(self._sum_up, group, families.get(group.metadata.uid, {}), world)
            await self._guard.step("sum up", group, world, work)

    async def _sum_up(self, group: Workload, children: Family, world: World) -> None:
        slots = slots_of(group)
        found = [(slot, children[slot.name]) for slot in slots if slot.name in children]
        ranks = [
            rank.model_copy(update={"rank": number, "replica": slot.replica})
            for number, (slot, child) in enumerate(found)
            for rank in child.status.ranks[:1]
        ]
        phase = group_phase([child for _, child in found], len(slots))
        pending = next((child.status.pending for _, child in found if child.status.pending), [])
        if len(found) < len(slots):
            pending = [_name_taken(next(slot for slot in slots if slot.name not in children))]
        ready = sum(is_ready(child) for _, child in found)
        message = f"{ready} of {len(slots)} replicas are ready"
        status = after_summary(group, phase, ranks, pending, message, self._journal.now_ms())
        await self._journal.write(group, status, world)


def families_of(world: World) -> dict[str, Family]:
    """The replicas of each group, by the uid of the group and their names."""
    families: dict[str, Family] = {}
    for workload in world.workloads.values():
        owner = workload.metadata.owner
        if owner is not None and owner.kind == KIND:
            families.setdefault(owner.uid, {})[workload.name] = workload
    return families


def child_spec(group: Workload, slot: Slot, rollout: Rollout) -> WorkloadSpec:
    """The spec of one replica: that of its group, with one role of one rank."""
    role = slot.role.model_copy(update={"replicas": 1}, deep=True)
    return group.spec.model_copy(update={"roles": [role], "rollout": rollout}, deep=True)


def _mode(surge: bool) -> Rollout:
    return Rollout(max_surge=1, max_unavailable=0) if surge else Rollout()


def _replica(group: Workload, slot: Slot, child: Workload) -> Replica:
    current = child.spec.roles == child_spec(group, slot, child.spec.rollout).roles
    runs = child.status.placed_digest == roles_digest(child.spec.roles) or child.status.phase in FINISHED
    ready = is_ready(child)
    return Replica(slot.name, ready, current, current and runs and ready, child.spec.rollout.max_surge > 0)


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
