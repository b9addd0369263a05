"""The only kind that the scheduler knows: roles x replicas of processes that start together or not at all."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from common.resources.fields import (
    Command,
    Labels,
    Message,
    Name,
    OptionalLabelKey,
    Priority,
    Seconds,
    Text,
    Variables,
    Whole,
    WholeSeconds,
)
from common.resources.meta import Model, Resource, Status
from common.resources.pool import WHOLE_MILLIS, DeviceRequest, Toleration
from common.resources.sessions import Session
from common.vocabulary import MAX_LIST

MAX_ROLES = 16
MAX_RANKS = 4096
"""Of all roles of a workload together."""


class Readiness(Model):
    """A rank is ready when ``GET http://<address>:<port><path>`` answers 2xx."""

    port: Name
    path: Text = "/health"
    period_seconds: Seconds = Field(1.0, ge=0.05)
    start_timeout_seconds: Seconds = Field(600.0, gt=0, description="not ready by then = failed")


class Sandbox(Model):
    """A cell for the ranks of a role, where the node can make one: they see the system's programs, what is
    named here (``$(HOME_DIR)`` is replaced), and nothing else of the node."""

    readable: list[Text] = Field(default_factory=list, max_length=MAX_LIST)
    writable: list[Text] = Field(
        min_length=1, max_length=MAX_LIST, description="the first is the working folder"
    )
    network: bool = Field(False, description="gangs of several ranks always have it")
    required: bool | None = Field(
        None, description="true = the ranks start nowhere without one, whatever sandbox.mode says"
    )


class WorkloadRole(Model):
    """Identical ranks.

    In ``command`` and ``env`` values these are replaced: ``$(PYTHON)``, ``$(PORT:<name>)``, ``$(ADDRESS)``,
    ``$(RANK)``, ``$(WORLD_SIZE)``, ``$(DEVICES)`` (how many devices the rank was given, at least 1; slots of
    a CPU are one device), ``$(HOME_DIR)`` (COMPUTILITY_HOME of the node). ``$(ENGINE_KEY)`` is replaced in
    ``env`` only, and only where an Endpoint owns the Workload.
    """

    name: Name
    replicas: int = Field(1, ge=1, le=MAX_RANKS)
    min_replicas: int | None = Field(
        None,
        ge=1,
        le=MAX_RANKS,
        description="elastic: runs with so few where there is no room for all; unset = replicas",
    )
    command: Command = Field(min_length=1)
    env: Variables = Field(default_factory=dict)
    ports: list[Name] = Field(
        default_factory=list, max_length=MAX_LIST, description="free ports that the agent picks"
    )
    devices: DeviceRequest = Field(default_factory=DeviceRequest)
    readiness: Readiness | None = None
    sandbox: Sandbox | None = Field(None, description="unset = the ranks are the platform's user on the node")
    session: Session | None = Field(None, description="of a role with one replica; unset = none")

    @model_validator(mode="after")
    def _readiness_port_exists(self) -> WorkloadRole:
        if self.readiness and self.readiness.port not in self.ports:
            raise ValueError(f"readiness.port {self.readiness.port!r} is not in ports")
        if self.min_replicas is not None and self.min_replicas > self.replicas:
            raise ValueError(f"minReplicas: {self.min_replicas} is more than replicas ({self.replicas})")
        if self.session is not None and self.replicas > 1:
            raise ValueError("session: is of a role with one replica")
        return self


class RestartPolicy(Model):
    """What happens when a rank ends. A gang restarts whole.

    Back-off doubles from ``backoff_seconds`` to the maximum and starts afresh after ten minutes of running.
    Each start is billed like any other; ``max_crashes`` is how many there can be for nothing.
    """

    policy: Literal["Always", "OnFailure", "Never"] = "OnFailure"
    max_restarts: Whole | None = Field(None, description="unset = no limit")
    max_crashes: Whole = Field(
        6,
        description="restarts in a row, after failures before it ran (and, with readiness, answered) for ten "
        "minutes; then it has Failed. 0 = no limit",
    )
    backoff_seconds: Seconds = 1.0
    backoff_max_seconds: Seconds = 60.0


