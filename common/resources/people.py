"""Who: tenants, projects, API keys."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from common.data_class import DataClass
from common.resources.fields import ModelNames, Name, Priority, Text, TimeMs, Whole, Word
from common.resources.meta import Model, Resource, Status
from common.resources.rates import RateLimits
from common.vocabulary import MAX_LIST, MAX_NUMBER

Role = Literal["platform-admin", "tenant-admin", "member", "agent"]


QueueNames = Annotated[list[Name], Field(max_length=MAX_LIST)]


class DataGuard(Model):
    """What binds data of requests on their way to models that others serve. A request may say more, and never
    less."""

    data_class: DataClass | None = Field(
        None, description="of all data, at least; unset = what the request says, else internal"
    )
    regions: Annotated[list[Word], Field(max_length=MAX_LIST)] | None = Field(
        None, description="of external models that may get them; empty = none, unset = all"
    )


class ProjectLimits(Model):
    """What a project may hold and ask for; unset = as its tenant says, else as the settings say. They bind
    all roles but platform-admins."""

    max_priority: Priority | None = Field(
        None, description="of endpoints and jobs; the default of a queue passes always"
    )
    max_replicas: Whole | None = Field(
        None, description="of one endpoint or Job; an engine on several nodes is one on each"
    )
    max_total_replicas: Whole | None = Field(None, description="of all endpoints together")
    max_endpoints: Whole | None = None
    max_models: Whole | None = None
    max_adapters: Whole | None = Field(None, description="adapters, and jobs that will make one")
    max_jobs: Whole | None = Field(None, description="Jobs that have not ended, and as many fine-tune jobs")
    max_batches: Whole | None = Field(None, description="batches that have not ended")
    max_files: Whole | None = None
    max_file_bytes: Whole | None = Field(None, description="of all files together")
    max_document_bytes: Whole | None = Field(None, description="of all stored resources together")
    max_keys: Whole | None = Field(None, description="keys in force")


class RunawayGuard(Model):
    """What happens when a key of the tenant spends far faster than it ever did: more in an hour than
    ``factor`` times the most in any hour of the week before. A key that was first used less than a day ago is
    not judged."""

    action: Literal["off", "notify", "pause"] = Field(
        "off", description="notify: an event tells of it; pause: the key is paused as well"
    )
    factor: int = Field(5, ge=3, le=1000)
    least_microcredits: Annotated[int, Field(gt=0, le=MAX_NUMBER)] = Field(
        1_000_000, description="in an hour; a key that spends less is left alone"
    )


class TenantSpec(Model):
    """A paying organisation. ``queues`` and ``limits`` hold for each of its projects that has none of its
    own; ``limits.max_keys`` for the keys of its admins too."""

    display_name: Text = ""
    queues: QueueNames = Field(default_factory=list, description="queues its projects may use; empty = all")
    limits: ProjectLimits = Field(default_factory=ProjectLimits)
    rate_limits: RateLimits = Field(
        default_factory=RateLimits, description="of all requests that are billed to the tenant, together"
    )
    max_projects: Whole | None = Field(
        None, description="while its admins make them; unset = as the settings say"
    )
    runaway_guard: RunawayGuard = Field(default_factory=RunawayGuard)


class Tenant(Resource):
    PLURAL: ClassVar[str] = "tenants"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Tenant"] = "Tenant"
    spec: TenantSpec = Field(default_factory=TenantSpec)
    status: Status = Field(default_factory=Status)


class ProjectSpec(Model):
    """A group of people and agents within a tenant. Project names are unique in the whole installation.

    ``queues``, ``limits`` and ``rate_limits`` are written by platform-admins; what others leave out of them
    stays as it is.
    """

    tenant: Name
    display_name: Text = ""
    queues: QueueNames = Field(
        default_factory=list, description="queues it may use; empty = those of its tenant"
    )
    limits: ProjectLimits = Field(default_factory=ProjectLimits)
    rate_limits: RateLimits = Field(
        default_factory=RateLimits, description="of all requests that are billed to the project, together"
    )
    data: DataGuard = Field(
        default_factory=DataGuard, description="of all requests that are billed to the project"
    )


class Project(Resource):
    PLURAL: ClassVar[str] = "projects"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Project"] = "Project"
    spec: ProjectSpec
    status: Status = Field(default_factory=Status)


class ApiKeySpec(Model):
    """What a key may do. ``project`` is required for members and agents, ``tenant`` for tenant-admins."""

    role: Role
    tenant: Name | None = None
    project: Name | None = None
    models: ModelNames = Field(
        default_factory=list, description="served model names it may use; empty = all visible"
    )
    expires_ms: TimeMs | None = None
    rate_limits: RateLimits = Field(default_factory=RateLimits, description="of all requests with the key")
    data: DataGuard = Field(default_factory=DataGuard, description="of all requests with the key")
    revoked: bool = False

    @model_validator(mode="after")
    def _scope_fits_role(self) -> ApiKeySpec:
        if self.role in ("member", "agent") and not self.project:
            raise ValueError(f"a key with role {self.role} needs a project")
        if self.role == "tenant-admin" and not self.tenant:
            raise ValueError("a key with role tenant-admin needs a tenant")
        return self


class ApiKeyStatus(Status):
    """``digest`` is the SHA-256 of the key in hex; the API never shows it. ``hint`` is how the key begins."""

    digest: str = ""
    hint: str = ""
    made_by: str = Field("", description="uid of the key with which it was made; empty = of none")


class ApiKey(Resource):
    PLURAL: ClassVar[str] = "apikeys"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["ApiKey"] = "ApiKey"
    spec: ApiKeySpec
    status: ApiKeyStatus = Field(default_factory=ApiKeyStatus)
