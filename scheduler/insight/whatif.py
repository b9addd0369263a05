"""What would happen if these workloads were there: the scheduler's own cycle, on a copy of the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.resources import Workload
from common.resources.workload import Rollout, WorkloadStatus
from scheduler.core.model.types import Admit, Migrate, Preempt, Resize
from scheduler.insight.answers import Delay, Outcome, Simulation, Touched
from scheduler.insight.outlook import Outlook
from scheduler.replicas import child_spec, slots_of
from scheduler.translate.placements import rank_placement
from scheduler.translate.transitions import pending_reason
from scheduler.translate.views import World, holds_places, is_group

MOST_DELAYS = 100
SECOND_MS = 1000


@dataclass(frozen=True)
class _Asked:
    """A workload as it would be, and the phase of the one that it takes the place of."""

    workload: Workload
    replaces: str


def simulate(workloads: Sequence[Workload], live: Outlook, *, at_head: bool) -> Simulation:
    """``at_head``: as if they came first of all that have their priority. A workload of the same project and
    name as one that is there takes its place, and its places count as free. Independent replicas are told
    apart."""
    changed = World(live.world.nodes, live.world.queues, live.world.projects, dict(live.world.workloads))
    asked = [one for workload in workloads for one in _asked(workload, changed, live.now_ms)]
    ours = {one.workload.metadata.uid for one in asked}
    known = [live.world.workloads[uid] for uid in ours if uid in live.world.workloads]
    same_pool = None if any(holds_places(workload) for workload in known) else live
    then = Outlook(changed, live.rules, live.now_ms, ours if at_head else (), same_pool)
    return Simulation(
        at_ms=live.now_ms,
        workloads=[_outcome(one, then) for one in asked],
        preempts=_touched(Preempt, live, then),
        resizes=_touched(Resize, live, then),
        moves=_touched(Migrate, live, then),
        delays=_delays(live, then, ours),
    )


def _asked(workload: Workload, world: World, now_ms: int) -> list[_Asked]:
    """Put it into the world, or, of a group, each replica."""
    if not is_group(workload):
        return [_put(workload, world, now_ms)]
    replicas = []
    for slot in slots_of(workload):
        metadata = workload.metadata.model_copy(update={"name": slot.name})
        spec = child_spec(workload, slot, Rollout())
        replicas.append(_put(Workload(metadata=metadata, spec=spec), world, now_ms))
    return replicas


def _put(workload: Workload, world: World, now_ms: int) -> _Asked:
    known = next((w for w in world.workloads.values() if w.key == workload.key), None)
    uid = known.metadata.uid if known else f"simulated:{workload.project}:{workload.name}"
    created_ms = known.metadata.created_ms if known else now_ms
    metadata = workload.metadata.model_copy(update={"uid": uid, "created_ms": created_ms})
    fresh = workload.model_copy(update={"metadata": metadata, "status": WorkloadStatus()})
    world.workloads[uid] = fresh
    return _Asked(fresh, known.status.phase if known else "")


def _outcome(asked: _Asked, then: Outlook) -> Outcome:
    workload = asked.workload
    uid = workload.metadata.uid
    answer = then.answers.get(uid)
    outcome = Outcome(
        name=workload.name, project=workload.project or "", starts="Unknown", replaces=asked.replaces
    )
    if answer is None:
        outcome.no_eta = "it is suspended: spec.suspend is true"
    elif isinstance(answer, Admit):
        outcome.starts, outcome.eta_ms = "Now", then.now_ms
        outcome.ranks = [rank_placement(assignment) for assignment in answer.placement]
    else:
        outcome.reasons = [pending_reason(reason) for reason in answer.reasons]
        outcome.remedy, outcome.reserved_ms = answer.remedy, answer.reserved_ms
        outcome.position = then.line(workload.spec.queue).index(uid) + 1
        outcome.eta_ms = then.start_ms(answer)
        if outcome.eta_ms is None:
            outcome.no_eta = then.why_no_start(answer)
            outcome.starts = "Never" if answer.never else "Unknown"
        else:
            outcome.starts, outcome.eta_predicted = "Later", then.is_guess(uid)
    return outcome


def _touched(kind: type[Preempt | Resize | Migrate], live: Outlook, then: Outlook) -> list[Touched]:
    """Decisions of this kind about others that are made only because of the new ones."""
    anyway = {decision.uid for decision in live.decisions if isinstance(decision, kind)}
    found = [d for d in then.decisions if isinstance(d, kind) and d.uid not in anyway]
    return [
        Touched(project=owner.project or "", name=owner.name, message=_words(decision, owner))
        for decision in found
        if (owner := _owner(decision.uid, then)) is not None
    ]


def _owner(uid: str, then: Outlook) -> Workload | None:
    """The workload of a gang: a successor that waits or runs beside has a uid after that of its workload."""
    return then.world.workloads.get(uid.partition("/")[0])


def _words(decision: Preempt | Resize | Migrate, owner: Workload) -> str:
    if isinstance(decision, Preempt):
        return decision.message
    if isinstance(decision, Resize):
        return f"{len(owner.status.ranks)} -> {len(decision.placement)} ranks: {decision.message}"
    before = ", ".join(sorted({rank.node for rank in owner.status.ranks}))
    after = ", ".join(sorted({assignment.node for assignment in decision.placement}))
    return f"{before} -> {after}: {decision.message}"


def _delays(live: Outlook, then: Outlook, ours: set[str]) -> list[Delay]:
    """Others that wait and would start later, those that lose most first."""
    late = [
        (_loss(before_ms, then.starts.get(uid)), uid)
        for uid, before_ms in live.starts.items()
        if uid not in ours and uid in then.answers
    ]
    worst = sorted((-loss, uid) for loss, uid in late if loss > SECOND_MS)[:MOST_DELAYS]
    return [
        Delay(
            project=owner.project or "",
            name=owner.name,
            before_ms=live.starts.get(uid),
            after_ms=then.starts.get(uid),
        )
        for _, uid in worst
        if (owner := _owner(uid, then)) is not None
    ]


def _loss(before_ms: int, after_ms: int | None) -> int:
    return 1 << 62 if after_ms is None else after_ms - before_ms
