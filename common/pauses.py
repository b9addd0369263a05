"""Pauses: what is stopped by hand, in a condition of the key, project, tenant or model that it is about.

A condition and no field of the spec: applying the resource again does not end it.
"""

from __future__ import annotations

from typing import Literal

from common.clock import rfc3339
from common.errors import Paused, PauseTold
from common.resources import ApiKey, Model, Project, Resource, Tenant

PAUSED = "Paused"
"""The condition. Its reason says at which rank it was paused, its message why."""
BY_PLATFORM, BY_TENANT, BY_GUARD = "ByPlatformAdmin", "ByTenantAdmin", "ByGuard"
Pausable = Literal["key", "project", "tenant", "model"]
KINDS: dict[Pausable, type[Resource]] = {"key": ApiKey, "project": Project, "tenant": Tenant, "model": Model}
"""What can be paused, as people and paths call it."""


def is_paused(resource: Resource) -> bool:
    """Whether it is paused now."""
    return bool(resource.status.is_true(PAUSED))


def is_locked(resource: Resource) -> bool:
    """Whether a platform-admin paused it, so that nobody else may end that."""
    found = resource.status.condition(PAUSED)
    return is_paused(resource) and found.reason == BY_PLATFORM


def refusal(scope: Pausable, name: str, since_ms: int, reason: str) -> Paused:
    """The error for whoever wants something of what is paused."""
    told = PauseTold(scope, name, rfc3339(since_ms), reason)
    return Paused(f"the {scope} {name} is paused: {reason}", pause=told)
