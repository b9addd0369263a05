"""Resources as the core sees them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from common.resources import Node, Project, Queue, Workload
from common.resources.pool import Device, DeviceBudget, DeviceQuota, DeviceRequest, QueueSpec, Toleration
from common.resources.workload import RestartPolicy, WorkloadRole, WorkloadSpec
from common.store.port import Store
from scheduler.core.lifecycle.lifecycle import BACKING_OFF, HOLDING, LEAVING, Restarts, State
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.islands import IslandMember, islands_of
from scheduler.core.model.rules import QueueRules
from scheduler.core.model.types import (
    WHOLE_MILLIS,
    Affinity,
    DeviceView,
    Labels,
    NodeView,
    PeriodBudget,
    QueueView,
    Quota,
    Request,
    RoleView,
    RunningView,
    WorkloadView,
)
from scheduler.core.quota.spending import Spent, renews_ms
from scheduler.translate.ordered_quota import quotas_in_force
from scheduler.translate.placements import beyond, nominated_of, placement_of, planned_of

DEFAULT_QUEUE = "default"
"""A queue of this name is there even when nobody has applied one: without a limit."""
CLUSTER_LABEL = "computility.io/cluster"
SUCCESSOR = "/next"
"""At the end of a uid: the gang that is to take over from the one of that workload."""
LEFT = "/left"
"""The same: places that the workload gives up as soon as its gang has ended."""
KNOWN_DIGESTS = 16_384
_DIGESTS: dict[bytes, str] = {}
"""Digests of roles by what they follow from; at most so many."""


@dataclass
class World:
    """All resources that the scheduler reads, by name; workloads by uid."""

    nodes: dict[str, Node] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    projects: dict[str, Project] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)


async def read_world(store: Store) -> World:
    """Read everything once."""
    return World(
        nodes={node.name: node for node in await store.list(Node)},
        queues={queue.name: queue for queue in await store.list(Queue)},
        projects={project.name: project for project in await store.list(Project)},
        workloads={workload.metadata.uid: workload for workload in await store.list(Workload)},
    )


def roles_digest(roles: Sequence[WorkloadRole]) -> str:
    """Changes when anything about the processes changes. ``minReplicas`` is about how many may run."""
    texts = [role.model_dump_json(by_alias=True, exclude_none=True) for role in roles]
    key = hashlib.sha256("\n".join(texts).encode()).digest()
    known = _DIGESTS.get(key)
    if known is None:
        text = json.dumps([json.loads(one) | {"minReplicas": None} for one in texts], sort_keys=True)
        known = hashlib.sha256(text.encode()).hexdigest()[:16]
        if len(_DIGESTS) >= KNOWN_DIGESTS:
            _DIGESTS.clear()
        _DIGESTS[key] = known
    return known


def restarts_view(policy: RestartPolicy) -> Restarts:
    seconds = policy.backoff_seconds, policy.backoff_max_seconds
    return Restarts(policy.policy, policy.max_restarts, *seconds, policy.max_crashes)


def state_view(workload: Workload) -> State:
    status = workload.status
    return State(
        phase=status.phase,
        attempt=status.attempt,
        restarts=status.restarts,
        backoff_step=status.backoff_step,
        crashes=status.crashes,
        next_start_ms=status.next_start_ms,
        leaves_by_ms=status.leaves_by_ms,
        message=status.message,
    )


def labels_view(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def request_view(request: DeviceRequest, tolerates: Labels = ()) -> Request:
    equal = request.equivalence
    return Request(
        count=request.count,
        vendors=tuple(request.vendors),
        not_vendors=tuple(request.not_vendors),
        models=tuple(request.models),
        not_models=tuple(request.not_models),
        memory_bytes=request.memory_bytes,
        share_millis=request.share_millis,
        tflops=request.tflops,
        dtype=(equal.dtype if equal else None) or request.dtype,
        capabilities=tuple(request.capabilities),
        total_tflops=equal.tflops if equal else 0.0,
        total_memory_bytes=equal.memory_bytes if equal else 0,
        max_count=equal.max_count if equal else 0,
        cpu_millis=request.cpu_millis,
        host_memory_bytes=request.host_memory_bytes,
        node_labels=labels_view(request.node_labels),
        tolerates=tolerates,
    )


def tolerated_view(tolerations: Iterable[Toleration]) -> Labels:
    """An empty value stands for any."""
    return tuple(sorted({(each.key, each.value or "") for each in tolerations}))


def role_views(spec: WorkloadSpec, tolerates: Labels = ()) -> tuple[RoleView, ...]:
    return shared_roles(
        tuple(
            RoleView(role.name, role.replicas, request_view(role.devices, tolerates), role.min_replicas)
            for role in spec.roles
        )
    )


@lru_cache(maxsize=16_384)
def shared_roles(roles: tuple[RoleView, ...]) -> tuple[RoleView, ...]:
    """The same object for all that are equal: a cycle compares those of each workload that waits."""
    return roles


def affinity_view(spec: WorkloadSpec) -> Affinity:
    wish = spec.affinity
    near, apart = labels_view(wish.near), labels_view(wish.apart)
    beside = labels_view(wish.beside)
    slices = wish.slice_same, wish.slice_size
    return Affinity(tuple(wish.data), near, apart, wish.same, wish.spread, beside, *slices)


def workload_view(workload: Workload, world: World, default_grace_seconds: float = 10.0) -> WorkloadView:
    """What never restarts is neither preempted nor moved: it would be run a second time."""
    spec = workload.spec
    queue, project = world.queues.get(spec.queue), world.projects.get(workload.project or "")
    priority, promised = spec.priority, spec.start_within_seconds
    if priority is None:
        priority = queue.spec.default_priority if queue else 0
    grace_seconds = default_grace_seconds if spec.grace_seconds is None else spec.grace_seconds
    once = spec.restart.policy == "Never"
    tolerations = [*spec.tolerations, *(queue.spec.tolerations if queue else ())]
    return WorkloadView(
        uid=workload.metadata.uid,
        project=workload.project or "",
        name=workload.name,
        queue=spec.queue,
        priority=priority,
        created_ms=workload.metadata.created_ms,
        roles=role_views(spec, tolerated_view(tolerations)),
        allowed_queues=tuple(project.spec.queues) if project else (),
        labels=labels_view(workload.metadata.labels),
        affinity=affinity_view(spec),
        preemptible=spec.preemptible and not once,
        movable=spec.movable and not once,
        expected_seconds=spec.expected_seconds,
        deadline_ms=None if promised is None else workload.metadata.created_ms + promised * 1000,
        kind=spec.kind,
        grace_seconds=math.ceil(grace_seconds),
        nominated=nominated_of(workload) if workload.status.phase == "Pending" else (),
    )


def successor_view(workload: Workload, world: World, default_grace_seconds: float = 10.0) -> WorkloadView:
    """The gang that is to start beside the current one, as a workload of its own."""
    view = workload_view(workload, world, default_grace_seconds)
    return _as(replace(view, nominated=nominated_of(workload)), SUCCESSOR)


def is_group(workload: Workload) -> bool:
    """Whether its replicas are Workloads of their own, so that nothing is placed for itself."""
    return workload.spec.rollout.independent


def holds_places(workload: Workload) -> bool:
    """Whether its placement keeps devices from others."""
    return workload.status.phase in HOLDING and not is_group(workload)


def running_views(workload: Workload, world: World, default_grace_seconds: float = 10.0) -> list[RunningView]:
    """What it holds: its gang; the successor beside it as one more; of a gang that makes way for a successor,
    the places that it will have and, as one more that leaves, those that will come free."""
    if not holds_places(workload):
        return []
    status, successor = workload.status, workload.status.next
    view, started_ms = workload_view(workload, world, default_grace_seconds), status.admitted_ms or 0
    current, planned = placement_of(workload), planned_of(workload)
    leaving = status.phase in LEAVING
    fixed = status.phase in BACKING_OFF or (successor is not None and successor.beside)
    gang = RunningView(
        _fixed(view) if fixed else view,
        current,
        started_ms,
        leaving,
        status.leaves_by_ms if leaving else None,
        status.resized_ms or 0,
    )
    if successor is None:
        return [gang]
    if successor.beside:
        began_ms = max((rank.started_ms or started_ms for rank in successor.ranks), default=started_ms)
        return [gang, RunningView(_as(view, SUCCESSOR), planned, began_ms)]
    rest = RunningView(
        _as(view, LEFT), beyond(current, planned), started_ms, leaving=True, ends_ms=status.leaves_by_ms
    )
    return [replace(gang, placement=planned, ends_ms=None), rest]


def _fixed(view: WorkloadView) -> WorkloadView:
    """What is neither resized nor moved now: it is about to start anew, or its successor is."""
    roles = tuple(replace(role, min_replicas=None) for role in view.roles)
    return replace(view, roles=roles, movable=False)


def _as(view: WorkloadView, suffix: str) -> WorkloadView:
    return replace(view, uid=view.uid + suffix, movable=False)


LATE = "AgentLate"
"""Reason of the condition Responsive while the node's agent has been silent for too long to rely on it."""


