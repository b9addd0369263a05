"""Figures, outcomes and reports of simulations are what was approved: jobs of every kind, nodes that come and
go, tides and forecasts."""

import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scheduler.core.cycle import run_cycle
from scheduler.core.forecast import forecast_starts
from scheduler.core.model.types import Policy, QueueView, Quota, Tide
from scheduler.sim.engine import simulate
from scheduler.sim.generate import generated_jobs, generated_nodes, generated_queues
from scheduler.sim.habits import Habits
from scheduler.sim.jobs import Job, JobOutcome, NodeChange, TideChange
from scheduler.sim.options import Hooks, Options
from scheduler.sim.report import html_report
from scheduler.sim.result import SimResult
from tests.fixtures import approving as approved
from tests.unit.scheduler.sim_build import gpu_job, gpu_node

KEPT = Path(__file__).with_name("simulations.txt")
QUEUES = (
    QueueView("all", is_cohort=True),
    QueueView("a", parent="all", quotas=(Quota("*", 8000),), weight=2),
    QueueView("b", parent="all", quotas=(Quota("*", 8000, 4000, 4000),)),
    QueueView("default"),
)
HOUR_SECONDS = 3600


def played(seed: int) -> SimResult:
    """Two hours of a pool of three nodes."""
    rng = random.Random(seed)
    nodes = [gpu_node("n0", 8), gpu_node("n1", 8), gpu_node("n2", 4, "amd", "MI300X")]
    lost, later = replace(nodes[0], alive=False), rng.randrange(600, 3000)
    changes: list[NodeChange | TideChange] = [
        NodeChange(later * 1000, lost),
        NodeChange((later + 900) * 1000, nodes[0]),
        TideChange(1_000_000, (Tide("nvidia", 6000),)),
        TideChange(3_000_000, ()),
    ]
    options = Options(
        horizon_seconds=2 * HOUR_SECONDS,
        warmup_seconds=rng.choice((0, 300)),
        drain_seconds=rng.choice((0, HOUR_SECONDS)),
        batch_seconds=rng.choice((0, 30)),
        spans=12,
        eta_seconds=600,
        start_ms=rng.choice((None, 0)),
    )
    jobs = [_job(rng, number) for number in range(40)]
    policy = Policy(min_run_seconds=rng.choice((0, 300)))
    hooks = Hooks(forecast=forecast_starts)
    return simulate(nodes, QUEUES, jobs, policy, options, run_cycle, changes=changes, hooks=hooks)


def _job(rng: random.Random, number: int) -> Job:
    ranks, seconds = rng.choice((1, 1, 1, 2, 4, 8)), rng.randrange(30, 1800)
    job = gpu_job(
        f"j{number}",
        ranks,
        seconds if rng.random() < 0.95 else None,
        at_seconds=rng.randrange(60, HOUR_SECONDS),
        least=rng.choice((None, 1)) if ranks > 1 else None,
        queue=rng.choice(("a", "b", "default")),
        expected_seconds=rng.choice((None, seconds, 2 * seconds)),
        checkpoint_seconds=rng.choice((0, 30, 600)),
        restart_seconds=rng.choice((0, 45)),
        resize_seconds=rng.choice((0, 20)),
        kind=rng.choice(("training", "training", "inference", "other")),
    )
    return replace(job, workload=replace(job.workload, priority=rng.choice((0, 0, 5)), movable=ranks == 1))


def told(result: SimResult) -> Iterator[str]:
    """Its figures, what became of each job, and the words and charts of its report."""
    for name, figure in result.summary().items():
        yield f"{name} {json.dumps(figure)}"
    yield from map(_line, result.outcomes)
    page = html_report(result, "Simulation")
    charts = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    yield from (f"chart {approved.digest(chart)}" for chart in charts)
    words = re.sub(r"<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", page, flags=re.DOTALL)
    yield from filter(None, (" ".join(line.split()) for line in words.splitlines()))


def _line(outcome: JobOutcome) -> str:
    values: dict[str, Any] = {name: getattr(outcome, name) for name in outcome.__slots__}
    return " ".join(f"{name}={_plain(value)}" for name, value in values.items() if value not in (0, "", None))


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("seed", range(4))
def test_simulations_end_as_approved(seed: int) -> None:
    text = "\n".join(told(played(seed)))
    approved.check(KEPT, {f"simulation {seed}": text if seed < 2 else approved.digest(text)})


def test_pools_and_jobs_are_generated_as_approved() -> None:
    lines = [str(node) for node in generated_nodes(9)] + [str(queue) for queue in generated_queues(72)]
    for habits in (
        Habits(),
        Habits(1, 0.5, elastic_part=0.5),
        Habits(2, upper_bounds=True, estimate_step=0.3),
    ):
        for job in generated_jobs(20, 72, 0.8, habits):
            lines.append(f"{job.seconds:.2f} {replace(job, seconds=None)}")
    approved.check(KEPT, {"generated": "\n".join(lines)})
