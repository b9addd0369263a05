"""The only kind that the scheduler knows: roles x replicas of processes that start together or not at all."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from common.resources.meta import Model, Name, Resource, Status
from common.resources.pool import DeviceRequest


class Readiness(Model):
    """A rank is ready when ``GET http://<address>:<port><path>`` answers 2xx."""

    port: Name
    path: str = "/health"
    period_seconds: float = Field(1.0, gt=0)
    start_timeout_seconds: float = Field(600.0, gt=0, description="not ready by then = failed")


class WorkloadRole(Model):
    """Identical ranks.

    In ``command`` and ``env`` values these are replaced: ``$(PYTHON)``, ``$(PORT:<name>)``, ``$(ADDRESS)``,
    ``$(RANK)``, ``$(WORLD_SIZE)``, ``$(HOME_DIR)`` (COMPUTILITY_HOME of the node). ``$(ENGINE_KEY)`` is
    replaced in ``env`` only, and only where an Endpoint owns the Workload.
    """

    name: Name
    replicas: int = Field(1, ge=1, le=4096)
    command: list[str] = Field(min_length=1)
    env: dict[str, str] = Field(default_factory=dict)
    ports: list[Name] = Field(default_factory=list, description="free ports that the agent picks")
    devices: DeviceRequest = Field(default_factory=DeviceRequest)
    readiness: Readiness | None = None

    @model_validator(mode="after")
    def _readiness_port_exists(self) -> WorkloadRole:
        if self.readiness and self.readiness.port not in self.ports:
            raise ValueError(f"readiness.port {self.readiness.port!r} is not in ports")
        return self


class RestartPolicy(Model):
    """What happens when a rank ends. A gang restarts whole.

    Back-off doubles from ``backoff_seconds`` to the maximum and starts afresh after ten minutes of running.
    """

    policy: Literal["Always", "OnFailure", "Never"] = "OnFailure"
    max_restarts: int | None = Field(None, ge=0, description="unset = no limit")
    backoff_seconds: float = Field(1.0, ge=0)
    backoff_max_seconds: float = Field(60.0, ge=0)


class WorkloadSpec(Model):
    queue: Name = "default"
    priority: int | None = Field(None, description="higher first; unset = the queue's default")
    roles: list[WorkloadRole] = Field(min_length=1)
    restart: RestartPolicy = Field(default_factory=RestartPolicy)
    suspend: bool = False

    @model_validator(mode="after")
    def _role_names_differ(self) -> WorkloadSpec:
        names = [role.name for role in self.roles]
        if len(set(names)) != len(names):
            raise ValueError(f"role names must differ: {', '.join(names)}")
        return self


class Grant(Model):
    """A share of one device that a rank holds."""

    device: str = Field(description="Device.id")
    index: int
    vendor: str
    model: str
    memory_bytes: int = 0


class RankPlacement(Model):
    """Where one rank runs and how it is."""

    role: str
    replica: int
    rank: int
    node: str
    grants: list[Grant] = Field(default_factory=list)
    state: Literal["Assigned", "Starting", "Running", "Ready", "Exited", "Lost"] = "Assigned"
    address: str = ""
    ports: dict[str, int] = Field(default_factory=dict)
    pid: int | None = None
    exit_code: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None


class PendingReason(Model):
    """Why a workload waits: ``code`` is stable, ``nodes`` counts the nodes that it holds for."""

    code: str
    message: str
    nodes: int = 0


class WorkloadStatus(Status):
    """Conditions: ``Admitted``, ``Ready`` (every rank ready), ``Finished`` (``Succeeded`` or ``Failed``).

    ``phase`` sums them up for people. ``attempt`` counts gangs; ``ranks`` is the current or last one.
    """

    phase: Literal[
        "Pending",
        "Starting",
        "Running",
        "Ready",
        "Restarting",
        "Stopping",
        "Suspended",
        "Succeeded",
        "Failed",
    ] = "Pending"
    attempt: int = 0
    restarts: int = 0
    backoff_step: int = Field(0, description="restarts since the gang last ran for ten minutes")
    next_start_ms: int | None = Field(None, description="end of the back-off")
    placed_digest: str = Field("", description="of spec.roles as they were placed; another one = place anew")
    admitted_ms: int | None = None
    ranks: list[RankPlacement] = Field(default_factory=list)
    pending: list[PendingReason] = Field(default_factory=list)
    message: str = ""


class Workload(Resource):
    PLURAL: ClassVar[str] = "workloads"
    kind: Literal["Workload"] = "Workload"
    spec: WorkloadSpec
    status: WorkloadStatus = Field(default_factory=WorkloadStatus)
