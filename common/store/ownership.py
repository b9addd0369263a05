"""Whose a thing is, kept with each change and event as it was then: who gets a name later sees nothing of it.

Owners are told apart by the uids of tenants and projects, never by their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.resources import ApiKey, Budget, Guardrail, Model, Price, Project, Resource, Tenant

EVERYBODY = "*"
"""In place of a tenant's uid: all may see it whose role reads such things."""


@dataclass(frozen=True)
class Ownership:
    """Uids of the tenant and the project that a thing belongs to. Without a tenant it is the platform's only;
    without a project it is the tenant's as a whole."""

    tenant: str = ""
    project: str = ""


NOBODY_ELSE = Ownership()
"""The platform's own."""


@dataclass(frozen=True)
class Viewer:
    """Uids of the tenant and the project of who looks at history; without a project all of the tenant's are
    seen."""

    tenant: str
    project: str = ""

    def sees(self, owner: Ownership) -> bool:
        """Whether what belonged to ``owner`` exists for the viewer."""
        if owner.tenant == EVERYBODY:
            return True
        if self.project and owner.project:
            return owner.project == self.project
        return bool(self.tenant) and owner.tenant == self.tenant


@dataclass(frozen=True)
class Parent:
    """The resource to which another belongs."""

    kind: Literal["Tenant", "Project"]
    name: str


def parent_of(resource: Resource) -> Parent | None:
    """What the resource belongs to; None for tenants, and for what is the platform's or everybody's."""
    match resource:
        case Tenant():
            return None
        case Project():
            return Parent("Tenant", resource.spec.tenant)
        case ApiKey():
            if resource.spec.project:
                return Parent("Project", resource.spec.project)
            return Parent("Tenant", resource.spec.tenant) if resource.spec.tenant else None
        case Price():
            return Parent("Tenant", resource.spec.tenant) if resource.spec.tenant else None
        case Budget():
            scope = resource.spec.scope
            return Parent("Project", scope.project) if scope.project else Parent("Tenant", scope.tenant)
        case Guardrail():
            whose = resource.spec.scope
            if whose.tenant is None:
                return None
            return Parent("Project", whose.project) if whose.project else Parent("Tenant", whose.tenant)
    return Parent("Project", resource.project) if resource.project else None


def owner_below(resource: Resource, parent: Ownership) -> Ownership:
    """Whose the resource is, when what it belongs to is ``parent``'s (nobody's when that is not there)."""
    match resource:
        case Tenant():
            return Ownership(resource.metadata.uid)
        case Project():
            return Ownership(parent.tenant, resource.metadata.uid)
        case ApiKey() | Budget():
            return parent
        case Guardrail():
            return parent if resource.spec.scope.tenant else NOBODY_ELSE
        case Price():
            return parent if resource.spec.tenant else Ownership(EVERYBODY)
        case Model() if resource.spec.shared:
            return Ownership(EVERYBODY, parent.project)
    return parent if resource.project else Ownership(EVERYBODY)
