"""Random worlds with all that may be asked for: tainted, labelled and cached nodes, requests by what devices
can do, wishes for the surroundings, budgets, deadlines, calendars of inference."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from scheduler.core.model.types import (
    Affinity,
    DeviceView,
    NodeView,
    PeriodBudget,
    Policy,
    QueueView,
    Request,
    RoleView,
    Tide,
    WorkloadView,
)
from tests.unit.scheduler.worlds import (
    GIB,
    NOW_MS,
    QUEUES,
    RACK,
    World,
    fill,
    make_queues,
    make_workload,
    make_world,
)

ZONE = "computility.io/zone"
ISLAND = "computility.io/island"
CACHED = ("llama", "qwen")
TAINTS = (("team", "research"), ("spot", "yes"))
LABELS = (("app", "db"), ("app", "web"))


def rich_world(rng: random.Random) -> World:
    """Up to eight nodes, full or half full."""
    bare = make_world(rng, 8, 0.0, 6)
    nodes = tuple(_furnished(rng, node, number) for number, node in enumerate(bare.nodes))
    capacity_millis = 1000 * sum(len(node.devices) for node in nodes)
    queues = tuple(_budgeted(rng, queue, capacity_millis) for queue in make_queues(rng, capacity_millis))
    pending = tuple(rich_workload(rng, f"p{number}") for number in range(rng.randint(3, 8)))
    world = World(nodes, queues, (), pending, _policy(rng, capacity_millis))
    filled = replace(world, policy=Policy(topology=world.policy.topology))
    return replace(world, running=fill(rng, filled, rng.choice((0.4, 0.9, 1.5)), rich_workload))


def _furnished(rng: random.Random, node: NodeView, number: int) -> NodeView:
    labels = ((ISLAND, f"island-{number % 2}"), (RACK, f"rack-{number // 2}"), (ZONE, f"zone-{number // 4}"))
    return replace(
        node,
        labels=labels if rng.random() < 0.9 else (),
        taints=(rng.choice(TAINTS),) if rng.random() < 0.2 else (),
        cached=frozenset(name for name in CACHED if rng.random() < 0.4),
        cpu_millis=rng.choice((0, 4000, 64_000)),
        host_memory_bytes=rng.choice((0, 40 * GIB, 512 * GIB)),
        flapping_until_ms=NOW_MS + 90_000 if rng.random() < 0.1 else 0,
    )


def _budgeted(rng: random.Random, queue: QueueView, capacity_millis: int) -> QueueView:
    queue = replace(queue, decayed_use=rng.choice((0.0, 0.0, 3600.0, 90_000.0)))
    if queue.is_cohort or rng.random() < 0.7:
        return queue
    limit = capacity_millis * 3
    spent = rng.choice((0, limit // 2, limit - 60, limit))
    budget = PeriodBudget(rng.choice(("*", "nvidia")), limit, spent, NOW_MS + rng.choice((90_000, 10**9)))
    return replace(queue, budgets=(budget,))


def _policy(rng: random.Random, capacity_millis: int) -> Policy:
    tides = (Tide(rng.choice(("*", "nvidia", "amd")), capacity_millis // rng.choice((3, 6))),)
    return Policy(
        defragment=rng.random() < 0.5,
        reserve=rng.choice((0, 1, 2)),
        max_delay_seconds=rng.choice((0, 0, 3600)),
        claims=rng.choice((64, 64, 1)),
        max_moves=rng.choice((8, 2)),
        min_run_seconds=rng.choice((0, 300)),
        tides=tides if rng.random() < 0.4 else (),
    )


def rich_workload(rng: random.Random, uid: str) -> WorkloadView:
    """One of ``make_workload`` that asks for more."""
    workload = make_workload(rng, uid)
    affinity = rng.choice(
        (
            workload.affinity,
            workload.affinity,
            Affinity(data=(rng.choice(CACHED),)),
            Affinity(near=(rng.choice(LABELS),)),
            Affinity(beside=(rng.choice(LABELS),)),
            Affinity(apart=(rng.choice(LABELS),), spread=ZONE),
            Affinity(same=rng.choice((RACK, ZONE, ISLAND))),
            Affinity(slice_same=RACK, slice_size=rng.choice((1, 2))),
        )
    )
    tolerates = rng.choice(((), (), TAINTS, (("spot", ""),), (("*", ""),)))
    wants = _wants(rng)
    roles = tuple(
        replace(role, request=_asking(role.request, {**wants, "tolerates": tolerates}))
        for role in workload.roles
    )
    return replace(
        workload,
        roles=roles,
        affinity=affinity,
        labels=rng.choice((workload.labels, (rng.choice(LABELS),))),
        priority=rng.choice((0, 0, 1, 5, 9)),
        deadline_ms=rng.choice((None, None, None, NOW_MS + rng.choice((-1, 60_000, 7_200_000)))),
        grace_seconds=rng.choice((10, 10, 90)),
    )


def _wants(rng: random.Random) -> dict[str, Any]:
    return rng.choice(
        (
            {},
            {},
            {},
            {"not_models": ("H100",)},
            {"not_vendors": ("ascend",)},
            {"memory_bytes": 70 * GIB},
            {"tflops": 300.0},
            {"total_memory_bytes": rng.choice((150, 320)) * GIB, "max_count": 8},
            {"total_tflops": 1900.0},
            {"node_labels": ((ZONE, "zone-0"),)},
        )
    )


def _asking(request: Request, wants: dict[str, Any]) -> Request:
    if request.share_millis < 1000 or request.vendors == ("cpu",):
        return replace(request, tolerates=wants["tolerates"])
    return replace(request, **wants)


def lively_world(rng: random.Random) -> World:
    """Nodes of one model on which everything can move, shrink and grow, and everything ends."""
    nodes = tuple(
        NodeView(
            f"n{number}",
            tuple(
                DeviceView(f"n{number}/{place}", place, "nvidia", "H100", 80 * GIB, island=place // 4)
                for place in range(rng.choice((4, 8, 8)))
            ),
            labels=((RACK, f"rack-{number // 2}"),),
        )
        for number in range(rng.randint(2, 6))
    )
    capacity_millis = 1000 * sum(len(node.devices) for node in nodes)
    queues = make_queues(rng, capacity_millis)
    if rng.random() < 0.5:
        queues = tuple(replace(queue, quotas=(), max_devices=None) for queue in queues)
    tides = (Tide("nvidia", capacity_millis // rng.choice((2, 3, 6))),)
    policy = Policy(
        reserve=rng.choice((0, 1, 3)),
        max_delay_seconds=rng.choice((0, 0, 3600)),
        min_run_seconds=rng.choice((0, 300)),
        resize_seconds=rng.choice((0, 120)),
        max_moves=rng.choice((1, 8)),
        preempt=rng.random() < 0.6,
        tides=tides if rng.random() < 0.4 else (),
    )
    pending = tuple(lively_workload(rng, f"p{number}") for number in range(rng.randint(2, 8)))
    world = World(nodes, queues, (), pending, policy)
    return replace(world, running=fill(rng, world, rng.choice((0.7, 1.0, 1.5)), lively_workload))


def lively_workload(rng: random.Random, uid: str) -> WorkloadView:
    """Elastic and movable, mostly; a quarter are shares of a device."""
    ranks = rng.choice((1, 1, 2, 3, 6))
    whole = rng.random() < 0.75
    request = Request(
        rng.choice((1, 1, 2, 4, 8)) if whole else 1,
        ("nvidia",),
        share_millis=1000 if whole else rng.choice((250, 500, 700)),
    )
    least = 1 if ranks > 1 and rng.random() < 0.6 else None
    roles: tuple[RoleView, ...] = (RoleView("main", ranks, request, least),)
    if rng.random() < 0.15:
        roles = (*roles, RoleView("side", 2, Request(1, ("nvidia",)), rng.choice((0, 1, 2))))
    return WorkloadView(
        uid,
        "project",
        uid,
        rng.choice(QUEUES),
        rng.choice((0, 0, 0, 1, 5)),
        rng.randrange(NOW_MS),
        roles,
        affinity=Affinity(same=RACK) if rng.random() < 0.1 else Affinity(),
        preemptible=rng.random() < 0.9,
        movable=rng.random() < 0.7,
        expected_seconds=rng.choice((None, 90, 600, 1200, 4000)),
        kind=rng.choice(("training", "training", "inference", "other")),
    )
