"""What people are told about the pool: the answers of explain, overview and simulate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.resources.meta import Model
from common.resources.workload import LastFailure, LastPreemption, PendingReason, RankPlacement


class PoolRow(Model):
    """The devices of one model, over all nodes. Millis are thousandths of a device (CPU: of a slot).

    ``capacity`` = ``allocated`` + ``idle`` + what is free on ``unavailable`` devices (of nodes that are lost,
    cordoned or on probation) and on ``unhealthy`` ones. Load is that of the devices whose driver tells it.
    """

    vendor: str
    model: str
    nodes: int = 0
    devices: int = 0
    unhealthy: int = 0
    unavailable: int = 0
    capacity_millis: int = 0
    allocated_millis: int = 0
    idle_millis: int = 0
    utilisation_percent: int | None = Field(None, description="mean of the devices that tell it")
    memory_bytes: int = 0
    memory_used_bytes: int | None = None
    power_watts: int | None = None


class DeviceBar(Model):
    """One device of a node, as short as it can be said."""

    index: int
    held_percent: int
    utilisation_percent: int | None = None
    healthy: bool = True


NodeCondition = Literal["Ready", "Silent", "Lost", "Cordoned", "Draining", "Probation"]


class NodeRow(Model):
    """``stranded_millis``: what is free and cannot be used by any request that usually comes."""

    name: str
    state: NodeCondition
    models: list[str]
    capacity_millis: int
    free_millis: int
    stranded_millis: int
    devices: list[DeviceBar]


class QuotaRow(Model):
    """One class of devices in one queue. ``borrowed``: what is used beyond the nominal quota."""

    device_class: str
    nominal_millis: int
    used_millis: int
    borrowed_millis: int


class BudgetRow(Model):
    """Device time of a calendar period."""

    device_class: str
    limit_device_seconds: int
    spent_device_seconds: int
    renews_ms: int


class QueueRow(Model):
    """``share`` is the weighted fair share that decides who is next, lower first; unset = weight 0."""

    name: str
    cohort: bool = False
    parent: str = ""
    weight: int = 1
    share: float | None = None
    nominal_millis: int | None = Field(None, description="of all its quotas; unset = it has none")
    used_millis: int = 0
    covered_millis: int = Field(0, description="what of it its quotas count; CPUs are not in *")
    borrowed_millis: int = 0
    pending: int = 0
    pending_millis: int = Field(0, description="the least that what waits would take")
    running: int = 0
    max_devices: int | None = None
    quotas: list[QuotaRow] = Field(default_factory=list)
    budgets: list[BudgetRow] = Field(default_factory=list)


class WorkloadRow(Model):
    """A workload that holds devices."""

    project: str
    name: str
    queue: str
    phase: str
    ranks: int
    millis: int
    models: list[str]
    nodes: int
    since_ms: int
    expected_end_ms: int | None = None
    end_predicted: bool = Field(False, description="by past runs: it does not say how long it runs")


class NodeTotals(Model):
    """All nodes together."""

    nodes: int = 0
    ready: int = 0
    free_millis: int = 0
    stranded_millis: int = 0


class TideRow(Model):
    """What of a class is for inference now: the larger of what the calendar says and what load asks for.

    ``load_millis``: unset = it has no rule by load. ``work_millis`` keeps so much of devices busy now, and
    ``expected_work_millis`` is the most that is foreseen. ``heard_ms``: when engines last told their load.
    """

    device_class: str
    inference_millis: int
    calendar_millis: int = 0
    load_millis: int | None = None
    work_millis: int | None = None
    expected_work_millis: int | None = None
    heard_ms: int | None = None
    reason: str = ""


class Overview(Model):
    """The pool at one moment. Parts that the caller may not see are left out."""

    at_ms: int
    pool: list[PoolRow] | None = None
    tides: list[TideRow] | None = Field(None, description="empty = training and inference share freely")
    totals: NodeTotals | None = None
    nodes: list[NodeRow] | None = Field(None, description="those with the most stranded, then most used")
    queues: list[QueueRow] | None = None
    workloads: list[WorkloadRow] | None = Field(None, description="those with the most devices")


class SeriesPoint(Model):
    """Means over a step, of ``samples`` samples; what the driver does not tell is unset. ``time_ms``: when
    the step begins. ``healthy``: all the time."""

    time_ms: int
    samples: int
    healthy: bool
    utilisation_percent: int | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: int | None = None
    power_watts: int | None = None


class DeviceSeries(Model):
    """What a device did, the oldest first; nothing where its agent has no samples of it."""

    device: str
    index: int
    vendor: str
    model: str
    points: list[SeriesPoint]


class NodeSeries(Model):
    """What the devices of a node did lately. ``step_seconds`` 0: every sample is a point."""

    node: str
    at_ms: int
    window_seconds: int
    step_seconds: int
    devices: list[DeviceSeries]


class RoleSize(Model):
    """How many ranks of a role run, of how few and how many it may have. Elastic where these differ."""

    role: str
    ranks: int
    least: int
    most: int


class Explanation(Model):
    """Why a workload is where it is. ``reasons[0]`` is the dominant one; the others count nodes per filter.

    ``eta_ms``: when it is expected to start; where it is unset and the workload waits, ``no_eta`` says why.
    ``eta_predicted``: it rests on ends that past runs let expect, not on stated ones alone.
    ``not_before_ms``: it cannot start earlier (back-off, a spent budget). ``reserved_ms``: from then on
    capacity is held for it. ``expected_end_ms``: by what is stated, else by past runs; ``end_predicted_by``
    says which in words. ``preempted_for``: ``project/name`` of the workload that its last preemption made
    room for, where that is still there and may be seen. ``position`` and ``waiting``: its place in its queue,
    and how many wait there.
    """

    name: str
    project: str
    queue: str
    phase: str
    message: str = ""
    attempt: int = 0
    restarts: int = 0
    last_failure: LastFailure | None = None
    last_preemption: LastPreemption | None = None
    preempted_for: str = ""
    next_start_ms: int | None = None
    ranks: list[RankPlacement] = Field(default_factory=list)
    reasons: list[PendingReason] = Field(default_factory=list)
    remedy: str = ""
    never_fits: bool = False
    position: int | None = None
    waiting: int | None = None
    queue_numbers: QueueRow | None = None
    eta_ms: int | None = None
    eta_predicted: bool = False
    no_eta: str = ""
    not_before_ms: int | None = None
    reserved_ms: int | None = None
    since_ms: int | None = None
    expected_end_ms: int | None = None
    end_predicted_by: str = ""
    leaves_by_ms: int | None = None
    sizes: list[RoleSize] = Field(default_factory=list)
    kept_off: list[str] = Field(
        default_factory=list, description="models that could serve it and are left to those who need them"
    )


class Touched(Model):
    """Another workload that the simulated ones would change, and how, in words."""

    project: str
    name: str
    message: str


class Delay(Model):
    """Another waiting workload that would start later; unset = no start is foreseeable."""

    project: str
    name: str
    before_ms: int | None = None
    after_ms: int | None = None


class Outcome(Model):
    """What would become of one simulated workload."""

    name: str
    project: str
    starts: Literal["Now", "Later", "Unknown", "Never"]
    replaces: str = Field("", description="the phase of the workload of that name that it takes the place of")
    ranks: list[RankPlacement] = Field(default_factory=list)
    reasons: list[PendingReason] = Field(default_factory=list)
    remedy: str = ""
    position: int | None = None
    eta_ms: int | None = None
    eta_predicted: bool = Field(False, description="rests on ends that past runs let expect")
    no_eta: str = ""
    reserved_ms: int | None = None


class Simulation(Model):
    """What the next cycle would decide if these workloads were there. Nothing is written."""

    at_ms: int
    workloads: list[Outcome]
    preempts: list[Touched] = Field(default_factory=list)
    resizes: list[Touched] = Field(default_factory=list)
    moves: list[Touched] = Field(default_factory=list)
    delays: list[Delay] = Field(default_factory=list)
