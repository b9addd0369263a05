"""``python -m scheduler.sim``: play jobs on nodes, print the figures, write a report."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import ComputilityError, InvalidInput, mapping_of
from scheduler.catalogue import load_catalogue
from scheduler.core.cycle import run_cycle
from scheduler.core.forecast import forecast_starts
from scheduler.core.model.device_classes import CPU
from scheduler.core.model.types import Decision, NodeView, Policy, QueueView
from scheduler.sim.engine import simulate
from scheduler.sim.generate import MEDIAN_SECONDS, generated_jobs, generated_nodes, generated_queues
from scheduler.sim.habits import Habits, at_poisson_times, queues_of
from scheduler.sim.jobs import SECOND_MS, Job
from scheduler.sim.options import Hooks, Options
from scheduler.sim.report import html_report, write_page
from scheduler.sim.result import SimResult
from scheduler.sim.traces import read_jobs, read_nodes

EXAMPLES = """examples:
  # 64 nodes of three vendors, 2,000 jobs from a seed, a report to look at
  python -m scheduler.sim --report sim.html
  # a cluster trace's nodes under a job trace at 90 % load
  python -m scheduler.sim --nodes openb_node_list.csv.gz --jobs philly_jobs.csv.gz --load 0.9 --json
  # a job trace at its own times, with forecasts of starts compared every hour
  python -m scheduler.sim --generate-nodes 100 --jobs philly_jobs.csv.gz --replay --eta-minutes 60
  # a year of four kinds of devices, before and after a change
  python -m scheduler.sim --generate-nodes 8 --generate-jobs 17500 --median-minutes 720 --load 0.85 \\
      --batch-seconds 300 --json > after.json
  python -m scheduler.sim.compare before.json after.json --html compared.html
"""


@dataclass(frozen=True)
class Scenario:
    """What is played."""

    nodes: list[NodeView]
    queues: list[QueueView]
    jobs: list[Job]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or that of the error."""
    options = _parser().parse_args(arguments)
    try:
        result = _simulate(options)
        if options.report:
            write_page(Path(options.report), html_report(result, "Simulation"), "report")
    except ComputilityError as error:
        print(f"error: {error}", file=sys.stderr)
        return mapping_of(error).exit_code
    print(json.dumps(result.summary(), indent=None if options.json else 2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scheduler.sim",
        description="The real scheduler on a virtual clock, with its invariants checked in every cycle.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    world = parser.add_argument_group("what is played")
    world.add_argument("--nodes", type=Path, help="openb node list, CSV or CSV.gz")
    world.add_argument("--generate-nodes", type=int, default=64, help="without --nodes, so many (64)")
    world.add_argument("--jobs", type=Path, help="openb pods, Philly or Kalos jobs, CSV or CSV.gz")
    world.add_argument("--generate-jobs", type=int, default=2000, help="without --jobs, so many (2000)")
    world.add_argument(
        "--median-minutes",
        type=float,
        default=MEDIAN_SECONDS / 60,
        help="half of the generated jobs run for less (15)",
    )
    world.add_argument("--most-jobs", type=int, help="only the first so many of the trace")
    world.add_argument("--load", type=float, default=0.9, help="part of the devices asked for (0.9)")
    world.add_argument("--replay", action="store_true", help="jobs come when they came in the trace")
    world.add_argument("--seed", type=int, default=0)
    habits = parser.add_argument_group("what traces do not tell")
    habits.add_argument("--estimate-error", type=float, default=0.2, help="users are wrong by up to (0.2)")
    habits.add_argument("--elastic-part", type=float, default=0.0, help="gangs that can shrink (0)")
    run = parser.add_argument_group("how")
    run.add_argument("--hours", type=float, default=0.0, help="figures are about these (to the last job)")
    run.add_argument("--batch-seconds", type=int, default=0, help="least time between two cycles (0)")
    run.add_argument("--eta-minutes", type=int, default=0, help="forecast starts so often (never)")
    out = parser.add_argument_group("output")
    out.add_argument("--report", help="write an HTML page there")
    out.add_argument("--json", action="store_true", help="one line of JSON")
    out.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _simulate(options: argparse.Namespace) -> SimResult:
    world = _world(options)
    last = max(job.workload.created_ms for job in world.jobs) // SECOND_MS + 1
    horizon = round(options.hours * 3600) or last
    settings = Options(
        horizon_seconds=horizon,
        drain_seconds=0 if options.hours else 10 * horizon,
        batch_seconds=options.batch_seconds,
        eta_seconds=options.eta_minutes * 60,
        start_ms=0,
    )
    hooks = Hooks(
        forecast=forecast_starts if options.eta_minutes else None,
        watch=None if options.quiet else _Progress(horizon * SECOND_MS),
    )
    catalogue = load_catalogue()
    return simulate(
        world.nodes, world.queues, world.jobs, Policy(), settings, run_cycle, catalogue=catalogue, hooks=hooks
    )


def _world(options: argparse.Namespace) -> Scenario:
    nodes = read_nodes(options.nodes) if options.nodes else generated_nodes(options.generate_nodes)
    devices = sum(device.vendor != CPU for node in nodes for device in node.devices)
    habits = Habits(options.seed, options.estimate_error, elastic_part=options.elastic_part)
    if options.jobs is None:
        jobs = generated_jobs(
            options.generate_jobs, devices, options.load, habits, 60 * options.median_minutes
        )
        return Scenario(nodes, generated_queues(devices), jobs)
    jobs = read_jobs(options.jobs, habits)[: options.most_jobs]
    if not jobs:
        raise InvalidInput(f"{options.jobs} has no jobs", param="jobs")
    if not options.replay:
        jobs = at_poisson_times(jobs, devices, options.load, options.seed)
    return Scenario(nodes, queues_of(jobs), jobs)


class _Progress:
    """A line on stderr for every twentieth of the time."""

    def __init__(self, horizon_ms: int) -> None:
        self._step_ms = max(1, horizon_ms // 20)
        self._next_ms = 0
        self._began = time.monotonic()

    def __call__(self, now_ms: int, decisions: Sequence[Decision]) -> None:
        if now_ms >= self._next_ms:
            hours, seconds = now_ms / 3_600_000, time.monotonic() - self._began
            waiting = f"{len(decisions)} decisions"
            print(f"hour {hours:8.1f}  {seconds:6.1f} s  {waiting}", file=sys.stderr, flush=True)
            self._next_ms = now_ms - now_ms % self._step_ms + self._step_ms


if __name__ == "__main__":
    sys.exit(main())
