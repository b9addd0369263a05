"""How long workloads run: by what they state, and by what such workloads took before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scheduler.core.types import WHOLE_MILLIS, Placement, RunningView, WorkloadView

LATEST_RUNS = 15
"""So many of the latest runs count."""

LEAST_RUNS = 3
"""From fewer runs nothing is concluded."""


def run_ms(workload: WorkloadView, placement: Placement) -> int | None:
    """How long it runs with these ranks; None = without end. ``expected_seconds`` is meant with all ranks:
    with half of a role's, it takes twice as long."""
    if workload.expected_seconds is None:
        return None
    whole_ms = workload.expected_seconds * 1000
    slowest = 1.0
    for role in workload.roles:
        if role.min_replicas is not None:
            held = sum(assignment.role == role.name for assignment in placement)
            slowest = max(slowest, role.replicas / max(1, held))
    return math.ceil(whole_ms * slowest)


def longest_ms(workload: WorkloadView) -> int | None:
    """The same with the fewest ranks that it may be given."""
    if workload.expected_seconds is None:
        return None
    slowest = max((role.replicas / max(1, role.least) for role in workload.roles), default=1.0)
    return math.ceil(workload.expected_seconds * 1000 * max(1.0, slowest))


def end_ms(running: RunningView, now_ms: int) -> int | None:
    """When its places come free; None = not foreseeable. Overdue means any moment: ``now_ms``."""
    if running.ends_ms is not None:
        return max(running.ends_ms, now_ms)
    length_ms = run_ms(running.workload, running.placement)
    return None if length_ms is None else max(running.started_ms + length_ms, now_ms)


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that went through to its end (not one that failed, was stopped or preempted)."""

    project: str
    name: str
    kind: str
    devices: float
    seconds: float


def predict_seconds(history: Sequence[PastRun], workload: WorkloadView) -> int | None:
    """How long it will probably run; None where too little is known. ``history``: oldest first.

    The median of the latest runs of its project that are most like it: first those of the same name (numbers
    and hashes at the end aside) and number of devices, then of the same name, then of the same kind and
    number of devices. The run times of a user's latest jobs predict better than what users state (Tsafrir,
    Etsion and Feitelson, "Backfilling Using System-Generated Predictions Rather than User Runtime
    Estimates", IEEE TPDS 2007).
    """
    stem, devices = name_stem(workload.name), devices_of(workload)
    same = [run for run in history if run.project == workload.project]
    named = [run for run in same if name_stem(run.name) == stem]
    alike = (
        [run for run in named if run.devices == devices],
        named,
        [run for run in same if run.kind == workload.kind and run.devices == devices],
    )
    for runs in alike:
        if len(runs) >= LEAST_RUNS:
            return max(1, math.ceil(median(run.seconds for run in runs[-LATEST_RUNS:])))
    return None


def name_stem(name: str) -> str:
    """The name without numbers and hashes at its end: ``train-7b-0042`` is ``train-7b``."""
    parts = name.split("-")
    kept = len(parts)
    while kept > 1 and _counts(parts[kept - 1]):
        kept -= 1
    return "-".join(parts[:kept])


def _counts(part: str) -> bool:
    """Whether a part of a name is a number or a hash, and not a word or a size like ``7b``."""
    return part.isdigit() or (len(part) >= 5 and any(c.isdigit() for c in part) and part.isalnum())


def devices_of(workload: WorkloadView) -> float:
    """Devices that all its ranks ask for; a share counts as that part."""
    return sum(r.replicas * r.request.count * r.request.share_millis for r in workload.roles) / WHOLE_MILLIS
