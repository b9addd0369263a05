"""One run of one policy: all arrivals of a seed, recorded by how much has arrived."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import numpy as np

from bench.fragmentation import policies
from bench.fragmentation.arrivals import arrivals, gpu_millis_of
from bench.fragmentation.bound import most_used_millis
from bench.fragmentation.cluster import Cluster, Policy
from bench.fragmentation.moving import MAX_DELAY_SECONDS, MovingCluster, Tally
from bench.fragmentation.product import ProductCluster, usual_mix
from bench.traces import TraceNode, TraceTask
from common.errors import InvalidInput
from scheduler.core.fragmentation.fragmentation import Fragmentation, TypicalTask, typical_tasks

FULL = 100
"""Per cent of the cluster's GPUs that have been asked for, where policies are compared."""
EARLY = 80
"""Where the fragment ratio is compared: later nearly all that is free is a fragment."""
NEARLY = 95
"""Where it shows what delay costs: room that is free, and tasks that wait."""
PAPER_COVERAGE = 0.95
BOUND_STEPS = 4

MAKERS: dict[str, Callable[[Sequence[TraceTask], np.random.Generator], Policy]] = {
    "random": lambda tasks, draw: policies.Random(draw),
    "dotprod": lambda tasks, draw: policies.DotProduct(),
    "gpuclustering": lambda tasks, draw: policies.GpuClustering(),
    "gpupacking": lambda tasks, draw: policies.GpuPacking(),
    "bestfit": lambda tasks, draw: policies.BestFit(),
    "fgd": lambda tasks, draw: policies.fragmentation_gradient(workload_mix_of(tasks, PAPER_COVERAGE)),
}
"""The policies of the paper."""
OURS = "computility"
"""The product's scheduler itself."""
POLICIES = (*MAKERS, OURS)


@dataclass(frozen=True)
class Scene:
    """What a seed makes of the trace: tasks in order of arrival, nodes in the fixed order of the run."""

    tasks: list[TraceTask]
    nodes: list[TraceNode]
    capacity_millis: int
    draw: np.random.Generator


@dataclass(frozen=True)
class Run:
    """Curves by per cent arrived (whole numbers): unallocated GPUs and fragments in per cent of all GPUs, and
    fragments in per cent of what is free."""

    unallocated_percent: dict[int, float]
    fragment_percent: dict[int, float]
    fragment_ratio: dict[int, float]
    placed: int
    seconds: float


def workload_mix_of(tasks: Sequence[TraceTask], coverage: float) -> Fragmentation:
    """The target workload: how often each kind of task comes in the trace. Memory is no part of it."""
    kinds = (TypicalTask(1.0, t.cpu_millis, t.count, t.share_millis, t.models) for t in tasks)
    return Fragmentation(typical_tasks(kinds, coverage))


def scene(nodes: Sequence[TraceNode], tasks: Sequence[TraceTask], seed: int) -> Scene:
    """The same for every policy of a seed."""
    draw = np.random.default_rng(seed)
    capacity = gpu_millis_of(nodes)
    order = arrivals(tasks, capacity, draw)
    return Scene(order, [nodes[i] for i in draw.permutation(len(nodes))], capacity, draw)


def run(nodes: Sequence[TraceNode], tasks: Sequence[TraceTask], policy: str, seed: int) -> Run:
    """All arrivals under one of ``POLICIES``."""
    began = time.perf_counter()
    stage, measure = scene(nodes, tasks, seed), workload_mix_of(tasks, PAPER_COVERAGE)
    if policy == OURS:
        ours = ProductCluster(stage.nodes, usual_mix(tasks), measure)
        return record(stage, ours, ours.offer, began)
    cluster = Cluster(stage.nodes, MAKERS[policy](tasks, stage.draw), measure)
    return record(stage, cluster, lambda _, task: cluster.offer(task) is not None, began)


