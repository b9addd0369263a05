"""The pool and the load of ``bench.scheduler``: three vendors, ten device models, 200 queues in 20
cohorts."""

from __future__ import annotations

import random
from collections.abc import Iterator

from scheduler.catalogue import load_catalogue
from scheduler.core.model.catalogue import Catalogue
from scheduler.core.model.types import (
    Assignment,
    DeviceView,
    NodeView,
    QueueView,
    Quota,
    Request,
    RoleView,
    RunningView,
    Share,
    WorkloadView,
)
from scheduler.translate.views import shared_roles

GIB = 1 << 30
MODELS: tuple[tuple[str, str, int], ...] = (
    ("nvidia", "H100 80GB HBM3", 80),
    ("nvidia", "H200", 141),
    ("nvidia", "A100-SXM4-80GB", 80),
    ("nvidia", "L20", 48),
    ("ascend", "910B3", 64),
    ("ascend", "910A", 32),
    ("ascend", "910B2", 64),
    ("amd", "MI300X", 192),
    ("amd", "MI210", 64),
    ("amd", "MI325X", 256),
)
QUEUES, COHORTS = 200, 20
NODES_PER_RACK = 16
GANG_DEVICES = ((2, 60), (4, 18), (8, 12), (16, 5), (32, 3), (64, 2))
"""(devices, weight): gangs of 2 to 64 devices, few of them large."""
SHARES = (100, 200, 250, 300, 400, 500, 500, 600, 700, 800)


def make_nodes(count: int, devices: int) -> list[NodeView]:
    """Racks of sixteen nodes of one model."""
    return [_node(number, devices) for number in range(count)]


def _node(number: int, devices: int) -> NodeView:
    rack = number // NODES_PER_RACK
    vendor, model, gib = MODELS[rack % len(MODELS)]
    name = f"node-{number:05d}"
    return NodeView(
        name,
        tuple(
            DeviceView(f"{name}/{i}", i, vendor, model, gib * GIB, island=i // 4 if model == "910A" else 0)
            for i in range(devices)
        ),
        labels=(("computility.io/rack", f"rack-{rack:04d}"),),
        cpu_millis=16_000 * devices,
        host_memory_bytes=256 * GIB * devices,
    )


def make_queues(devices: int) -> list[QueueView]:
    """Cohorts of ten queues, each queue with an equal part of all devices as its own, free to borrow and
    lend."""
    cohorts = [QueueView(f"cohort-{i:02d}", is_cohort=True) for i in range(COHORTS)]
    nominal = devices * 1000 // QUEUES
    queues = [
        QueueView(
            f"queue-{i:03d}",
            parent=f"cohort-{i % COHORTS:02d}",
            weight=1 + i % 3,
            quotas=(Quota("*", nominal),),
        )
        for i in range(QUEUES)
    ]
    return [*cohorts, *queues]


def make_workloads(count: int, seed: int) -> Iterator[WorkloadView]:
    """10 % gangs, 20 % fractions of a device, the rest one whole device; four in ten name a vendor, two a
    model."""
    rng = random.Random(seed)
    for number in range(count):
        kind = rng.random()
        if kind < 0.1:
            devices = rng.choices([n for n, _ in GANG_DEVICES], [w for _, w in GANG_DEVICES])[0]
            per_rank = min(8, devices)
            role = RoleView("worker", devices // per_rank, _request(rng, per_rank, 1000))
        elif kind < 0.3:
            role = RoleView("engine", 1, _request(rng, 1, rng.choice(SHARES)))
        else:
            role = RoleView("main", 1, _request(rng, 1, 1000))
        yield WorkloadView(
            uid=f"wl-{number:06d}",
            project=f"project-{number % 40}",
            name=f"w{number}",
            queue=f"queue-{rng.randrange(QUEUES):03d}",
            priority=0,
            created_ms=number,
            roles=shared_roles((role,)),
        )


def _request(rng: random.Random, count: int, share_millis: int) -> Request:
    vendors: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    choice = rng.random()
    if choice < 0.4:
        vendors = (rng.choice(("nvidia", "ascend", "amd")),)
    elif choice < 0.6:
        models = (rng.choice(MODELS)[1],)
    cpu = 8000 * count * share_millis // 1000
    return Request(count=count, vendors=vendors, models=models, share_millis=share_millis, cpu_millis=cpu)


def fill(nodes: list[NodeView], queue: str) -> list[RunningView]:
    """Single-device workloads of no importance on every device."""
    running = []
    for number, node in enumerate(nodes):
        for device in node.devices:
            uid = f"filler-{number}-{device.index}"
            request = Request(models=(device.model,), cpu_millis=8000)
            workload = WorkloadView(
                uid, "fill", uid, queue, 0, number, (RoleView("main", 1, request),), expected_seconds=86_400
            )
            share = Share(device.id, device.index, device.vendor, device.model, device.memory_bytes)
            placement = (Assignment("main", 0, 0, node.name, (share,), 8000),)
            running.append(RunningView(workload, placement, started_ms=number))
    return running


def large_gang(ranks: int, count: int, queue: str, priority: int) -> WorkloadView:
    """A gang of whole nodes of any vendor."""
    role = RoleView("worker", ranks, Request(count=count, cpu_millis=8000 * count))
    return WorkloadView("large", "train", "large", queue, priority, 10**9, (role,))


def catalogue() -> Catalogue:
    """The one that is shipped."""
    return load_catalogue()
