"""What traces of jobs do not tell, and when jobs come instead of when they came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from common.errors import InvalidInput
from scheduler.core.model.types import QueueView
from scheduler.sim.jobs import SECOND_MS, Job


@dataclass(frozen=True)
class Habits:
    """What is drawn from ``seed`` for each job.

    ``estimate_error``: users say how long their job runs, and are wrong by up to this part, either way
    (``upper_bounds``: only too much); ``estimate_step``: they say it in steps of this part of it (0 = to the
    second). ``elastic_part``: so many of the jobs with two ranks and more can run
    with ``elastic_least`` of their ranks. ``vendor``: where a trace names no devices, those of this vendor
    (empty = any).
    """

    seed: int = 0
    estimate_error: float = 0.2
    upper_bounds: bool = False
    estimate_step: float = 0.0
    elastic_part: float = 0.0
    elastic_least: float = 0.25
    checkpoint_seconds: int = 1800
    vendor: str = ""

    def __post_init__(self) -> None:
        for name in ("estimate_error", "estimate_step", "elastic_part", "elastic_least"):
            part = getattr(self, name)
            if not 0 <= part <= 1:
                raise InvalidInput(f"{name} is a part of one, not {part:g}", param=name)

    def draws(self) -> np.random.Generator:
        """The same draws every time."""
        return np.random.default_rng(self.seed)

    def expected_seconds(self, seconds: float, draw: np.random.Generator) -> int:
        """What the user says."""
        error = draw.uniform(-1, 1)
        wrong = abs(error) if self.upper_bounds else error
        said = max(1.0, seconds * (1 + self.estimate_error * wrong))
        if self.estimate_step:
            step = math.log1p(self.estimate_step)
            said = math.exp(math.ceil(math.log(said) / step) * step)
        return math.ceil(said)

    def least_ranks(self, ranks: int, draw: np.random.Generator) -> int | None:
        """With how many ranks it can run; None = only with all."""
        elastic = draw.random() < self.elastic_part
        return max(1, math.ceil(ranks * self.elastic_least)) if elastic and ranks > 1 else None


def queues_of(jobs: Sequence[Job]) -> list[QueueView]:
    """A queue for each name that jobs use, all alike."""
    return [QueueView(name) for name in sorted({job.workload.queue for job in jobs})]


def at_poisson_times(jobs: Sequence[Job], devices: int, load: float, seed: int) -> list[Job]:
    """The same jobs in the same order, at times of a Poisson process that asks for ``load`` of the
    devices."""
    if load <= 0 or devices <= 0:
        raise InvalidInput("load and devices are above 0", param="load")
    work = sum((job.seconds or 0.0) * job.devices for job in jobs)
    gap_seconds = work / (len(jobs) or 1) / (devices * load)
    times = np.cumsum(np.random.default_rng(seed).exponential(gap_seconds, len(jobs))).tolist()
    return [submitted_at(job, round(at * SECOND_MS)) for job, at in zip(jobs, times, strict=True)]


def submitted_at(job: Job, created_ms: int) -> Job:
    """The job, submitted then."""
    return replace(job, workload=replace(job.workload, created_ms=created_ms))
