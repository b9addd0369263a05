"""A served model in the simulator: requests bring work, replicas do it, an autoscaler asks for replicas
ahead of load.

Work is counted in device-seconds. Requests queue in one line before all replicas that are ready (a fluid
queue in steps of a second); one that would wait longer than the bound for its first token misses its SLO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from common.errors import InvalidInput
from scheduler.core.model.types import WorkloadView
from scheduler.core.tide.tidal import Calendar, LoadRule, LoadSample, tides, wanted_replicas
from scheduler.sim.jobs import SECOND_MS, Job, RunState, Turn

Floats = npt.NDArray[np.float64]
HISTORY_MS = 8 * 24 * 3600 * SECOND_MS
"""So much of its load an autoscaler remembers."""


@dataclass(frozen=True)
class Load:
    """What comes in each second from ``start_ms`` on: device-seconds of work, and requests."""

    start_ms: int
    work: Floats
    requests: Floats

    def __post_init__(self) -> None:
        if len(self.work) != len(self.requests):
            raise InvalidInput("work and requests are about the same seconds", param="work")

    @property
    def end_ms(self) -> int:
        return self.start_ms + len(self.work) * SECOND_MS

    def work_of(self, start_ms: int, end_ms: int) -> Floats:
        """The seconds from ``start_ms`` to before ``end_ms``."""
        first = (start_ms - self.start_ms) // SECOND_MS
        return self.work[max(0, first) : max(0, (end_ms - self.start_ms) // SECOND_MS)]


@dataclass
class Served:
    """``within``: requests whose first token waited no longer than the bound. ``busy_device_seconds``: work
    done."""

    requests: float = 0.0
    within: float = 0.0
    busy_device_seconds: float = 0.0
    held_device_seconds: float = 0.0

    @property
    def attainment(self) -> float:
        """Part of the requests that kept the SLO; 1.0 without requests."""
        return self.within / self.requests if self.requests else 1.0


class FluidQueue:
    """The fluid queue. ``backlog_seconds`` is work that came and is not done. Figures are about the
    ``measured`` seconds of the load (None = all)."""

    def __init__(self, load: Load, bound_seconds: float, measured: range | None = None) -> None:
        self._work = load.work.tolist()
        self._requests = load.requests.tolist()
        self._bound = bound_seconds
        self._measured = range(len(load.work)) if measured is None else measured
        self._step = 0
        self.start_ms = load.start_ms
        self.backlog_seconds = 0.0
        self.wait_seconds = 0.0
        self.served = Served()

    def serve(self, until_ms: int, ready_ms: Sequence[int], held: int) -> None:
        """Until then replicas work that are ready at ``ready_ms``, while ``held`` devices are held for
        them."""
        served, last = self.served, min((until_ms - self.start_ms) // SECOND_MS, len(self._work))
        times, ready = sorted(ready_ms), 0
        for step in range(self._step, last):
            now_ms = self.start_ms + step * SECOND_MS
            while ready < len(times) and times[ready] <= now_ms:
                ready += 1
            backlog = self.backlog_seconds + self._work[step]
            done = min(backlog, ready)
            self.backlog_seconds = backlog - done
            self.wait_seconds = self.backlog_seconds / ready if ready else float("inf")
            if step not in self._measured:
                continue
            served.requests += self._requests[step]
            served.busy_device_seconds += done
            served.held_device_seconds += held
            if self.wait_seconds <= self._bound:
                served.within += self._requests[step]
        self._step = max(self._step, last)


def serve_statically(
    load: Load, replicas: int, bound_seconds: float, measured: range | None = None
) -> Served:
    """With so many replicas of one device all the time."""
    queue = FluidQueue(load, bound_seconds, measured)
    queue.serve(load.end_ms, [load.start_ms] * replicas, replicas)
    return queue.served


@dataclass(frozen=True)
class ServiceSpec:
    """``replica``: the workload of one replica; it is ready ``load_seconds`` after it has its places.
    ``step_seconds``: so often the autoscaler looks. ``work_per_request``: device-seconds, to tell load in
    requests of average size."""

    replica: WorkloadView
    rule: LoadRule
    bound_seconds: float
    work_per_request: float
    load_seconds: int = 90
    step_seconds: int = 60
    calendar: Calendar = field(default_factory=Calendar)


class Service:
    """Plays a load against replicas that the scheduler places; the tide is what the autoscaler wants."""

    def __init__(
        self,
        spec: ServiceSpec,
        load: Load,
        history: Sequence[LoadSample] = (),
        measured: range | None = None,
    ) -> None:
        self._spec = spec
        self._load = load
        self._history = list(history)
        self._queue = FluidQueue(load, spec.bound_seconds, measured)
        self._replicas: list[str] = []
        self._count = 0
        self._seen_ms = load.start_ms

    @property
    def served(self) -> Served:
        return self._queue.served

    def first_ms(self) -> int:
        return self._load.start_ms

    def act(self, now_ms: int, state: Callable[[str], RunState | None]) -> Turn:
        """Serve what came since the last time, look at the load, ask for replicas or end some."""
        spec = self._spec
        running = {uid: seen for uid in self._replicas if (seen := state(uid)) and not seen.leaving}
        ready = [self._ready_ms(seen) for seen in running.values()]
        self._queue.serve(now_ms, ready, len(running))
        self._observe(now_ms)
        wanted = wanted_replicas(spec.rule, self._history, len(running), now_ms)
        submit, end = self._scale(wanted, now_ms, running)
        tide = tides(spec.calendar, [(spec.rule, wanted)], now_ms, spec.rule.ahead_seconds)
        return Turn(tuple(submit), tuple(end), tide, self._again(now_ms))

    def _ready_ms(self, replica: RunState) -> int:
        """Replicas that were there from the beginning have loaded before it."""
        first = replica.started_ms <= self._load.start_ms
        return replica.started_ms + (0 if first else self._spec.load_seconds * SECOND_MS)

    def _again(self, now_ms: int) -> int | None:
        """The service stays at its last size after the end of its load."""
        again = now_ms + self._spec.step_seconds * SECOND_MS
        return again if again <= self._load.end_ms else None

    def _observe(self, now_ms: int) -> None:
        work = self._load.work_of(self._seen_ms, now_ms)
        if len(work):
            rate = float(work.mean()) / self._spec.work_per_request
            queued = self._queue.backlog_seconds / self._spec.work_per_request
            self._history.append(LoadSample(now_ms, rate, queued, self._queue.wait_seconds))
        self._seen_ms = now_ms
        if len(self._history) > 2 and self._history[0].at_ms < now_ms - 2 * HISTORY_MS:
            self._history = [sample for sample in self._history if sample.at_ms >= now_ms - HISTORY_MS]

    def _scale(self, wanted: int, now_ms: int, running: dict[str, RunState]) -> tuple[list[Job], list[str]]:
        excess = len(self._replicas) - wanted
        waiting = [uid for uid in self._replicas if uid not in running]
        newest = sorted(running, key=lambda uid: (-running[uid].started_ms, uid))
        end = [*waiting, *newest][: max(0, excess)]
        self._replicas = [uid for uid in self._replicas if uid not in end]
        submit = []
        for _ in range(max(0, -excess)):
            self._count += 1
            uid = f"{self._spec.replica.uid}-{self._count:06d}"
            self._replicas.append(uid)
            workload = replace(self._spec.replica, uid=uid, name=uid, created_ms=now_ms)
            submit.append(Job(workload, None, checkpoint_seconds=0, restart_seconds=0))
        return submit, end


def samples_of(load: Load, work_per_request: float, step_seconds: int = 60) -> list[LoadSample]:
    """A load as an autoscaler would have seen it."""
    whole = len(load.work) // step_seconds * step_seconds
    means = load.work[:whole].reshape(-1, step_seconds).mean(axis=1) / work_per_request
    step_ms = step_seconds * SECOND_MS
    return [LoadSample(load.start_ms + (n + 1) * step_ms, rate) for n, rate in enumerate(means.tolist())]
