"""How long workloads run: by what they state, and by what such workloads took before."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal

from scheduler.core.model.types import WHOLE_MILLIS, Placement, RoleView, RunningView, WorkloadView

LATEST_RUNS = 15
"""So many of the latest runs count."""

LEAST_RUNS = 3
"""From fewer runs nothing is concluded."""

MOST_SORTS = 30_000
"""Of so many sorts of runs the latest are kept; those that nothing was added to for longest go first."""


def run_ms(workload: WorkloadView, placement: Placement, predicted_seconds: int | None = None) -> int | None:
    """How long it runs with these ranks; None = without end. ``expected_seconds``, or where that is not
    stated ``predicted_seconds``, is meant with all ranks: with half of a role's, it takes twice as long."""
    seconds = workload.expected_seconds
    seconds = predicted_seconds if seconds is None else seconds
    return None if seconds is None else math.ceil(seconds * 1000 * slowness(workload.roles, placement))


def slowness(roles: Iterable[RoleView], placement: Placement) -> float:
    """So many times as long as with all ranks."""
    slowest = 1.0
    for role in roles:
        if role.min_replicas is not None:
            held = sum(assignment.role == role.name for assignment in placement)
            slowest = max(slowest, role.replicas / max(1, held))
    return slowest


def longest_ms(workload: WorkloadView) -> int | None:
    """The same with the fewest ranks that it may be given."""
    if workload.expected_seconds is None:
        return None
    slowest = max((role.replicas / max(1, role.least) for role in workload.roles), default=1.0)
    return math.ceil(workload.expected_seconds * 1000 * max(1.0, slowest))


def end_ms(running: RunningView, now_ms: int, predicted_seconds: int | None = None) -> int | None:
    """When its places come free; None = not foreseeable. Overdue means any moment: ``now_ms``."""
    if running.ends_ms is not None:
        return max(running.ends_ms, now_ms)
    length_ms = run_ms(running.workload, running.placement, predicted_seconds)
    return None if length_ms is None else max(running.started_ms + length_ms, now_ms)


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that went through to its end in one go (not one that failed, was stopped, moved or preempted).
    ``seconds``: as long as it would have taken with all its ranks."""

    project: str
    name: str
    kind: str
    devices: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """How long a workload will probably run with all its ranks, by its latest ``runs`` that are like it in
    ``alike``."""

    seconds: int
    runs: int
    alike: Literal["name and devices", "name", "kind and devices"]


class RunHistory:
    """The latest runs, to tell by them how long others will run.

    The run times of a user's latest jobs predict better than what users state (Tsafrir, Etsion and Feitelson,
    "Backfilling Using System-Generated Predictions Rather than User Runtime Estimates", IEEE TPDS 2007). They
    are no upper bounds, so nothing is promised by them.
    """

    def __init__(self, runs: Iterable[PastRun] = ()) -> None:
        self._seconds: OrderedDict[tuple[object, ...], deque[float]] = OrderedDict()
        for run in runs:
            self.add(run)

    def add(self, run: PastRun) -> None:
        """One more, later than those before."""
        for _, sort in _sorts(run.project, run.name, run.kind, run.devices):
            self._seconds.setdefault(sort, deque(maxlen=LATEST_RUNS)).append(run.seconds)
            self._seconds.move_to_end(sort)
        while len(self._seconds) > MOST_SORTS:
            self._seconds.popitem(last=False)

    def forget(self, project: str) -> None:
        """Drop all runs of a project: its name is another's now."""
        for sort in [sort for sort in self._seconds if sort[0] == project]:
            del self._seconds[sort]

    def predict(self, workload: WorkloadView) -> Prediction | None:
        """How long it will probably run; None where too little is known, and for inference, which has no end.

        The median of the latest runs of its project that are most like it: first those of the same name
        (numbers and hashes at the end aside) and number of devices, then of the same name, then of the same
        kind and number of devices.
        """
        if workload.kind == "inference":
            return None
        devices = devices_of(workload.roles)
        for alike, sort in _sorts(workload.project, workload.name, workload.kind, devices):
            runs = self._seconds.get(sort, ())
            if len(runs) >= LEAST_RUNS:
                return Prediction(max(1, math.ceil(median(runs))), len(runs), alike)
        return None


def _sorts(
    project: str, name: str, kind: str, devices: float
) -> tuple[tuple[Literal["name and devices", "name", "kind and devices"], tuple[object, ...]], ...]:
    """What runs can be alike in, the closest first."""
    stem = name_stem(name)
    return (
        ("name and devices", (project, "name", stem, devices)),
        ("name", (project, "name", stem)),
        ("kind and devices", (project, "kind", kind, devices)),
    )


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


def devices_of(roles: Iterable[RoleView]) -> float:
    """Devices that all ranks ask for; a share counts as that part."""
    return sum(r.replicas * r.request.count * r.request.share_millis for r in roles) / WHOLE_MILLIS
