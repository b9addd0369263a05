"""Tenants' own work: a command with a folder of theirs, run to its end."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from common.resources.fields import (
    Command,
    Message,
    Name,
    OptionalName,
    Priority,
    Variables,
    WholeSeconds,
)
from common.resources.meta import Model, Resource, Status
from common.resources.pool import DeviceRequest
from common.resources.sessions import Session
from common.resources.workload import MAX_RANKS
from common.vocabulary import TEXT_CHARACTERS, TEXT_PATTERN

OUTPUT_FOLDER = "output"
"""Where a job leaves what is to be kept, unless it says otherwise; it is there when the command starts."""
FOLDER_PURPOSE = "job-folder"
"""Of a File with the folder that a job begins with: a tar archive, compressed with gzip."""
ARTEFACTS_PURPOSE = "job-artefacts"
"""Of the File, in the same form, in which a job's results are kept."""
DEFAULT_RETRIES = 6
"""As Kubernetes Jobs have them."""
MAX_RETRIES = 100
MAX_ARTEFACTS = 16


def _stays_inside(path: str) -> str:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "" in parts:
        raise ValueError("must be a path below the job's folder, like output/model")
    return path


FolderPath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=TEXT_CHARACTERS, pattern=f"^{TEXT_PATTERN}$"),
    AfterValidator(_stays_inside),
]
"""Of a file or folder, from the job's folder on."""


class JobSpec(Model):
    """A job is made once: later only ``cancelled`` and ``ttl_seconds_after_finished`` change.

    The command runs in its folder, once per replica, all of which start together or not at all. It has
    ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``.
    """

    command: Command = Field(min_length=1)
    env: Variables = Field(default_factory=dict)
    folder: OptionalName = Field(
        "", description=f"id of a File with purpose {FOLDER_PURPOSE}; empty = the job begins with nothing"
    )
    artefacts: list[FolderPath] = Field(
        default_factory=lambda: [OUTPUT_FOLDER],
        max_length=MAX_ARTEFACTS,
        description="files and folders that are kept when it has ended",
    )
    devices: DeviceRequest = Field(default_factory=DeviceRequest, description="of each replica")
    replicas: int = Field(1, ge=1, le=MAX_RANKS, description="ranks, one process each")
    queue: Name = "default"
    priority: Priority | None = Field(None, description="unset = 10 below the queue's default")
    retries: int = Field(
        DEFAULT_RETRIES, ge=0, le=MAX_RETRIES, description="starts after a failure, with pauses that double"
    )
    deadline_seconds: WholeSeconds | None = Field(
        None, description="from its first start on, retries and pauses included; unset = none"
    )
    network: bool = Field(
        False, description="more than one replica always has it; jobs.allow_network permits"
    )
    cancelled: bool = False
    ttl_seconds_after_finished: WholeSeconds | None = Field(
        None, description="so long after its end it is deleted; unset = when somebody deletes it"
    )
    session: Session | None = Field(
        None, description="a terminal, or ports, of a job with one replica; unset = none"
    )

    @model_validator(mode="after")
    def _session_is_its_own(self) -> JobSpec:
        if self.session is None:
            return self
        if self.replicas > 1:
            raise ValueError("session: a job with a session has one replica")
        if self.session.ports and self.network:
            raise ValueError("session.ports: not with network, where its ports would be its node's")
        return self


class JobStatus(Status):
    """``exit_code`` is that of the rank that failed first; 128 + n where signal n ended it. ``exit_codes``
    are those of the last attempt by rank, None for one that did not end by itself."""

    phase: Literal[
        "Pending",
        "Running",
        "Retrying",
        "Stopping",
        "Collecting",
        "Succeeded",
        "Failed",
        "Cancelled",
    ] = "Pending"
    reason: str = ""
    message: Message = ""
    workload: str = ""
    attempts: int = 0
    exit_code: int | None = None
    exit_codes: list[int | None] = Field(default_factory=list)
    started_ms: int | None = None
    finished_ms: int | None = Field(None, description="when its processes had ended")
    confined: bool | None = Field(
        None, description="whether it runs in cells only; false = where a node has none, without"
    )
    artefacts: str = Field("", description="id of the File that holds what it left; empty = none")


ENDED_JOBS = frozenset(("Succeeded", "Failed", "Cancelled"))
"""Phases of a job after which nothing changes."""


class Job(Resource):
    PLURAL: ClassVar[str] = "jobs"
    kind: Literal["Job"] = "Job"
    spec: JobSpec
    status: JobStatus = Field(default_factory=JobStatus)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status.phase in ENDED_JOBS