def answers(node: Node) -> bool:
    """Whether it is there and answers. One that is late is given nothing new; what runs there is left alone
    until it is given up."""
    responsive = node.status.condition("Responsive")
    return node.status.is_true("Ready") and (responsive is None or responsive.status == "True")


def node_view(node: Node, catalogue: Catalogue, now_ms: int = 0) -> NodeView:
    status, spec = node.status, node.spec
    islands = islands_of([_member(device, catalogue) for device in status.devices])
    until_ms = status.flapping_until_ms or 0
    cluster = {CLUSTER_LABEL: status.cluster} if status.cluster else {}
    return NodeView(
        name=node.name,
        devices=tuple(device_view(*pair) for pair in zip(status.devices, islands, strict=True)),
        cordoned=spec.cordoned or spec.drain,
        alive=answers(node),
        labels=labels_view({**cluster, **status.labels, **spec.labels}),
        taints=labels_view(spec.taints),
        cached=frozenset(status.cached),
        cpu_millis=status.cpu_cores * 1000,
        host_memory_bytes=status.memory_bytes,
        flapping_until_ms=until_ms if until_ms > now_ms else 0,
        draining=spec.drain,
    )


def _member(device: Device, catalogue: Catalogue) -> IslandMember:
    spec = catalogue.find(device.vendor, device.model)
    links = tuple((link.peer, link.kind) for link in device.links)
    return IslandMember(device.id, device.index, links, spec.rule.island_size if spec else 0)


