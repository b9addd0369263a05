"""How fast the scheduler decides: the very ``run_cycle`` of the product on a large pool that is filled up.

``python -m bench.scheduler --nodes 12500 --gpus-per-node 8 --workloads 100000`` fills the pool from queues in
which they all wait (``--batch``: in which so many arrive between two cycles, while those that found no place
wait on), through the keeper of the scheduler's loop, which is told of every decision; the time that this
takes counts. ``bench.loop`` measures whole passes. A placement is one rank
(what Kubernetes calls a pod) that is given its devices. Beside it a scheduler that looks at every node for
every rank (vectorised, without quotas) is measured in the same run; figures that peers have published are
shown as such.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.scheduler_world import (
    catalogue,
    fill,
    large_gang,
    make_nodes,
    make_queues,
    make_workloads,
)
from scheduler.core.model.types import (
    Admit,
    Decision,
    Defer,
    NodeView,
    Policy,
    Preempt,
    QueueView,
    RunningView,
    WorkloadView,
)
from scheduler.translate.collector import collector_held, set_world_apart
from scheduler.translate.kept_views import ViewKeeper

NOW_MS = 1_000_000_000
PUBLISHED = {
    "kube-scheduler, CI floor on 5,000 nodes (pods/s)": "180-810",
    "Godel, 30,000 nodes (pods/s)": "1,000-5,000",
    "YuniKorn, core alone (pods/s)": "410",
    "Ray, placement groups/s": "19-765",
    "KAI, reclaim for 2,000 GPUs on 500 nodes (s)": "102",
    "KAI, verdict unschedulable (s)": "249",
}


@dataclass
class Filled:
    """A pool after all workloads have been offered to it."""

    keeper: ViewKeeper
    queues: tuple[QueueView, ...]
    pending: list[WorkloadView]
    nodes: int
    ranks: int = 0
    seconds: float = 0.0

    @property
    def placements_per_second(self) -> float:
        return self.ranks / self.seconds

    def cycle(self, pending: Sequence[WorkloadView], now_ms: int = NOW_MS) -> list[Decision]:
        """What the loop does for a cycle, once it knows who waits."""
        with collector_held():
            return self.keeper.decide(self.keeper.take(self.queues, pending, (), now_ms), Policy(), now_ms)


def keeper_of(nodes: Sequence[NodeView], running: Sequence[RunningView] = ()) -> ViewKeeper:
    """The keeper of the loop, told what is there."""
    keeper = ViewKeeper(catalogue())
    for node in nodes:
        keeper.set_node(node.name, node)
    for one in running:
        keeper.set_running(one.workload.uid, (one,))
    return keeper


def fill_up(
    nodes: list[NodeView], workloads: Sequence[WorkloadView], batch: int, tick: Callable[[int], None]
) -> Filled:
    """Offer the workloads batch by batch (0: all at once). What found no place is offered again with the
    next batch."""
    devices = sum(len(node.devices) for node in nodes)
    filled = Filled(keeper_of(nodes), tuple(make_queues(devices)), [], len(nodes))
    filled.cycle(())
    batch = batch or len(workloads)
    for start in range(0, len(workloads), batch):
        filled.pending += workloads[start : start + batch]
        began = time.perf_counter()
        _apply(filled, filled.cycle(filled.pending, NOW_MS + start))
        filled.seconds += time.perf_counter() - began
        tick(min(batch, len(workloads) - start))
    return filled


def _apply(filled: Filled, decisions: Sequence[Decision]) -> None:
    """Tell the keeper of what runs now, as the loop does when it has carried it out."""
    waiting = {workload.uid: workload for workload in filled.pending}
    for decision in decisions:
        if isinstance(decision, Admit):
            workload = waiting.pop(decision.uid)
            filled.keeper.set_running(workload.uid, (RunningView(workload, decision.placement, NOW_MS),))
            filled.ranks += len(decision.placement)
    filled.pending = list(waiting.values())


def idle_milliseconds(filled: Filled, pending: Sequence[WorkloadView], repeats: int = 9) -> float:
    """Median of a cycle in which nothing can be done."""
    filled.cycle(pending)
    return _median_milliseconds(lambda: filled.cycle(pending), repeats)


def verdict_milliseconds(filled: Filled, repeats: int = 9) -> float:
    """Median of a cycle that finds out that a gang can never fit: more nodes than there are of eight
    devices."""
    gang = replace(large_gang(filled.nodes + 1, 8, "verdict", 5), queue="verdict")
    asked = replace(filled, queues=(*filled.queues, QueueView("verdict")))
    (decision,) = asked.cycle((gang,))
    if not (isinstance(decision, Defer) and decision.never):
        raise AssertionError(f"the gang should never fit: {decision}")
    return _median_milliseconds(lambda: asked.cycle((gang,)), repeats)


def _median_milliseconds(call: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def reclaim_seconds(nodes: list[NodeView], gpus: int) -> tuple[float, int]:
    """One gang of whole nodes claims what its queue owns from a queue that borrowed all of the pool. Returns
    the seconds of the cycle, and how many workloads it takes the places from."""
    devices = sum(len(node.devices) for node in nodes)
    queues = (
        QueueView("all", is_cohort=True),
        replace(make_queues(devices)[-1], name="owner", parent="all"),
        replace(make_queues(devices)[-2], name="borrower", parent="all"),
    )
    owner = replace(queues[1].quotas[0], nominal_millis=gpus * 1000)
    borrower = replace(queues[2].quotas[0], nominal_millis=(devices - gpus) * 1000)
    queues = (queues[0], replace(queues[1], quotas=(owner,)), replace(queues[2], quotas=(borrower,)))
    filled = Filled(keeper_of(nodes, fill(nodes, "borrower")), queues, [], len(nodes))
    filled.cycle(())
    per_node = len(nodes[0].devices)
    gang = large_gang(gpus // per_node, per_node, "owner", 0)
    began = time.perf_counter()
    decisions = filled.cycle((gang,))
    seconds = time.perf_counter() - began
    victims = sum(isinstance(decision, Preempt) for decision in decisions)
    if victims != gpus:
        raise AssertionError(f"{gpus} single-device workloads should have given way, {victims} did")
    return seconds, victims


def scan_placements_per_second(nodes: list[NodeView], workloads: Sequence[WorkloadView], limit: int) -> float:
    """The baseline: best fit over all nodes for every rank, vectorised, whole devices and fractions, no
    queues."""
    free = np.array([[1000] * len(node.devices) for node in nodes])
    vendor = np.array([node.devices[0].vendor for node in nodes])
    model = np.array([node.devices[0].model for node in nodes])
    placed, began = 0, time.perf_counter()
    for workload in workloads:
        for role in workload.roles:
            for _ in range(role.replicas):
                placed += _scan_one(free, vendor, model, role.request)
        if placed >= limit:
            break
    return placed / (time.perf_counter() - began)


def _scan_one(free: Any, vendor: Any, model: Any, request: Any) -> int:
    able = (free >= request.share_millis).sum(axis=1) >= request.count
    if request.vendors:
        able &= np.isin(vendor, request.vendors)
    if request.models:
        able &= np.isin(model, request.models)
    if not able.any():
        return 0
    left = np.where(able, free.sum(axis=1), np.iinfo(np.int64).max)
    node = int(left.argmin())
    devices = np.flatnonzero(free[node] >= request.share_millis)
    order = devices[np.argsort(free[node][devices], kind="stable")][: request.count]
    free[node][order] -= request.share_millis
    return 1


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    console = Console(stderr=True)
    with Progress(console=console, disable=arguments.quiet) as progress:
        total = arguments.workloads + arguments.workloads // 10
        bar = progress.add_task("placing", total=total)
        tick = lambda done: progress.advance(bar, done)  # noqa: E731
        small_nodes = make_nodes(max(1, arguments.nodes // 10), arguments.gpus_per_node)
        small_load = list(make_workloads(arguments.workloads // 10, arguments.seed))
        small = fill_up(small_nodes, small_load, arguments.batch, tick)
        nodes = make_nodes(arguments.nodes, arguments.gpus_per_node)
        load = list(make_workloads(arguments.workloads, arguments.seed))
        set_world_apart()
        filled = fill_up(nodes, load, arguments.batch, tick)
    set_world_apart()
    idle = idle_milliseconds(filled, ())
    waiting = filled.pending[:1000]
    idle_waiting = idle_milliseconds(filled, waiting)
    verdict = verdict_milliseconds(filled)
    result = {
        "placements_per_second": round(filled.placements_per_second),
        "workloads_per_second": round(len(filled.keeper.running) / filled.seconds),
        "scale_ratio": round(small.placements_per_second / filled.placements_per_second, 3),
        "placements": filled.ranks,
        "workloads_admitted": len(filled.keeper.running),
        "workloads_waiting": len(filled.pending),
        "allocated_percent": round(100 * _allocated(filled), 2),
        "idle_cycle_milliseconds": round(idle, 2),
        "idle_cycle_1000_waiting_milliseconds": round(idle_waiting, 2),
        "verdict_milliseconds": round(verdict, 2),
        "rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    del filled, small
    seconds, victims = reclaim_seconds(nodes, arguments.reclaim_gpus)
    scan = scan_placements_per_second(nodes, load, 2000)
    return result | {
        "reclaim_seconds": round(seconds, 3),
        "reclaim_victims": victims,
        "scan_baseline_placements_per_second": round(scan),
        "batch": arguments.batch or arguments.workloads,
        "nodes": arguments.nodes,
        "gpus_per_node": arguments.gpus_per_node,
        "workloads": arguments.workloads,
    }


def _allocated(filled: Filled) -> float:
    pool = filled.keeper.take(filled.queues, (), (), NOW_MS).pool
    return 1 - sum(pool.free_millis().values()) / sum(pool.capacity_millis().values())


def show(result: dict[str, Any]) -> None:
    """A table for people."""
    table = Table(title="bench.scheduler")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    for name, value in PUBLISHED.items():
        table.add_row(f"published: {name}", value, style="dim")
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scheduler", description=__doc__)
    parser.add_argument("--nodes", type=int, default=12_500)
    parser.add_argument("--gpus-per-node", type=int, default=8)
    parser.add_argument("--workloads", type=int, default=100_000)
    parser.add_argument(
        "--batch", type=int, default=0, help="workloads that arrive between two cycles (default: all at once)"
    )
    parser.add_argument("--reclaim-gpus", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    arguments = parser.parse_args(argv)
    if min(arguments.nodes, arguments.gpus_per_node, arguments.workloads) < 1 or arguments.batch < 0:
        parser.error("--nodes, --gpus-per-node and --workloads must be positive, --batch not negative")
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
