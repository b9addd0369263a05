"""Random worlds for tests of what the scheduler decides: nodes of three vendors with islands and CPUs, queues
in cohorts, workloads of every shape, some of which run already.

A world follows from its seed alone. What runs was placed by the scheduler's own placer and keeps within its
queue's quota, mostly; so what a test finds wrong was made wrong by what is tested.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from scheduler.core.model.catalogue import Catalogue, DeviceSpec, PlacementRule
from scheduler.core.model.types import (
    Affinity,
    Assignment,
    DeviceView,
    NodeView,
    Placement,
    Policy,
    QueueView,
    Quota,
    Request,
    RoleView,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.snapshot import Snapshot, take_snapshot
from scheduler.core.placement.trial import Trial

GIB = 1 << 30
NOW_MS = 100_000_000
RACK = "computility.io/rack"
CATALOGUE = Catalogue(
    (
        DeviceSpec("H100", "nvidia", ("h100",), tflops=(("bf16", 989.0),), watts=700),
        DeviceSpec("MI300X", "amd", ("mi300x",), tflops=(("bf16", 1307.0),), watts=750),
        DeviceSpec(
            "910A",
            "ascend",
            ("910a",),
            tflops=(("fp16", 256.0),),
            rule=PlacementRule((1, 2, 4, 8), 4, "inside"),
        ),
        DeviceSpec("910C", "ascend", ("910c",), rule=PlacementRule((1, 2, 4, 8), 2, pair_size=2)),
    )
)
MODELS = (("nvidia", "H100", 80), ("amd", "MI300X", 192), ("ascend", "910A", 32), ("ascend", "910C", 64))
QUEUES = ("alpha", "beta", "gamma", "delta", "free")


@dataclass(frozen=True)
class World:
    """``pending`` are not placed; ``policy`` has a least run time of five minutes."""

    nodes: tuple[NodeView, ...]
    queues: tuple[QueueView, ...]
    running: tuple[RunningView, ...]
    pending: tuple[WorkloadView, ...]
    policy: Policy = field(default_factory=Policy)
    now_ms: int = NOW_MS
    catalogue: Catalogue = CATALOGUE

    def snapshot(self) -> Snapshot:
        """A snapshot with a pool of its own."""
        return take_snapshot(self.nodes, self.queues, self.pending, self.running, catalogue=self.catalogue)

    def trial(self) -> Trial:
        return Trial(self.snapshot(), self.policy, self.now_ms)


def worlds(nodes: int = 6, busy: float = 1.2, pending: int = 4) -> st.SearchStrategy[World]:
    """Up to so many nodes; ``busy``: workloads offered to them until they are about that full."""
    return st.integers(0, 2**32 - 1).map(lambda seed: make_world(random.Random(seed), nodes, busy, pending))


def make_world(rng: random.Random, nodes: int = 6, busy: float = 1.2, pending: int = 4) -> World:
    """One world; see ``worlds``."""
    pool = tuple(_node(rng, number) for number in range(rng.randint(1, nodes)))
    queues = make_queues(rng, 1000 * sum(len(node.devices) for node in pool))
    waiting = (make_workload(rng, f"p{number}") for number in range(rng.randint(1, pending)))
    important = tuple(replace(one, priority=rng.choice((0, 1, 5, 9))) for one in waiting)
    world = World(pool, queues, (), important)
    return replace(world, running=fill(rng, world, busy))


def _node(rng: random.Random, number: int) -> NodeView:
    vendor, model, gib = rng.choice(MODELS)
    name = f"n{number}"
    devices = tuple(
        DeviceView(
            f"{name}/{i}",
            i,
            vendor,
            model,
            gib * GIB,
            healthy=rng.random() > 0.03,
            island=i // 4,
            numa=i // 4,
        )
        for i in range(rng.choice((2, 4, 8, 8)))
    )
    if rng.random() < 0.2:
        cpu = DeviceView(f"{name}/cpu", 0, "cpu", "cpu", 64 * GIB, slots=8)
        devices = (*devices, cpu)
    return NodeView(
        name,
        devices,
        cordoned=rng.random() < 0.04,
        labels=((RACK, f"rack-{number // 2}"),),
        cpu_millis=rng.choice((0, 64_000)),
        host_memory_bytes=rng.choice((0, 512 * GIB)),
    )


def make_queues(rng: random.Random, capacity_millis: int) -> tuple[QueueView, ...]:
    """Four queues in two cohorts, which may be one within the other, and one without limits."""
    parts = [rng.random() + 0.1 for _ in range(4)]
    nominal = [int(capacity_millis * part / sum(parts)) // 1000 * 1000 for part in parts]
    limits = (None, None, 0, 2000, 8000)
    return (
        QueueView("left", is_cohort=True),
        QueueView("right", parent=rng.choice(("", "left")), is_cohort=True),
        *(
            QueueView(
                name,
                parent=rng.choice(("left", "right")),
                weight=rng.randint(1, 3),
                quotas=(Quota("*", amount, rng.choice(limits), rng.choice(limits)),),
                max_devices=rng.choice((None, None, None, 12)),
            )
            for name, amount in zip(QUEUES, nominal, strict=False)
        ),
        QueueView("free"),
    )


def make_request(rng: random.Random) -> Request:
    """Whole devices mostly, of any vendor, one or a model; a third are fractions or of the CPU."""
    kind = rng.random()
    vendors: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    if rng.random() < 0.3:
        vendors = (rng.choice(("nvidia", "amd", "ascend")),)
    elif rng.random() < 0.2:
        models = (rng.choice(MODELS)[1],)
    cpu = rng.choice((0, 0, 2000))
    host = rng.choice((0, 0, 16 * GIB))
    if kind < 0.2:
        share = rng.choice((250, 500, 700))
        memory = rng.choice((0, 0, 20 * GIB))
        return Request(1, vendors, models=models, share_millis=share, memory_bytes=memory, cpu_millis=cpu)
    if kind < 0.3:
        return Request(rng.randint(0, 3), ("cpu",), cpu_millis=cpu)
    count = rng.choice((1, 1, 2, 4, 8))
    return Request(
        count, vendors or ("nvidia", "amd", "ascend"), models=models, cpu_millis=cpu, host_memory_bytes=host
    )


def make_workload(rng: random.Random, uid: str) -> WorkloadView:
    """Gangs of one or two roles, rigid or elastic, with and without wishes for their surroundings."""
    roles = []
    for name in ("main", "side")[: rng.choice((1, 1, 1, 2))]:
        replicas = rng.choice((1, 1, 2, 3))
        least = rng.choice((None, 1)) if replicas > 1 else None
        roles.append(RoleView(name, replicas, make_request(rng), least))
    affinity = Affinity(same=rng.choice(("",) * 6 + (RACK,)), spread=rng.choice(("",) * 6 + (RACK,)))
    labels = rng.choice(((),) * 5 + ((("app", "db"),),))
    if labels and rng.random() < 0.5:
        affinity = replace(affinity, apart=labels)
    return WorkloadView(
        uid,
        "project",
        uid,
        rng.choice(QUEUES),
        rng.choice((0, 0, 1, 5)),
        rng.randrange(NOW_MS),
        tuple(roles),
        labels=labels,
        affinity=affinity,
        preemptible=rng.random() > 0.1,
        movable=rng.random() < 0.3,
        expected_seconds=rng.choice((None, 60, 3600)),
        kind=rng.choice(("training", "inference", "other")),
    )


def fill(
    rng: random.Random,
    world: World,
    busy: float,
    make: Callable[[random.Random, str], WorkloadView] = make_workload,
) -> tuple[RunningView, ...]:
    """Workloads of every age; a few are leaving."""
    trial = world.trial()
    offered, room = 0, busy * 1000 * sum(len(node.devices) for node in world.nodes)
    number = 0
    while offered < room:
        workload = make(rng, f"r{number}")
        number += 1
        offered += sum(
            r.replicas * max(250, r.request.count * r.request.share_millis) for r in workload.roles
        )
        bounds = trial.bounds_for(workload)
        if not isinstance(bounds, Bounds):
            continue
        placed = trial.place(workload, bounds)
        if isinstance(placed, tuple):
            trial.admit(workload, placed)
    return tuple(_aged(rng, running) for running in trial.running.values())


def _aged(rng: random.Random, running: RunningView) -> RunningView:
    started_ms = NOW_MS - rng.choice((1, 10_000, 299_000, 300_000, 3_600_000)) - rng.randrange(1000)
    if rng.random() < 0.05:
        return replace(running, started_ms=started_ms, leaving=True, ends_ms=NOW_MS + 10_000)
    return replace(running, started_ms=started_ms)


# -- what a test looks at


def fingerprint(trial: Trial, queues: Iterable[QueueView]) -> object:
    """All that a failed attempt must leave as it was."""
    pool = trial.pool
    nodes = [(list(usage.used), list(usage.entries), usage.cpu_used_millis) for usage in pool.usage]
    hosts = [usage.host_used_mebibytes for usage in pool.usage]
    usage = {queue.name: trial.tree.usage(queue.name) for queue in queues}
    return nodes, hosts, list(pool.listed), usage, dict(trial.running)


def overused(nodes: Iterable[NodeView], placements: Iterable[Placement]) -> list[str]:
    """Devices that more is given out of than there is, counted from placements alone."""
    room = {device.id: (device.capacity_millis, device.memory_bytes) for n in nodes for device in n.devices}
    held: dict[str, tuple[int, int]] = {}
    for placement in placements:
        for assignment in placement:
            for share in assignment.shares:
                millis, memory = held.get(share.device, (0, 0))
                held[share.device] = millis + share.millis, memory + share.memory_bytes
    return sorted(
        device
        for device, (millis, memory) in held.items()
        if millis > room[device][0] or memory > room[device][1]
    )


def ranks_of(placement: Iterable[Assignment], role: str) -> int:
    return sum(assignment.role == role for assignment in placement)
