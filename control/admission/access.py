"""Who asks, and what exists for them: API keys looked up by digest, owners looked up by project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from common.auth import Principal
from common.clock import Clock, rfc3339
from common.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from common.ids import secret_digest
from common.pauses import PAUSED, is_paused
from common.pauses import refusal as refusal_of_pause
from common.resources import ApiKey, Budget, Guardrail, Model, Price, Project, Resource, Tenant
from common.resources.people import DataGuard
from common.resources.rates import RateLimits
from common.store.ownership import Viewer
from common.store.port import Store
from common.store.rules import not_found
from control.core.permissions import Owner, Verb, allows, refusal, visible

DIRECTORY_KINDS = ("ApiKey", "Project", "Tenant")
"""Kinds that a ``Directory`` is made of."""


ACT_AS = "computility-act-as"
"""The header by which a platform-admin's key does something with the rights of another role:
``member/<project>``, or ``tenant-admin/<project>`` for an admin of the project's tenant."""
ACTED = ("member", "tenant-admin")


@dataclass(frozen=True)
class Directory:
    """All keys, projects and tenants as they were at a revision of the store: keys by their digests,
    ``tenants`` by the names of their projects, uids by name."""

    revision: int
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    tenants: Mapping[str, str] = field(default_factory=dict)
    tenant_uids: Mapping[str, str] = field(default_factory=dict)
    project_uids: Mapping[str, str] = field(default_factory=dict)

    def principal_of(self, secret: str, now_ms: int) -> Principal:
        """The holder of a key. Raises ``Unauthenticated`` when it is unknown, revoked, expired or left
        over, ``Paused`` when somebody has paused it.
        """
        key = self.keys.get(secret_digest(secret))
        if key is None:
            raise Unauthenticated("the API key is unknown")
        spec = key.spec
        if spec.revoked:
            raise Unauthenticated(f"the API key {key.name} was revoked")
        if spec.expires_ms is not None and spec.expires_ms <= now_ms:
            raise Unauthenticated(f"the API key {key.name} expired at {rfc3339(spec.expires_ms)}")
        if is_paused(key):
            paused = key.status.condition(PAUSED)
            assert paused is not None
            raise refusal_of_pause("key", key.name, paused.last_transition_ms, paused.message)
        if spec.project and spec.project not in self.tenants:
            raise Unauthenticated(f"the project of the API key {key.name} is gone")
        tenant = self.tenants.get(spec.project) if spec.project else spec.tenant
        return Principal(key.name, spec.role, tenant, spec.project, tuple(spec.models))

    def owner_of(self, resource: Resource) -> Owner:
        """Whose the resource is."""
        match resource:
            case Tenant():
                return Owner(tenant=resource.name)
            case Project():
                return Owner(tenant=resource.spec.tenant, project=resource.name)
            case ApiKey():
                return Owner(tenant=resource.spec.tenant, project=resource.spec.project)
            case Price():
                return Owner(tenant=resource.spec.tenant, public=resource.spec.tenant is None)
            case Budget():
                return Owner(tenant=resource.spec.scope.tenant, project=resource.spec.scope.project)
            case Guardrail():
                return Owner(tenant=resource.spec.scope.tenant, project=resource.spec.scope.project)
        if resource.project is None:
            return Owner(public=True)
        shared = isinstance(resource, Model) and resource.spec.shared
        return Owner(tenant=self.tenants.get(resource.project), project=resource.project, shared=shared)


