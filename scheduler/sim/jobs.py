"""What the simulator plays: jobs with their true run times, changes of nodes, and who reacts to what
happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scheduler.core.model.types import WHOLE_MILLIS, NodeView, Placement, Tide, WorkloadView

SECOND_MS = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """A workload and what it will really do. ``workload.created_ms`` is when it is submitted.

    ``seconds``: how long it runs with all its ranks; None = until somebody ends it. What the scheduler
    believes is ``workload.expected_seconds``. Progress goes with the smallest part of its ranks that an
    elastic role has. A checkpoint is written after every ``checkpoint_seconds`` of progress (0 = never);
    what came after the last one is lost with its places. ``restart_seconds`` and ``resize_seconds``: after
    a start from a checkpoint or a move, and after a change of ranks, it holds its places so long without
    progress.
    """

    workload: WorkloadView
    seconds: float | None
    checkpoint_seconds: int = 1800
    restart_seconds: int = 60
    resize_seconds: int = 20

    @property
    def devices(self) -> float:
        """Devices that it asks for with all its ranks; a share of one counts as that part."""
        roles = self.workload.roles
        return sum(r.replicas * r.request.count * r.request.share_millis for r in roles) / WHOLE_MILLIS


@dataclass(frozen=True, slots=True)
class NodeChange:
    """From then on the node is like this: lost, back, cordoned, a device broken."""

    at_ms: int
    node: NodeView


@dataclass(frozen=True, slots=True)
class TideChange:
    """From then on these are the policy's tides."""

    at_ms: int
    tides: tuple[Tide, ...]


@dataclass(frozen=True, slots=True)
class RunState:
    """How a job is doing: since when it runs (this time), from when it makes progress, what it holds."""

    started_ms: int
    working_ms: int
    placement: Placement
    leaving: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """What an actor wants: jobs to submit and to end, other tides (None = as they are), when to be asked
    again (None = never)."""

    submit: tuple[Job, ...] = ()
    end: tuple[str, ...] = ()
    tides: tuple[Tide, ...] | None = None
    again_ms: int | None = None


class Actor(Protocol):
    """Something outside of the scheduler that reacts to what it does, like an autoscaler."""

    def first_ms(self) -> int:
        """When it is asked first."""
        ...

    def act(self, now_ms: int, state: Callable[[str], RunState | None]) -> Turn:
        """What it does now. ``state``: how the workload of a uid runs; None = it holds no places."""
        ...


@dataclass(slots=True)
class JobOutcome:
    """What became of a job. Times that have not come are None. ``waited_seconds``: all of its waiting, also
    after it lost its places. ``device_seconds_*``: useful = progress that lasts, lost = progress that was
    not saved, paused = held without progress."""

    uid: str
    name: str
    queue: str
    kind: str
    priority: int
    devices: float
    submitted_ms: int
    seconds: float | None
    first_start_ms: int | None = None
    ended_ms: int | None = None
    waited_seconds: float = 0.0
    preemptions: int = 0
    failures: int = 0
    resizes: int = 0
    moves: int = 0
    useful_device_seconds: float = 0.0
    lost_device_seconds: float = 0.0
    paused_device_seconds: float = 0.0
    reason: str = ""

    @property
    def completion_seconds(self) -> float | None:
        """Job completion time: from submission to the end."""
        return None if self.ended_ms is None else (self.ended_ms - self.submitted_ms) / SECOND_MS
