"""Pools and jobs from a seed: three vendors, queues in cohorts, shares of devices, gangs, heavy-tailed run
times."""

from __future__ import annotations

import math

import numpy as np

from common.errors import InvalidInput
from common.units import GIB
from scheduler.core.model.types import (
    WHOLE_MILLIS,
    DeviceView,
    NodeView,
    QueueView,
    Quota,
    Request,
    RoleView,
    WorkloadView,
)
from scheduler.sim.habits import Habits, at_poisson_times
from scheduler.sim.jobs import Job

KINDS = (
    ("nvidia", "H100-SXM", 80, 8),
    ("nvidia", "A100-SXM4-80GB", 80, 8),
    ("ascend", "910B3", 64, 8),
    ("amd", "MI300X", 192, 8),
)
"""Vendor, model, GiB per device, devices per node; nodes take turns."""
NODES_PER_RACK = 8
GANG_SIZES = (2, 4, 8, 16, 32, 64)
GANG_PART, SHARE_PART, PICKY_PART, URGENT_PART = 0.1, 0.2, 0.5, 0.25
"""Of the jobs: gangs, shares of a device, those that want one vendor, those with priority."""
URGENT = 100
SHARES_MILLIS = (250, 500)
MEDIAN_SECONDS, SIGMA = 900.0, 1.4
"""Run times are log-normal; their mean is about 2.7 times the median."""
LONGEST_SECONDS = 48 * 3600.0
TEAMS = ("vision", "speech", "search", "robots", "language", "safety")
DEPARTMENTS = ("research", "product")


def generated_nodes(count: int) -> list[NodeView]:
    """``count`` nodes of three vendors in racks."""
    if count <= 0:
        raise InvalidInput("a pool has at least one node", param="nodes")
    return [_node(number) for number in range(count)]


def _node(number: int) -> NodeView:
    vendor, model, gib, devices = KINDS[number % len(KINDS)]
    name = f"node-{number:05d}"
    views = tuple(DeviceView(f"{name}/{n}", n, vendor, model, gib * GIB) for n in range(devices))
    labels = (("computility.io/rack", f"rack-{number // NODES_PER_RACK:04d}"),)
    return NodeView(name, views, labels=labels)


def generated_queues(devices: int) -> list[QueueView]:
    """Two cohorts of three queues; each queue owns a sixth and borrows what its cohort leaves."""
    cohorts = [QueueView(name, is_cohort=True) for name in DEPARTMENTS]
    own = devices * 1000 // len(TEAMS)
    queues = [
        QueueView(team, parent=DEPARTMENTS[n % 2], quotas=(Quota("*", own),)) for n, team in enumerate(TEAMS)
    ]
    return [*cohorts, *queues]


def generated_jobs(
    count: int, devices: int, load: float, habits: Habits, median_seconds: float = MEDIAN_SECONDS
) -> list[Job]:
    """``count`` jobs that ask for ``load`` of the devices on average, at times of a Poisson process; half of
    them run for less than ``median_seconds``, none for more than two days.

    Gangs of more than a quarter of the pool are left out. ``InvalidInput`` where a number is not above 0.
    """
    if count <= 0 or load <= 0 or devices <= 0:
        raise InvalidInput("jobs, load and devices are above 0", param="load")
    if not 0 < median_seconds <= LONGEST_SECONDS:
        longest = f"{LONGEST_SECONDS / 60:.0f} minutes"
        raise InvalidInput(
            f"the median run time is above 0 and at most {longest}, which no job exceeds",
            param="median_minutes",
        )
    draw = habits.draws()
    jobs = [_job(number, devices, habits, draw, median_seconds) for number in range(count)]
    return at_poisson_times(jobs, devices, load, habits.seed)


def _job(number: int, devices: int, habits: Habits, draw: np.random.Generator, median_seconds: float) -> Job:
    kind, ranks, share = draw.random(), 1, WHOLE_MILLIS
    if kind < GANG_PART:
        ranks = int(draw.choice([size for size in GANG_SIZES if size * 4 <= devices] or [1]))
    elif kind < GANG_PART + SHARE_PART:
        share = int(draw.choice(SHARES_MILLIS))
    seconds = float(min(draw.lognormal(math.log(median_seconds), SIGMA), LONGEST_SECONDS))
    vendors = (KINDS[int(draw.integers(len(KINDS)))][0],) if draw.random() < PICKY_PART else ()
    least = habits.least_ranks(ranks, draw)
    team = TEAMS[int(draw.integers(len(TEAMS)))]
    workload = WorkloadView(
        uid=f"job-{number:06d}",
        project=team,
        name=f"job-{number:06d}",
        queue=team,
        priority=URGENT if draw.random() < URGENT_PART else 0,
        created_ms=0,
        roles=(RoleView("main", ranks, Request(vendors=vendors, share_millis=share), least),),
        expected_seconds=habits.expected_seconds(seconds, draw),
        kind="training",
    )
    return Job(workload, seconds, habits.checkpoint_seconds)
