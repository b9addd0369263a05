"""Who: tenants, projects, API keys."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from common.resources.fields import ModelNames, Name, Text, TimeMs
from common.resources.meta import Model, Resource, Status
from common.vocabulary import MAX_LIST

Role = Literal["platform-admin", "tenant-admin", "member", "agent"]


class TenantSpec(Model):
    """A paying organisation."""

    display_name: Text = ""


class Tenant(Resource):
    PLURAL: ClassVar[str] = "tenants"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["Tenant"] = "Tenant"
    spec: TenantSpec = Field(default_factory=TenantSpec)
    status: Status = Field(default_factory=Status)


class ProjectSpec(Model):
    """A group of people and agents within a tenant. Project names are unique in the whole installation."""

    tenant: Name
    display_name: Text = ""
    queues: Annotated[list[Name], Field(max_length=MAX_LIST)] = Field(
        default_factory=list, description="queues it may use; empty = all"
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


class ApiKey(Resource):
    PLURAL: ClassVar[str] = "apikeys"
    SCOPE: ClassVar[Literal["cluster", "project", "either"]] = "cluster"
    kind: Literal["ApiKey"] = "ApiKey"
    spec: ApiKeySpec
    status: ApiKeyStatus = Field(default_factory=ApiKeyStatus)
