"""What all workloads hold and wait for together, kept up with each change of one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

from common.guard import HANDLED
from common.resources import Workload
from scheduler.core.model.types import Placement
from scheduler.translate.placements import held_by
from scheduler.translate.views import holds_places, is_group

OWNER_KIND = "Workload"
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Contribution:
    """What counts of one workload. ``slots``: that it has been given, a share counts as one; ``models`` and
    ``devices``: millis that it holds per ``vendor/model`` and per device id; ``nodes``: where its ranks, and
    those of its successor, are or were."""

    name: tuple[str | None, str]
    queue: str
    phase: str
    is_group: bool
    family: str
    waits: bool
    unhandled: bool
    slots: int = 0
    models: tuple[tuple[str, int], ...] = ()
    devices: tuple[tuple[str, int], ...] = ()
    nodes: frozenset[str] = frozenset()


def standing_of(workload: Workload) -> Contribution:
    """What counts of a workload."""
    status, owner, group = workload.status, workload.metadata.owner, is_group(workload)
    handled = status.condition(HANDLED) if status.conditions else None
    ranks = (*status.ranks, *(status.next.ranks if status.next else ()))
    held = held_by(workload) if holds_places(workload) else ()
    return Contribution(
        name=(workload.project, workload.name),
        queue=workload.spec.queue,
        phase=status.phase,
        is_group=group,
        family=owner.uid if owner is not None and owner.kind == OWNER_KIND else "",
        waits=status.phase == "Pending" and not group,
        unhandled=handled is not None and handled.status == "False",
        slots=sum(len(rank.grants) for rank in ranks) if holds_places(workload) else 0,
        models=_millis(held, by_model=True),
        devices=_millis(held, by_model=False),
        nodes=frozenset(rank.node for rank in ranks),
    )


def _bare(workload: Workload) -> Contribution:
    phase = workload.status.phase
    return Contribution((workload.project, workload.name), "", phase, False, "", phase == "Pending", False)


def _millis(held: Placement, *, by_model: bool) -> tuple[tuple[str, int], ...]:
    total: dict[str, int] = {}
    for rank in held:
        for share in rank.shares:
            key = f"{share.vendor}/{share.model}" if by_model else share.device
            total[key] = total.get(key, 0) + share.millis
    return tuple(total.items())


class Standings:
    """Sums over all workloads, and who is where, by uid. ``phases``: workloads by (queue, phase), groups
    among them; ``members``: the same without groups. ``models``: millis held per queue and ``vendor/model``;
    ``devices``: per device id. ``families``: replicas of each group by the uid of the group and their names.
    ``waiting``: those in phase Pending that are no groups; ``unhandled``: those that say they are set
    aside."""

    def __init__(self) -> None:
        self._of: dict[str, Contribution] = {}
        self.phases: Counter[tuple[str, str]] = Counter()
        self.members: Counter[tuple[str, str]] = Counter()
        self.slots: Counter[str] = Counter()
        self.models: dict[str, Counter[str]] = {}
        self.devices: Counter[str] = Counter()
        self.names: dict[tuple[str | None, str], str] = {}
        self.on_node: dict[str, set[str]] = {}
        self.in_queue: dict[str, set[str]] = {}
        self.in_project: dict[str | None, set[str]] = {}
        self.families: dict[str, dict[str, Workload]] = {}
        self.groups: dict[str, None] = {}
        self.waiting: dict[str, None] = {}
        self.unhandled: set[str] = set()

    def of(self, uid: str) -> Contribution | None:
        """What counts of the workload; None where it is not there."""
        return self._of.get(uid)

    def put(self, uid: str, workload: Workload) -> None:
        """It is there, or has changed. Of one that cannot be looked at, what it waits for counts only."""
        try:
            new = standing_of(workload)
        except Exception:  # noqa: BLE001 - one workload's trouble is not the others'
            new = _bare(workload)
        self.drop(uid)
        self._of[uid] = new
        self._count(new, 1)
        self.names[new.name] = uid
        for node in new.nodes:
            self.on_node.setdefault(node, set()).add(uid)
        self.in_queue.setdefault(new.queue, set()).add(uid)
        self.in_project.setdefault(new.name[0], set()).add(uid)
        if new.family:
            self.families.setdefault(new.family, {})[workload.name] = workload
        if new.is_group:
            self.groups[uid] = None
        if new.waits:
            self.waiting[uid] = None
        if new.unhandled:
            self.unhandled.add(uid)

    def renew(self, uid: str, workload: Workload) -> None:
        """The same workload as another object: what counts of it stays."""
        family = self.families.get(self._of[uid].family)
        if family is not None:
            family[workload.name] = workload

    def drop(self, uid: str) -> None:
        """It is not there any more."""
        old = self._of.pop(uid, None)
        if old is None:
            return
        self._count(old, -1)
        if self.names.get(old.name) == uid:
            del self.names[old.name]
        for node in old.nodes:
            _leave(self.on_node, node, uid)
        _leave(self.in_queue, old.queue, uid)
        _leave(self.in_project, old.name[0], uid)
        family = self.families.get(old.family, {})
        if family.get(old.name[1]) is not None and family[old.name[1]].metadata.uid == uid:
            del family[old.name[1]]
            if not family:
                del self.families[old.family]
        self.groups.pop(uid, None)
        self.waiting.pop(uid, None)
        self.unhandled.discard(uid)

    def _count(self, one: Contribution, sign: int) -> None:
        _add(self.phases, (one.queue, one.phase), sign)
        if not one.is_group:
            _add(self.members, (one.queue, one.phase), sign)
        _add(self.slots, one.queue, sign * one.slots)
        models = self.models.setdefault(one.queue, Counter())
        for model, millis in one.models:
            _add(models, model, sign * millis)
        if not models:
            del self.models[one.queue]
        for device, millis in one.devices:
            _add(self.devices, device, sign * millis)


def _add(counter: Counter[K], key: K, amount: int) -> None:
    """What has come down to nothing is no longer there."""
    if amount:
        counter[key] += amount
        if not counter[key]:
            del counter[key]


def _leave(index: dict[K, set[str]], key: K, uid: str) -> None:
    members = index.get(key)
    if members is not None:
        members.discard(uid)
        if not members:
            del index[key]
