"""Small nodes, requests, queues and workloads that are drawn from few small numbers, so that amounts are
often equal: a limit that is met exactly, two that cost the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scheduler.core.fragmentation.fragmentation import Fragmentation
from scheduler.core.fragmentation.workload_mix import USUAL, workload_mix_of
from scheduler.core.model.catalogue import Catalogue, DeviceSpec, PlacementRule
from scheduler.core.model.rules import QueueRules
from scheduler.core.model.types import (
    Affinity,
    DeviceView,
    NodeView,
    PeriodBudget,
    Policy,
    QueueView,
    Quota,
    Request,
    RoleView,
    RunningView,
    WorkloadView,
)
from scheduler.core.pool.layout import MIB
from tests.unit.scheduler.worlds import NOW_MS, RACK, World, fill

ZONE = "computility.io/zone"
TAINTS = (("spot", "yes"), ("team", "a"))
LABELS = (("app", "db"), ("app", "web"))
CACHED = ("llama", "qwen")
CATALOGUE = Catalogue(
    (
        DeviceSpec(
            "big",
            "nvidia",
            ("big",),
            (("bf16", 400.0),),
            watts=700,
            capabilities=frozenset({"fp8"}),
            price_micros_per_hour=4000,
        ),
        DeviceSpec("small", "nvidia", ("small",), (("bf16", 100.0),), watts=100, price_micros_per_hour=500),
        DeviceSpec(
            "ring", "ascend", ("ring",), (("fp16", 200.0),), rule=PlacementRule((1, 2, 4, 8), 4, "inside")
        ),
        DeviceSpec("even", "ascend", ("even",), rule=PlacementRule((1, 2, 4, 6), 4, "even"), watts=200),
        DeviceSpec("pair", "ascend", ("pair",), rule=PlacementRule((1, 2, 4, 8), 2, pair_size=2)),
    )
)
MODELS = (("nvidia", "big"), ("nvidia", "small"), ("ascend", "ring"), ("ascend", "even"), ("ascend", "pair"))
HOST_MIB, CPUS = (0, 0, 2, 4, 8), (0, 0, 1000, 2000, 4000, 8000)


def small_nodes(rng: random.Random, most: int) -> tuple[NodeView, ...]:
    """One to so many; half of the pools have one or two models only."""
    models = rng.sample(MODELS, rng.choice((1, 2, 5)))
    return tuple(small_node(rng, f"n{number}", models) for number in range(rng.randint(1, most)))


def small_node(rng: random.Random, name: str, models: Sequence[tuple[str, str]]) -> NodeView:
    """Devices of one model, sometimes of two, or none; a third have CPUs as devices."""
    devices: list[DeviceView] = []
    for vendor, model in rng.sample(models, min(len(models), rng.choice((0, 1, 1, 1, 1, 2)))):
        width = rng.choice((1, 2, 4, 4, 9))
        memory_bytes = rng.choice((8, 8, 16)) * MIB + rng.choice((0, 0, 5))
        for at in range(rng.choice((1, 2, 4, 6, 8))):
            devices.append(
                DeviceView(
                    f"{name}/{model}{at}",
                    at,
                    vendor,
                    model,
                    memory_bytes,
                    healthy=rng.random() < 0.93,
                    fault=rng.choice(("", "XID 79")),
                    island=at // width,
                )
            )
    if not devices or rng.random() < 0.3:
        devices.append(DeviceView(f"{name}/cpu", 0, "cpu", "cpu", 16 * MIB, slots=rng.choice((1, 2, 4))))
    labels = ((RACK, f"r{rng.randrange(2)}"), (ZONE, f"z{rng.randrange(2)}"))[: rng.choice((0, 1, 2, 2))]
    return NodeView(
        name,
        tuple(devices),
        cordoned=rng.random() < 0.05,
        alive=rng.random() > 0.05,
        labels=labels,
        taints=(rng.choice(TAINTS),) if rng.random() < 0.15 else (),
        cached=frozenset(one for one in CACHED if rng.random() < 0.4),
        cpu_millis=rng.choice(CPUS),
        host_memory_bytes=rng.choice(HOST_MIB) * MIB,
        flapping_until_ms=NOW_MS if rng.random() < 0.05 else 0,
    )


def small_request(rng: random.Random) -> Request:
    """Mostly of one or two things that it wants; one in six takes no devices."""
    wants: dict[str, Any] = {}
    for _ in range(rng.choice((0, 0, 1, 2))):
        wants |= rng.choice(
            (
                {"vendors": ("nvidia",)},
                {"not_vendors": ("ascend", "cpu")},
                {"models": ("BIG", "ring")[: rng.randint(1, 2)]},
                {"not_models": ("Small",)},
                {"memory_bytes": rng.choice((8, 16)) * MIB + rng.choice((0, 0, 1))},
                {"tflops": rng.choice((50.0, 100.0, 200.0)), "dtype": rng.choice(("bf16", "fp16"))},
                {"node_labels": ((RACK, "r0"),)},
                {"node_labels": ((RACK, "r1"), (ZONE, "z0"))},
                {"tolerates": rng.choice((TAINTS, (("spot", ""),), (("*", ""),)))},
                {"capabilities": ("fp8",)},
            )
        )
    kind = rng.random()
    cpu, host = rng.choice((0, 0, 0, 500, 1000, 2000)), rng.choice((0, 0, 0, MIB, 2 * MIB - 1, 2 * MIB))
    if kind < 0.15:
        return Request(0, cpu_millis=rng.choice((500, 1000)), host_memory_bytes=host, **wants)
    if kind < 0.35:
        wants["memory_bytes"] = rng.choice((0, 0, 4 * MIB, 4 * MIB + 1))
        return Request(1, share_millis=rng.choice((250, 500, 500, 750)), cpu_millis=cpu, **wants)
    if kind < 0.5:
        by = rng.choice(({"total_tflops": 400.0}, {"total_tflops": 401.0}, {"total_memory_bytes": 32 * MIB}))
        return Request(1, cpu_millis=cpu, max_count=rng.choice((0, 0, 2, 4)), **wants, **by)
    return Request(rng.choice((1, 1, 2, 2, 3, 4, 8)), cpu_millis=cpu, host_memory_bytes=host, **wants)


def small_mix(rng: random.Random) -> Fragmentation:
    """What usually comes: that of nobody, or of up to eight workloads."""
    if rng.random() < 0.2:
        return USUAL
    return workload_mix_of(small_workload(rng, f"m{number}") for number in range(rng.randrange(1, 9)))


def small_policy(rng: random.Random, scorers: Sequence[str]) -> Policy:
    """One in two weighs a few of the scorers only."""
    policy = Policy(
        topology=rng.choice(((RACK, ZONE), (ZONE,), ())),
        near_weight=rng.choice((0.0, 2.0)),
        data_weight=rng.choice((0.0, 3.0)),
        min_run_seconds=rng.choice((0, 300)),
        max_moves=rng.choice((1, 2, 8)),
        resize_seconds=rng.choice((0, 120)),
    )
    if rng.random() < 0.5:
        return policy
    return replace(policy, weights=tuple((name, rng.choice((0.0, 0.5, 1.0, 4.0))) for name in scorers))


QUEUES = ("a", "b", "c", "d", "e")


def small_queues(rng: random.Random, unit: int = 1000) -> tuple[QueueView, ...]:
    """Five queues and up to three cohorts, one inside the other, with quotas for several classes."""
    cohorts = (
        _queue(rng, "x", "", unit, is_cohort=True),
        _queue(rng, "y", rng.choice(("", "x", "x")), unit, is_cohort=True),
        _queue(rng, "z", rng.choice(("x", "y")), unit, is_cohort=True),
    )
    parents = ("x", "y", "z", "x", "y", "")
    return (*cohorts, *(_queue(rng, name, rng.choice(parents), unit) for name in QUEUES))


def _queue(rng: random.Random, name: str, parent: str, unit: int, **more: Any) -> QueueView:
    limits = (None, None, 0, 1, 2)
    classes = [one for one in ("*", "nvidia", "ascend", "nvidia/big", "cpu") if rng.random() < 0.3]
    quotas = tuple(
        Quota(
            one,
            rng.randrange(5) * unit,
            *(None if limit is None else limit * unit for limit in rng.choices(limits, k=2)),
        )
        for one in classes
    )
    budgets = tuple(
        PeriodBudget(
            rng.choice(("*", "nvidia", "ascend/ring")), 10, rng.choice((0, 9, 10, 11)), NOW_MS + 10 * at
        )
        for at in range(rng.choice((0, 0, 0, 0, 1, 2)))
    )
    return QueueView(
        name,
        parent=parent,
        weight=rng.choice((0, 1, 1, 2)),
        quotas=quotas,
        budgets=budgets,
        max_devices=rng.choice((None, None, None, 3, 6)),
        decayed_use=rng.choice((0.0, 0.0, 600.0, 6e5)),
        rules=_rules(rng),
        **more,
    )


def _rules(rng: random.Random) -> QueueRules:
    return QueueRules(
        queueing=rng.choice((None, None, "strict", "bestEffort")),
        within_queue=rng.choice((None, None, None, "lowerOrNewerEqualPriority", "never")),
        reclaim_within_cohort=rng.choice((None, None, "any", "lowerPriority", "never")),
        borrow_within_cohort=rng.choice((None, None, "lowerPriority")),
        borrow_max_priority=rng.choice((None, 0, 1)),
        fair_sharing=rng.choice((None, None, False)),
        preempt_min_runtime_seconds=rng.choice((None, None, 60)),
        reclaim_min_runtime_seconds=rng.choice((None, None, 0, 60)),
    )


def crowded_world(rng: random.Random) -> World:
    """One or two nodes that are full of what five queues of one cohort tree have borrowed from each other."""
    models = rng.choice((MODELS[:1], MODELS[:2]))
    nodes = tuple(
        NodeView(
            f"n{number}",
            tuple(
                DeviceView(f"n{number}/{at}", at, *rng.choice(models), 8 * MIB)
                for at in range(rng.choice((4, 8, 8)))
            ),
            labels=((RACK, f"r{number}"),),
        )
        for number in range(rng.choice((1, 1, 2)))
    )
    capacity_millis = 1000 * sum(len(node.devices) for node in nodes)
    all_of_it = Quota("*", rng.choice((capacity_millis, capacity_millis // 2)))
    shared = rng.choice(((all_of_it,), (all_of_it, Quota("nvidia", 9000)), (Quota("nvidia/big", 9000),)))
    cohorts = tuple(
        QueueView(
            name, parent=parent, is_cohort=True, quotas=_nominal(rng) if parent else shared, rules=_rules(rng)
        )
        for name, parent in (("x", ""), ("y", "x"), ("z", rng.choice("xy")))
    )
    queues = tuple(
        QueueView(
            name,
            parent=rng.choice("xxyyz"),
            weight=rng.choice((0, 1, 1, 2)),
            quotas=_nominal(rng),
            rules=_rules(rng),
            max_devices=rng.choice((None, None, None, 3)),
        )
        for name in QUEUES
    )
    pending = tuple(_plain_workload(rng, f"p{number}") for number in range(4))
    policy = Policy(min_run_seconds=rng.choice((0, 300, 300)), topology=(RACK,))
    members = (*cohorts, *queues)
    if rng.random() < 0.25:
        members = tuple(
            replace(one, quotas=tuple(replace(quota, device_class="nvidia/big") for quota in one.quotas[:1]))
            for one in members
        )
    world = World(nodes, members, (), pending, policy, catalogue=CATALOGUE)
    running = fill(rng, world, rng.choice((2.0, 6.0)), _plain_workload)
    return replace(world, running=tuple(_aged(rng, one) for one in running))


def _nominal(rng: random.Random) -> tuple[Quota, ...]:
    classes = rng.choice((("*",), ("*",), ("nvidia",), ("*", "nvidia/big"), ("nvidia/small",), ()))
    limits = (None,) * 9 + (1000,)
    return tuple(
        Quota(one, rng.choice((0, 1000, 2000, 3000)), rng.choice(limits), rng.choice(limits))
        for one in classes
    )


def _plain_workload(rng: random.Random, uid: str) -> WorkloadView:
    whole = rng.random() < 0.85
    request = Request(
        rng.choice((1, 1, 1, 2)) if whole else 1,
        models=rng.choice(((), (), ("big",))),
        share_millis=1000 if whole else 500,
    )
    ranks = rng.choice((1, 1, 1, 2, 3))
    role = RoleView("main", ranks, request, rng.choice((None, None, 1)))
    affinity = rng.choice((Affinity(),) * 5 + (Affinity(apart=LABELS[:1]),))
    return WorkloadView(
        uid,
        "p",
        uid,
        rng.choice(QUEUES),
        rng.choice((0, 0, 1, 2)),
        NOW_MS - rng.choice((0, 1, 2)),
        (role,),
        labels=rng.choice(((), (), LABELS[:1])),
        affinity=affinity,
        preemptible=rng.random() < 0.95,
        movable=rng.random() < 0.3,
    )


def small_workload(rng: random.Random, uid: str) -> WorkloadView:
    """Of one or two roles, which may want different devices; elastic, movable, with wishes."""
    roles = tuple(
        RoleView(name, ranks, small_request(rng), rng.choice((None, None, 0, 1, 2)))
        for name, ranks in (("main", rng.choice((1, 1, 2, 3, 4))), ("side", rng.choice((1, 2))))[
            : rng.choice((1, 1, 2))
        ]
    )
    return WorkloadView(
        uid,
        rng.choice("pq"),
        uid,
        rng.choice((*QUEUES, *QUEUES, *QUEUES, "gone")),
        rng.choice((0, 0, 1, 2)),
        NOW_MS - rng.choice((-1, 0, 1, 1000, 1000)),
        roles,
        allowed_queues=rng.choice(((), (), (), QUEUES[:4])),
        labels=rng.choice(((), (), (rng.choice(LABELS),), LABELS)),
        affinity=rng.choice((Affinity(), Affinity(), _affinity(rng))),
        preemptible=rng.random() < 0.8,
        movable=rng.random() < 0.5,
        expected_seconds=rng.choice((None, 60, 120, 121, 600)),
        deadline_ms=rng.choice((None, None, NOW_MS, NOW_MS + 1000)),
        kind=rng.choice(("training", "inference", "other")),
        grace_seconds=rng.choice((0, 10)),
    )


def _affinity(rng: random.Random) -> Affinity:
    label = rng.choice(LABELS)
    return rng.choice(
        (
            Affinity(data=(rng.choice(CACHED),)),
            Affinity(data=CACHED, near=(label,)),
            Affinity(near=LABELS),
            Affinity(apart=(label,)),
            Affinity(apart=(label,), spread=rng.choice((RACK, ZONE))),
            Affinity(same=rng.choice((RACK, ZONE))),
            Affinity(same=RACK, beside=(label,)),
            Affinity(same=rng.choice((RACK, ZONE)), data=CACHED, near=(label,)),
            Affinity(beside=(label,), data=CACHED[:1], spread=rng.choice(("", RACK))),
            Affinity(slice_same=ZONE, slice_size=2, near=(label,), apart=LABELS[:1]),
            Affinity(spread=RACK, data=CACHED[1:], near=LABELS),
            Affinity(beside=(label,)),
            Affinity(beside=LABELS),
            Affinity(slice_same=rng.choice((RACK, ZONE)), slice_size=rng.choice((1, 2, 3))),
            Affinity(spread=rng.choice((RACK, ZONE))),
        )
    )


def small_world(rng: random.Random, scorers: Sequence[str] = (), *, nodes: int = 4) -> World:
    """Up to so many nodes, offered up to twice what they have, on the pool of ``CATALOGUE``."""
    queues = small_queues(rng)
    if rng.random() < 0.4:
        queues = tuple(replace(one, quotas=(), max_devices=None, budgets=()) for one in queues)
    pending = tuple(small_workload(rng, f"p{number}") for number in range(rng.randint(2, 5)))
    world = World(
        small_nodes(rng, nodes), queues, (), pending, small_policy(rng, scorers), catalogue=CATALOGUE
    )
    running = fill(rng, world, rng.choice((0.7, 1.5, 2.5)), small_workload)
    return replace(world, running=tuple(_aged(rng, one) for one in running))


def _aged(rng: random.Random, one: RunningView) -> RunningView:
    """Ages at which something changes, or a millisecond before or after."""
    age_ms = rng.choice((0, 1, 59_999, 60_000, 60_001, 120_000, 299_999, 300_000, 3_600_000))
    leaves = rng.random() < 0.12
    return replace(
        one,
        started_ms=NOW_MS - age_ms,
        resized_ms=rng.choice((0, 0, NOW_MS - 120_000, NOW_MS - 119_999)),
        leaving=leaves,
        ends_ms=rng.choice((None, NOW_MS + 1, NOW_MS + 60_000)) if leaves else None,
    )
