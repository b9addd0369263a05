"""Small full worlds in which many queues, with every rule that they may have, want the same few devices."""

from __future__ import annotations

import random
from dataclasses import replace

from scheduler.core.model.rules import QueueRules
from scheduler.core.model.types import (
    DeviceView,
    NodeView,
    Policy,
    QueueView,
    Quota,
    Request,
    RoleView,
    WorkloadView,
)
from tests.unit.scheduler.worlds import GIB, NOW_MS, QUEUES, RACK, World, fill, make_queues

RULES = QueueRules()


def crowded_world(rng: random.Random) -> World:
    """One to four nodes of one or two models, which are offered up to twice what they have."""
    shares = rng.random() < 0.2
    models = ("H100",) if rng.random() < 0.8 else ("H100", "L20")
    nodes = tuple(
        _node(f"n{number}", rng.choice(models), rng) for number in range(rng.choice((1, 1, 2, 3, 4)))
    )
    queues = _queues(rng, 1000 * sum(len(node.devices) for node in nodes), models)
    pending = tuple(_workload(rng, f"p{number}", shares=shares) for number in range(rng.randint(2, 8)))
    policy = Policy(
        defragment=rng.random() < 0.3,
        min_run_seconds=rng.choice((0, 300)),
        resize_seconds=rng.choice((0, 120)),
        reserve=rng.choice((0, 1, 3)),
    )
    world = World(nodes, queues, (), pending, policy)
    running = fill(rng, world, rng.choice((1.0, 2.0)), lambda draw, uid: _workload(draw, uid, shares=shares))
    old = rng.random() < 0.5
    return replace(
        world,
        running=tuple(replace(one, started_ms=one.started_ms - 3_600_000 * old) for one in running),
    )


def _node(name: str, model: str, rng: random.Random) -> NodeView:
    devices = tuple(
        DeviceView(f"{name}/{number}", number, "nvidia", model, 80 * GIB, island=number // 4)
        for number in range(rng.choice((1, 2, 4, 4, 8)))
    )
    return NodeView(name, devices, labels=((RACK, f"rack-{name[-1] in '01'}"),))


def _queues(rng: random.Random, capacity_millis: int, models: tuple[str, ...]) -> tuple[QueueView, ...]:
    """Some with quotas for a model only, or without; half of the worlds without other limits."""
    free = rng.random() < 0.5
    bare = rng.random() < 0.05
    queues = []
    for queue in make_queues(rng, capacity_millis):
        quotas = () if bare or rng.random() < 0.1 else queue.quotas
        if free:
            quotas = tuple(replace(one, borrowing_millis=None, lending_millis=None) for one in quotas)
        if rng.random() < 0.1:
            quotas = tuple(replace(one, device_class=f"nvidia/{rng.choice(models)}") for one in quotas)
        if rng.random() < 0.1 and quotas and quotas[0].device_class == "*":
            quotas = (*quotas, Quota("nvidia/L20", rng.choice((0, 1000, 2000))))
        rules = _rules(rng) if queue.parent else RULES
        limit = None if free else queue.max_devices
        queues.append(replace(queue, quotas=quotas, max_devices=limit, rules=rules))
    return tuple(queues)


def _rules(rng: random.Random) -> QueueRules:
    return QueueRules(
        queueing=rng.choice((None, None, None, "strict")),
        within_queue=rng.choice((None, None, None, "lowerOrNewerEqualPriority", "never")),
        reclaim_within_cohort=rng.choice((None, None, "any", "lowerPriority", "never")),
        borrow_within_cohort=rng.choice((None, None, None, "lowerPriority")),
        borrow_max_priority=rng.choice((None, None, 1)),
        fair_sharing=rng.choice((None, None, False)),
        preempt_min_runtime_seconds=rng.choice((None, None, 120)),
        reclaim_min_runtime_seconds=rng.choice((None, None, 0)),
    )


def _workload(rng: random.Random, uid: str, *, shares: bool) -> WorkloadView:
    """Gangs of up to four ranks, some elastic; without an end."""
    ranks = rng.choice((1, 1, 1, 2, 3, 4))
    millis = rng.choice((250, 500, 700)) if shares and rng.random() < 0.4 else 1000
    count = rng.choice((1, 1, 2, 4)) if millis == 1000 else 1
    models = rng.choice(((), (), (), ("H100",)))
    request = Request(count, ("nvidia",), models=models, share_millis=millis)
    return WorkloadView(
        uid,
        "project",
        uid,
        rng.choice(QUEUES if rng.random() < 0.7 else QUEUES[:4]),
        rng.choice((0, 0, 0, 1, 5, 9)),
        rng.randrange(NOW_MS),
        (RoleView("main", ranks, request, rng.choice((None, None, 1)) if ranks > 1 else None),),
        preemptible=rng.random() > 0.07,
        movable=rng.random() < 0.2,
    )