class DirectoryCache:
    """The directory in force, read anew only after a change of a key, a project or a tenant."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory: Directory | None = None

    async def current(self, at_least: int | None = None) -> Directory:
        """A directory that holds every change made before this call, or those up to revision ``at_least``."""
        known = self._directory
        if known is not None and at_least is not None and known.revision >= at_least:
            return known
        revision = await self._store.revision()
        if known is not None and known.revision == revision:
            return known
        if known is None or await self._changed_since(known.revision):
            self._directory = await self._read(revision)
        else:
            self._directory = replace(known, revision=revision)
        return self._directory

    async def _changed_since(self, revision: int) -> bool:
        try:
            return bool(await self._store.changes(revision, kinds=DIRECTORY_KINDS, limit=1))
        except Conflict:  # so long ago that the store does not know any more
            return True

    async def _read(self, revision: int) -> Directory:
        keys = await self._store.list(ApiKey)
        projects = await self._store.list(Project)
        tenants = await self._store.list(Tenant)
        return Directory(
            revision,
            {key.status.digest: key for key in keys if key.status.digest},
            {project.name: project.spec.tenant for project in projects},
            {tenant.name: tenant.metadata.uid for tenant in tenants},
            {project.name: project.metadata.uid for project in projects},
        )


@dataclass
class Caller:
    """A principal with what it may see. ``key_uid`` tells its key from others that had the name,
    ``expires_ms`` is when the key ends (None = never), ``rate_limits`` and ``data`` are those of the key;
    ``denied`` is set when something was hidden or refused."""

    principal: Principal
    directory: Directory
    denied: bool = False
    key_uid: str = ""
    expires_ms: int | None = None
    rate_limits: RateLimits = field(default_factory=RateLimits)
    data: DataGuard = field(default_factory=DataGuard)

    @property
    def viewer(self) -> Viewer | None:
        """What it may see of history; None = everything."""
        who, known = self.principal, self.directory
        if who.is_platform_admin:
            return None
        return Viewer(
            known.tenant_uids.get(who.tenant or "", ""), known.project_uids.get(who.project or "", "")
        )

    @property
    def tenant_uid(self) -> str:
        """Of the principal's tenant; empty without one."""
        return self.directory.tenant_uids.get(self.principal.tenant or "", "")

    def require(self, thing: str, verb: Verb) -> None:
        """Raise ``Forbidden`` unless the role may do this at all."""
        principal = self.principal
        if allows(principal.role, thing, verb):
            return
        self.denied = True
        raise Forbidden(refusal(principal.role, principal.key, verb, thing))

    def sees(self, resource: Resource, verb: Verb = "read") -> bool:
        """Whether the resource exists for the principal."""
        return self.sees_owner(self.directory.owner_of(resource), verb)

    def sees_owner(self, owner: Owner, verb: Verb = "read") -> bool:
        """Whether things of this owner exist for the principal."""
        who = self.principal
        return visible(who.role, who.tenant, who.project, owner, verb)

    def sees_project(self, project: str) -> bool:
        """Whether the project exists for the principal."""
        tenant = self.directory.tenants.get(project)
        return tenant is not None and self.sees_owner(Owner(tenant=tenant, project=project))

    def require_project(self, project: str) -> str:
        """The name of the project's tenant; raises ``NotFound`` when it does not exist for the principal."""
        if not self.sees_project(project):
            raise self.hidden("Project", project)
        return self.directory.tenants[project]

    def require_tenant(self, tenant: str) -> None:
        """Raises ``NotFound`` when the tenant is not the principal's own."""
        if not self.sees_owner(Owner(tenant=tenant)):
            raise self.hidden("Tenant", tenant)

    def hidden(self, kind: str, name: str, project: str | None = None) -> NotFound:
        """The error for what does not exist, or not for this principal."""
        self.denied = True
        return not_found(kind, name, project)

    def project_for(self, kind: type[Resource], project: str | None) -> str | None:
        """The project in which a resource is meant: as asked for, else that of the key.

        Raises ``InvalidInput`` when there is none, or when one was given for a cluster-wide kind.
        """
        if kind.SCOPE == "cluster":
            if project:
                raise InvalidInput(f"project: kind {kind.__name__} belongs to no project", param="project")
            return None
        chosen = project or self.principal.project
        if not chosen:
            raise InvalidInput(
                f"project: required for kind {kind.__name__}; add ?project=<name>", param="project"
            )
        return chosen


def bearer_of(headers: Mapping[str, str]) -> str:
    """The secret in ``Authorization: Bearer …``; raises ``Unauthenticated`` when there is none."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("no API key was sent; send the header `Authorization: Bearer ck-…`")
    return secret.strip()


async def authenticate(
    headers: Mapping[str, str], cache: DirectoryCache, clock: Clock, at_least: int | None = None
) -> Caller:
    """The caller behind an API key, as of now or of revision ``at_least``; raises ``Unauthenticated``."""
    secret = bearer_of(headers)
    directory = await cache.current(at_least)
    principal = _acting(directory.principal_of(secret, clock.now_ms()), headers.get(ACT_AS), directory)
    key = directory.keys[secret_digest(secret)]
    uid, spec = key.metadata.uid, key.spec
    return Caller(principal, directory, False, uid, spec.expires_ms, spec.rate_limits, spec.data)


def _acting(principal: Principal, wanted: str | None, directory: Directory) -> Principal:
    """The principal, with fewer rights where it asks for that. Nobody gets more than they have."""
    if wanted is None:
        return principal
    if not principal.is_platform_admin:
        raise Forbidden(f"{ACT_AS}: only the key of a platform-admin may act as another role")
    role, _, project = wanted.partition("/")
    if role not in ACTED:
        raise InvalidInput(f"{ACT_AS}: must be {' or '.join(ACTED)}, '/' and a project", param=ACT_AS)
    tenant = directory.tenants.get(project)
    if tenant is None:
        raise not_found("Project", project, None)
    if role == "member":
        return Principal(principal.key, "member", tenant, project)
    return Principal(principal.key, "tenant-admin", tenant)


def document_of(resource: Resource) -> dict[str, Any]:
    """The resource as the API shows it: never with the digest of a key."""
    document = resource.to_dict()
    if isinstance(resource, ApiKey):
        document["status"].pop("digest", None)
    return document