def device_view(device: Device, island: int) -> DeviceView:
    return DeviceView(
        id=device.id,
        index=device.index,
        vendor=device.vendor,
        model=device.model,
        memory_bytes=device.memory_bytes,
        slots=device.slots,
        healthy=device.healthy,
        fault=device.fault,
        island=island,
        numa=device.numa or 0,
    )


def quota_view(quota: DeviceQuota) -> Quota:
    return Quota(
        quota.device_class,
        round(quota.nominal_devices * WHOLE_MILLIS),
        None if quota.borrowing_devices is None else round(quota.borrowing_devices * WHOLE_MILLIS),
        None if quota.lending_devices is None else round(quota.lending_devices * WHOLE_MILLIS),
    )


def spent_view(queue: Queue) -> dict[str, Spent]:
    """Device time of the queue per ``vendor/model``, as last written."""
    return {
        use.device_class: Spent(use.day_seconds, use.week_seconds, use.month_seconds, use.decayed_seconds)
        for use in queue.status.used
    }


def queue_view(queue: Queue, spent: Mapping[str, Spent], now_ms: int) -> QueueView:
    spec = queue.spec

    def spent_of(budget: DeviceBudget) -> int:
        return round(sum(u.of(budget.period) for key, u in spent.items() if _in(key, budget.device_class)))

    return QueueView(
        name=queue.name,
        max_devices=spec.max_devices,
        parent=spec.parent or "",
        weight=spec.weight,
        quotas=tuple(map(quota_view, quotas_in_force(queue))),
        budgets=tuple(
            PeriodBudget(
                budget.device_class,
                round(budget.device_hours * 3600),
                spent_of(budget),
                renews_ms(budget.period, now_ms),
            )
            for budget in spec.budgets
        ),
        decayed_use=sum(use.decayed for key, use in spent.items() if _in(key, "*")),
        is_cohort=spec.cohort,
        rules=rules_view(spec),
    )


def rules_view(spec: QueueSpec) -> QueueRules:
    rules = spec.preemption
    return QueueRules(
        queueing=spec.queueing,
        within_queue=rules.within_queue,
        reclaim_within_cohort=rules.reclaim_within_cohort,
        borrow_within_cohort=rules.borrow_within_cohort,
        borrow_max_priority=rules.borrow_max_priority,
        fair_sharing=rules.fair_sharing,
        preempt_min_runtime_seconds=rules.preempt_min_runtime_seconds,
        reclaim_min_runtime_seconds=rules.reclaim_min_runtime_seconds,
    )


def _in(model: str, device_class: str) -> bool:
    """Whether ``vendor/model`` is of that class; ``*`` are all accelerators."""
    vendor = model.partition("/")[0]
    return device_class in (model, vendor) or (device_class == "*" and vendor != "cpu")


def queue_views(
    world: World,
    spent: Mapping[str, Mapping[str, Spent]] | None = None,
    now_ms: int = 0,
    faults: dict[tuple[str, str], Exception] | None = None,
) -> tuple[QueueView, ...]:
    """All queues, and the default one also when nobody has applied it. ``spent``: per queue, where it is
    known better than the store says. Queues that cannot be looked at are left out, and put into ``faults``
    where that is given."""
    known, views = spent or {}, dict[str, QueueView]()
    for name, queue in world.queues.items():
        try:
            views[name] = queue_view(queue, known.get(name) or spent_view(queue), now_ms)
        except Exception as error:
            if faults is None:
                raise
            faults["Queue", name] = error
    views.setdefault(DEFAULT_QUEUE, QueueView(DEFAULT_QUEUE))
    return tuple(
        replace(view, parent="") if _is_own_ancestor(name, views) else view for name, view in views.items()
    )


def _is_own_ancestor(name: str, views: Mapping[str, QueueView]) -> bool:
    """Parents in a circle bound nothing: those on it stand alone until somebody mends them, and the other
    queues go on."""
    seen: set[str] = set()
    above = views[name].parent
    while above in views and above not in seen:
        seen.add(above)
        above = views[above].parent
    return name in seen


def is_due(workload: Workload, now_ms: int) -> bool:
    """Whether it waits for a place now."""
    status = workload.status
    due = status.next_start_ms is None or status.next_start_ms <= now_ms
    return status.phase == "Pending" and due and not workload.spec.suspend and not is_group(workload)
