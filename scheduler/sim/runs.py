"""The progress of one job: what it has done, what it has saved, when it will be through."""

from __future__ import annotations

import math
from dataclasses import replace

from scheduler.core.model.types import WHOLE_MILLIS, Placement, RunningView, WorkloadView
from scheduler.sim.jobs import SECOND_MS, Job, JobOutcome, RunState


class Run:
    """A job through all of its attempts. Progress is counted in seconds at full size.

    Between ``settle`` calls it runs at one speed; ``working_ms`` is from when it makes progress.
    """

    __slots__ = (
        "ends_ms",
        "job",
        "leaving",
        "outcome",
        "placement",
        "progress_seconds",
        "queued_ms",
        "resized_ms",
        "settled_ms",
        "speed",
        "started_ms",
        "version",
        "view",
        "working_ms",
        "workload",
    )

    def __init__(self, job: Job, now_ms: int) -> None:
        work = job.workload
        self.job = job
        self.workload: WorkloadView = work
        self.placement: Placement = ()
        self.progress_seconds = 0.0
        self.queued_ms = now_ms
        self.started_ms = self.working_ms = self.settled_ms = now_ms
        self.resized_ms = 0
        self.speed = 0.0
        self.leaving = False
        self.ends_ms: int | None = None
        self.version = 0
        self.view: RunningView | None = None
        self.outcome = JobOutcome(
            work.uid, work.name, work.queue, work.kind, work.priority, job.devices, now_ms, job.seconds
        )

    # -- what happens to it

    def start(self, placement: Placement, now_ms: int) -> None:
        """It gets its places, and goes on from what it saved."""
        outcome, work = self.outcome, self.workload
        outcome.waited_seconds += (now_ms - self.queued_ms) / SECOND_MS
        again = outcome.first_start_ms is not None
        if not again:
            outcome.first_start_ms = now_ms
        self.started_ms = self.settled_ms = now_ms
        self.resized_ms = 0
        if work.nominated:
            self.workload = replace(work, nominated=())
        self._hold(placement, now_ms, self.job.restart_seconds if again else 0)

    def resize(self, placement: Placement, now_ms: int) -> None:
        """It has other ranks from now on; nothing is lost."""
        self.settle(now_ms)
        self.outcome.resizes += 1
        self.resized_ms = now_ms
        self._hold(placement, now_ms, self.job.resize_seconds)

    def move(self, placement: Placement, now_ms: int) -> None:
        """It writes a checkpoint and goes on elsewhere."""
        self.settle(now_ms)
        self.outcome.moves += 1
        self._hold(placement, now_ms, self.job.restart_seconds)

    def leave(self, now_ms: int) -> int:
        """It is told to go; it makes no progress from now on. When its places come free."""
        self.settle(now_ms)
        self.outcome.preemptions += 1
        self.leaving = True
        self.speed = 0.0
        self.ends_ms = self.working_ms = now_ms + self.workload.grace_seconds * SECOND_MS
        self.version += 1
        self._refresh()
        return self.ends_ms

    def stop(self, now_ms: int) -> None:
        """Its places are gone; what was not saved is lost, and it waits again."""
        self.settle(now_ms)
        saved = self.saved_seconds
        lost = (self.progress_seconds - saved) * self.job.devices
        self.outcome.lost_device_seconds += lost
        self.outcome.useful_device_seconds -= lost
        self.progress_seconds = saved
        self.placement, self.view, self.leaving, self.speed = (), None, False, 0.0
        self.version += 1
        self.queued_ms = now_ms
        expected = self.job.workload.expected_seconds
        if expected is not None:
            left = max(1, math.ceil(expected - saved))
            self.workload = replace(self.workload, expected_seconds=left)

    def finish(self, now_ms: int) -> None:
        """It is through."""
        self.settle(now_ms)
        self.outcome.ended_ms = now_ms
        self.placement, self.view, self.speed = (), None, 0.0
        self.version += 1

    # -- how far it is

    @property
    def saved_seconds(self) -> float:
        """Progress up to the last checkpoint."""
        step = self.job.checkpoint_seconds
        return self.progress_seconds // step * step if step else 0.0

    def settle(self, now_ms: int) -> None:
        """Count the progress until now."""
        if not self.placement:
            return
        worked = max(0, now_ms - max(self.working_ms, self.settled_ms)) / SECOND_MS
        held = (now_ms - self.settled_ms) / SECOND_MS
        done = worked * self.speed
        self.progress_seconds += done
        self.outcome.useful_device_seconds += done * self.job.devices
        self.outcome.paused_device_seconds += (held - worked) * _devices(self.placement)
        self.settled_ms = now_ms

    def through_ms(self) -> int | None:
        """When it will be through as things are; None = not by itself, or it is leaving."""
        if self.job.seconds is None or not self.speed:
            return None
        left = max(0.0, self.job.seconds - self.progress_seconds) / self.speed
        return max(self.working_ms, self.settled_ms) + math.ceil(left * SECOND_MS)

    def state(self) -> RunState:
        return RunState(self.started_ms, self.working_ms, self.placement, self.leaving)

    def _hold(self, placement: Placement, now_ms: int, pause_seconds: int) -> None:
        pause_ms = pause_seconds * SECOND_MS
        self.working_ms = max(self.working_ms, now_ms + pause_ms) if pause_ms else now_ms
        self.placement = placement
        self.speed = speed_of(self.workload, placement)
        self.version += 1
        expected = self.job.workload.expected_seconds
        if expected is not None:
            left = max(0.0, expected - self.progress_seconds) / self.speed
            self.ends_ms = self.working_ms + math.ceil(left * SECOND_MS)
        self._refresh()

    def _refresh(self) -> None:
        self.view = RunningView(
            self.workload, self.placement, self.started_ms, self.leaving, self.ends_ms, self.resized_ms
        )


def speed_of(workload: WorkloadView, placement: Placement) -> float:
    """1.0 with all ranks; with fewer, the smallest part of its ranks that a role has."""
    held = {role.name: 0 for role in workload.roles}
    for assignment in placement:
        held[assignment.role] += 1
    return min(held[role.name] / role.replicas for role in workload.roles)


def _devices(placement: Placement) -> float:
    return sum(share.millis for assignment in placement for share in assignment.shares) / WHOLE_MILLIS