class WorkloadAffinity(Model):
    """Where a workload wants to be. ``same`` and ``spread`` are keys of node labels, such as
    ``computility.io/rack``."""

    data: list[Text] = Field(
        default_factory=list,
        max_length=MAX_LIST,
        description="models and datasets (names of folders); nodes that have them win",
    )
    near: Labels = Field(default_factory=dict, description="labels of other workloads whose nodes it prefers")
    apart: Labels = Field(
        default_factory=dict, description="labels of other workloads whose nodes it must not share"
    )
    beside: Labels = Field(
        default_factory=dict,
        description="labels of other workloads: on each of its nodes there must be one with each of them",
    )
    same: OptionalLabelKey = Field("", description="all ranks must share the value of this node label")
    spread: OptionalLabelKey = Field("", description="ranks are spread over the values of this node label")
    slice_same: OptionalLabelKey = Field(
        "", description="each slice of sliceSize ranks of a role must share the value of this node label"
    )
    slice_size: int = Field(0, ge=0, le=MAX_RANKS, description="ranks in a slice; with sliceSame")

    @model_validator(mode="after")
    def _slices_have_a_size(self) -> WorkloadAffinity:
        if bool(self.slice_same) != bool(self.slice_size):
            raise ValueError("sliceSame and sliceSize: set both, or none")
        return self


class Rollout(Model):
    """How a change of ``roles`` reaches what runs.

    A gang is replaced whole: with ``max_surge`` (and a readiness probe in every role) the new one is started
    beside the old one, which ends when the new one is ready; else the old one ends first. With
    ``independent`` each replica is a gang of its own, and at most ``max_surge + max_unavailable`` are
    replaced at a time.
    """

    independent: bool = Field(False, description="replicas do not need each other: placed one by one")
    max_surge: int = Field(
        0, ge=0, le=MAX_RANKS, description="gangs (replicas where independent) above what is asked for"
    )
    max_unavailable: int = Field(
        1, ge=0, le=MAX_RANKS, description="gangs (replicas) that may be not ready meanwhile"
    )

    @model_validator(mode="after")
    def _can_proceed(self) -> Rollout:
        if not self.max_surge and not self.max_unavailable:
            raise ValueError("maxSurge and maxUnavailable must not both be 0")
        return self


WorkloadKind = Literal["training", "inference", "other"]


class WorkloadSpec(Model):
    """What should run. ``kind``: training gives way to inference where the policy has tides."""

    queue: Name = "default"
    priority: Priority | None = Field(None, description="higher first; unset = the queue's default")
    roles: list[WorkloadRole] = Field(min_length=1, max_length=MAX_ROLES)
    restart: RestartPolicy = Field(default_factory=RestartPolicy)
    suspend: bool = False
    kind: WorkloadKind = "other"
    affinity: WorkloadAffinity = Field(default_factory=WorkloadAffinity)
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=MAX_LIST, description="with those of its queue"
    )
    preemptible: bool = Field(True, description="may be stopped for others; it starts again when it can")
    movable: bool = Field(False, description="may be moved to another place to make room for others")
    expected_seconds: WholeSeconds | None = Field(None, description="how long it runs; unset = not known")
    start_within_seconds: WholeSeconds | None = Field(None, description="promised, counted from its creation")
    grace_seconds: Seconds | None = Field(
        None, description="between SIGTERM and SIGKILL; unset = scheduler.stop_grace_seconds"
    )
    rollout: Rollout = Field(default_factory=Rollout)

    @model_validator(mode="after")
    def _slices_are_whole(self) -> WorkloadSpec:
        if self.affinity.slice_same and any(role.min_replicas is not None for role in self.roles):
            raise ValueError("affinity.sliceSame: roles with minReplicas cannot be cut into slices")
        return self

    @model_validator(mode="after")
    def _role_names_differ(self) -> WorkloadSpec:
        names = [role.name for role in self.roles]
        if len(set(names)) != len(names):
            raise ValueError(f"role names must differ: {', '.join(names)}")
        ranks = sum(role.replicas for role in self.roles)
        if ranks > MAX_RANKS:
            raise ValueError(f"roles: {ranks} replicas in all, but at most {MAX_RANKS} are possible")
        return self

    @model_validator(mode="after")
    def _rollout_is_possible(self) -> WorkloadSpec:
        if self.rollout.independent and any(role.min_replicas is not None for role in self.roles):
            raise ValueError("roles.minReplicas: independent replicas are placed one by one without it")
        if self.rollout.max_surge and any(role.readiness is None for role in self.roles):
            raise ValueError("rollout.maxSurge: needs readiness in every role, to know when the new is ready")
        return self


class Grant(Model):
    """A share of one device that a rank holds."""

    device: str = Field(description="Device.id")
    index: int
    vendor: str
    model: str
    memory_bytes: int = 0
    millis: int = Field(WHOLE_MILLIS, ge=1, description="thousandths of the device (CPU: of a slot)")