def record(
    stage: Scene,
    cluster: Cluster | ProductCluster,
    offer: Callable[[str, TraceTask], bool],
    began: float,
    until: int = 1000,
) -> Run:
    """Offer all tasks in their order, each with a name of its own, until so many per cent have arrived."""
    values: dict[int, list[tuple[int, float]]] = defaultdict(list)
    placed = 0
    for number, (percent, task) in enumerate(zip(arrived_percent(stage), stage.tasks, strict=True)):
        if percent > until:
            break
        placed += offer(f"task-{number}", task)
        values[percent].append((cluster.used_millis, cluster.fragment_millis))
    for percent in (EARLY, NEARLY, FULL):
        values[percent] = [value for near in _near(values, percent) for value in values[near]]
    means = {percent: np.mean(seen, axis=0) / stage.capacity_millis for percent, seen in values.items()}
    return Run(
        {percent: float(100 * (1 - used)) for percent, (used, _) in means.items()},
        {percent: float(100 * fragments) for percent, (_, fragments) in means.items()},
        {p: float(100 * fragments / (1 - used)) for p, (used, fragments) in means.items() if used < 1},
        placed,
        time.perf_counter() - began,
    )


def arrived_percent(stage: Scene) -> list[int]:
    """After each task: what has been asked for, dropped or not, in whole per cent of the cluster's GPUs."""
    asked = np.cumsum([task.gpu_millis for task in stage.tasks])
    return np.floor(100 * asked / stage.capacity_millis + 0.5).astype(int).tolist()


def _near(percents: Container[int], wanted: int) -> list[int]:
    """The per cent itself where there were arrivals at it, else those beside it."""
    if wanted in percents:
        return [wanted]
    near = [percent for percent in (wanted - 1, wanted + 1) if percent in percents]
    if not near:
        raise InvalidInput(f"no task arrives near {wanted} % of the cluster: it is too small for these tasks")
    return near


def bound(nodes: Sequence[TraceNode], tasks: Sequence[TraceTask], seed: int, running: int = 0) -> float:
    """The least per cent unallocated that any policy can have where ``FULL`` has arrived. ``running``: if
    the first so many tasks have been placed and are not given up.

    A policy's figure is a mean over the arrivals that round to ``FULL``. They are cut into ``BOUND_STEPS``
    parts; what is used within a part is at most what can be used with all that has arrived by its end."""
    stage = scene(nodes, tasks, seed)
    percents = arrived_percent(stage)
    near = _near(percents, FULL)
    window = [i for i, percent in enumerate(percents) if percent in near]
    parts = [part for part in np.array_split(np.array(window), BOUND_STEPS) if len(part)]
    most = sum(
        len(part) * most_used_millis(stage.nodes, stage.tasks[: part[-1] + 1], stage.tasks[:running])
        for part in parts
    )
    return 100 * (1 - most / len(window) / stage.capacity_millis)


@dataclass(frozen=True)
class MovingRun:
    """``placed``: tasks that ran in the end. ``floor``: the least per cent unallocated once all that was
    placed before the first task did not fit is running; None for a run with delay."""

    run: Run
    tally: Tally
    placed: int
    floor: float | None


def run_moving(
    nodes: Sequence[TraceNode], tasks: Sequence[TraceTask], delaying: bool, seed: int
) -> MovingRun:
    """The product's scheduler with its moves, until ``FULL`` has arrived; ``delaying``: and its delay."""
    began = time.perf_counter()
    stage = scene(nodes, tasks, seed)
    max_delay_seconds = MAX_DELAY_SECONDS if delaying else 0
    mix, measure = usual_mix(tasks), workload_mix_of(tasks, PAPER_COVERAGE)
    cluster = MovingCluster(stage.nodes, mix, measure, max_delay_seconds)
    answers: list[bool] = []

    def offer(name: str, task: TraceTask) -> bool:
        answers.append(cluster.offer(name, task))
        return answers[-1]

    result = record(stage, cluster, offer, began, FULL)
    floor = None if delaying else bound(nodes, tasks, seed, [*answers, False].index(False))
    return MovingRun(result, cluster.tally, len(cluster.running), floor)
