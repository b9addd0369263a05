"""Training jobs of the tidal bench: weeks of a public trace, thinned out to the size of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.errors import InvalidInput
from scheduler.sim.habits import submitted_at
from scheduler.sim.jobs import SECOND_MS, Job

DAY_MS = 24 * 3600 * SECOND_MS


@dataclass(frozen=True)
class Sample:
    """``jobs`` from time 0; ``notes``: what was done to get them."""

    jobs: list[Job]
    notes: dict[str, Any]


def sample_jobs(
    trace: Sequence[Job],
    days: int,
    device_seconds: float,
    most_ranks: int,
    longest_seconds: float,
    seed: int,
) -> Sample:
    """Jobs submitted in ``days`` consecutive days of the trace, drawn until they ask for ``device_seconds``.

    Their times within these days stay. Jobs with more than ``most_ranks`` ranks are left out, run times are
    cut at ``longest_seconds``. Where the days hold too little work, later days are laid over them.
    ``InvalidInput`` where the whole trace is too small.
    """
    draw = np.random.default_rng(seed)
    fitting = [job for job in trace if job.devices <= most_ranks]
    length = max((job.workload.created_ms for job in fitting), default=0) // DAY_MS
    first = int(draw.integers(length // 2, max(length // 2 + 1, length - days)))
    order = sorted(range(len(fitting)), key=lambda n: _window(fitting[n], first, days, length))
    windows = [_window(fitting[n], first, days, length) for n in order]
    jobs: list[Job] = []
    asked = 0.0
    for window in sorted(set(windows)):
        inside = [fitting[n] for n, w in zip(order, windows, strict=True) if w == window]
        for number in draw.permutation(len(inside)).tolist():
            if asked >= device_seconds:
                break
            job = _cut(inside[number], longest_seconds)
            at_ms = (job.workload.created_ms - first * DAY_MS) % (days * DAY_MS)
            jobs.append(submitted_at(job, at_ms))
            asked += (job.seconds or 0.0) * job.devices
    if asked < device_seconds:
        raise InvalidInput(
            f"the trace asks for {asked / 3600:.0f} device-hours, {device_seconds / 3600:.0f} are needed",
            param="training",
        )
    jobs.sort(key=lambda job: (job.workload.created_ms, job.workload.uid))
    return Sample(jobs, _notes(trace, fitting, jobs, first, longest_seconds))


def _window(job: Job, first_day: int, days: int, length: int) -> int:
    """How many windows after the first one it was submitted, going round at the end of the trace."""
    day = job.workload.created_ms // DAY_MS - first_day
    return (day if day >= 0 else day + length + days) // days


def _cut(job: Job, longest_seconds: float) -> Job:
    seconds, workload = job.seconds or 0.0, job.workload
    if seconds <= longest_seconds:
        return job
    expected = round((workload.expected_seconds or seconds) * longest_seconds / seconds)
    return replace(job, seconds=longest_seconds, workload=replace(workload, expected_seconds=expected))


def _notes(
    trace: Sequence[Job], fitting: Sequence[Job], jobs: Sequence[Job], first: int, longest: float
) -> dict[str, Any]:
    work = sum((job.seconds or 0.0) * job.devices for job in jobs)
    elastic = [job for job in jobs if any(role.min_replicas is not None for role in job.workload.roles)]
    elastic_work = sum((job.seconds or 0.0) * job.devices for job in elastic)
    return {
        "jobs": len(jobs),
        "first_day_of_trace": first,
        "device_hours": round(work / 3600),
        "left_out_as_too_wide": len(trace) - len(fitting),
        "run_times_cut_at_hours": longest / 3600,
        "run_times_cut": sum(job.seconds == longest for job in jobs),
        "elastic_percent_of_jobs": round(100 * len(elastic) / len(jobs), 1) if jobs else 0.0,
        "elastic_percent_of_device_hours": round(100 * elastic_work / work, 1) if work else 0.0,
    }