class RankPlacement(Model):
    """Where one rank runs and how it is."""

    role: str
    replica: int
    rank: int
    node: str
    grants: list[Grant] = Field(default_factory=list)
    cpu_millis: int = 0
    host_memory_bytes: int = 0
    state: Literal["Assigned", "Starting", "Running", "Ready", "Exited", "Lost"] = "Assigned"
    address: str = ""
    ports: dict[str, int] = Field(default_factory=dict)
    pid: int | None = None
    exit_code: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    idle: bool | None = Field(None, description="true = its session had no input for idleSeconds")


BUDGET_EXHAUSTED, STOPPED_BY_HAND = "BudgetExhausted", "Paused"
STOPS = (BUDGET_EXHAUSTED, STOPPED_BY_HAND)
"""Codes of reasons that keep a workload from running whatever room there is: a hard budget that is spent, or
a pause of its key, project or tenant."""


class PendingReason(Model):
    """Why a workload waits: ``code`` is stable, ``nodes`` counts the nodes that it holds for."""

    code: str
    message: Message
    nodes: int = 0


class LastFailure(Model):
    """How a rank ended that failed. Kept when the workload starts again."""

    attempt: int
    rank: int
    exit_code: int = Field(description="128 + n where signal n ended it")
    line: Message = Field("", description="the line of its log that says most of why")
    time_ms: int = 0


class LastPreemption(Model):
    """For whom it last gave up its places, and where these were. Kept when it starts again. ``by`` is a name
    only where that is of the same project; ``byUid`` tells them apart for all."""

    attempt: int
    nodes: list[str] = Field(default_factory=list)
    by: str = ""
    by_uid: str = ""
    message: Message = ""
    time_ms: int = 0


class NextGang(Model):
    """The gang that takes the place of the current one. ``beside``: it runs already, and takes over when it
    is ready; else it starts when the current one has ended. Its places are held."""

    cause: Literal["Update", "Migrate", "Resize", "Drain"]
    beside: bool = False
    attempt: int
    digest: str = Field(description="of spec.roles as they were placed")
    ranks: list[RankPlacement]
    message: Message = ""


class Nomination(Model):
    """Places that others are leaving for a workload that waits: its own until it starts or gives up."""

    generation: int = Field(description="of the workload; when that changes, the places are given up")
    ranks: list[RankPlacement]


def failure_in_words(failure: LastFailure) -> str:
    """Like ``exit code 2: error: unrecognized arguments: --x``."""
    return (
        f"exit code {failure.exit_code}: {failure.line}" if failure.line else f"exit code {failure.exit_code}"
    )


class WorkloadStatus(Status):
    """Conditions: ``Admitted``, ``Ready`` (every rank ready), ``Finished`` (``Succeeded`` or ``Failed``).

    ``phase`` sums them up for people. ``attempt`` numbers gangs; ``ranks`` is the current or last one. In
    ``Preempting``, ``Resizing`` and ``Migrating`` the gang is told to end, has its grace, and holds its
    places.
    """

    phase: Literal[
        "Pending",
        "Starting",
        "Running",
        "Ready",
        "Restarting",
        "CrashLoopBackOff",
        "Preempting",
        "Resizing",
        "Migrating",
        "Stopping",
        "Suspended",
        "Succeeded",
        "Failed",
    ] = "Pending"
    attempt: int = 0
    restarts: int = 0
    preemptions: int = 0
    backoff_step: int = Field(0, description="restarts since the gang last ran for ten minutes")
    crashes: int = Field(0, description="restarts in a row after failures; see spec.restart.maxCrashes")
    last_failure: LastFailure | None = None
    last_preemption: LastPreemption | None = None
    next_start_ms: int | None = Field(None, description="end of the back-off")
    placed_digest: str = Field("", description="of spec.roles as they were placed; another one = place anew")
    admitted_ms: int | None = Field(None, description="when it got places; moves and other sizes keep it")
    resized_ms: int | None = Field(None, description="when its ranks last became more or fewer")
    leaves_by_ms: int | None = Field(None, description="end of the grace of a gang that was told to end")
    ranks: list[RankPlacement] = Field(default_factory=list)
    next: NextGang | None = None
    nominated: Nomination | None = None
    pending: list[PendingReason] = Field(default_factory=list)
    never_fits: bool | None = Field(
        None, description="true: it fits on no node of the pool, even if nothing else ran"
    )
    message: Message = ""


class Workload(Resource):
    PLURAL: ClassVar[str] = "workloads"
    DERIVED_NAMES: ClassVar[bool] = True
    kind: Literal["Workload"] = "Workload"
    spec: WorkloadSpec
    status: WorkloadStatus = Field(default_factory=WorkloadStatus)
