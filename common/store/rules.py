"""What a write means, apart from where it is kept: shared by all store adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import Clock
from common.errors import Conflict, IdempotencyMismatch, NotFound
from common.ids import new_id
from common.resources import Model, Project, Resource, Tenant
from common.store.answers import Claim
from common.store.changed import changes_of
from common.store.ownership import Ownership, parent_of
from common.store.port import Applied, Delete, R, Write


def plan_apply(old: R | None, new: R, revision: int, clock: Clock) -> Applied[R]:
    """The resource as it will be stored under ``revision`` (the next one), and what happens to it."""
    check_version(old, new)
    merged = new.copy_deep()
    if old is None:
        merged.metadata.uid = new_id("uid", clock)
        merged.metadata.generation = 1
        merged.metadata.created_ms = clock.now_ms()
        merged.metadata.resource_version = revision
        return Applied(merged, "created")
    merged.status = old.status.model_copy(deep=True)
    merged.metadata.uid = old.metadata.uid
    merged.metadata.created_ms = old.metadata.created_ms
    merged.metadata.owner = new.metadata.owner or old.metadata.owner
    merged.metadata.resource_version = old.metadata.resource_version
    merged.metadata.generation = old.metadata.generation
    if merged == old:
        return Applied(merged, "unchanged")
    if merged.spec != old.spec:
        merged.metadata.generation += 1
    merged.metadata.resource_version = revision
    return Applied(merged, "configured", changes_of(old, merged), before=old)


@dataclass(frozen=True)
class Stored:
    """A resource in the store, and whose it is."""

    resource: Resource
    owner: Ownership


def key_of(write: Write) -> tuple[str, str, str | None]:
    """Kind, name and project of what is written."""
    if isinstance(write, Delete):
        return write.kind.__name__, write.name, write.project
    return type(write.resource).__name__, write.resource.name, write.resource.project


def plan(
    old: Stored | None, write: Write, revision: int, clock: Clock
) -> tuple[Applied[Resource], Ownership | None]:
    """What the write does, and whose the resource stays; None where that is to be found out."""
    if isinstance(write, Delete):
        if old is None:
            raise not_found(*key_of(write))
        _check_stored(old.resource, write.resource_version)
        return Applied(old.resource, "deleted"), old.owner
    known = old.resource if old else None
    applied = plan_apply(known, write.resource, revision, clock)
    same = known is not None and _belongs_alike(known, applied.resource)
    return applied, old.owner if old and same else None


def _belongs_alike(old: Resource, new: Resource) -> bool:
    shared = isinstance(old, Model) and isinstance(new, Model) and old.spec.shared != new.spec.shared
    return not shared and parent_of(old) == parent_of(new)


def _check_stored(old: Resource, resource_version: int) -> None:
    asked = old.copy_deep()
    asked.metadata.resource_version = resource_version
    check_version(old, asked)


def in_order(writes: Sequence[Write]) -> list[int]:
    """Positions of the writes in the order in which they are made: a name is freed before it is used again,
    and what others belong to comes before them."""

    def rank(position: int) -> int:
        write = writes[position]
        if isinstance(write, Delete):
            return 0
        if isinstance(write.resource, Tenant | Project):
            return 1 if isinstance(write.resource, Tenant) else 2
        return 3

    return sorted(range(len(writes)), key=rank)


def plan_status(old: R | None, new: R, revision: int) -> R | None:
    """The resource with the new status, or None when nothing changes."""
    if old is None or (new.metadata.uid and old.metadata.uid != new.metadata.uid):
        raise not_found(new.kind, new.name, new.project)
    check_version(old, new)
    if old.status == new.status:
        return None
    merged = old.copy_deep()
    merged.status = new.status.model_copy(deep=True)
    merged.metadata.resource_version = revision
    return merged


def check_version(old: Resource | None, new: Resource) -> None:
    """Refuse a write that was made from an older state."""
    wanted = new.metadata.resource_version
    if wanted and old is None:
        raise Conflict(
            f"{new.key} does not exist any more (resourceVersion {wanted} was given)",
            param="metadata.resourceVersion",
        )
    if wanted and old is not None and old.metadata.resource_version != wanted:
        raise Conflict(
            f"{new.key} changed meanwhile: resourceVersion is {old.metadata.resource_version}, not {wanted}; "
            "get it again and repeat your change",
            code="stale_resource_version",
            param="metadata.resourceVersion",
        )


def not_found(kind: str, name: str, project: str | None) -> NotFound:
    """The error for a missing resource."""
    where = f" in project {project}" if project else ""
    return NotFound(f"there is no {kind} {name!r}{where}")


def check_horizon(since: int, horizon: int) -> None:
    """Refuse to give changes after ``since`` when changes up to ``horizon`` are not kept any more."""
    if since < horizon:
        raise Conflict(
            f"changes after revision {since} are not kept any more, only those after {horizon}; list again",
            code="gone",
            param="since",
        )


def check_claim(claim: Claim, known_digest: str) -> None:
    """Refuse an Idempotency-Key that was used for another request."""
    if known_digest != claim.digest:
        raise IdempotencyMismatch(
            f"Idempotency-Key {claim.key!r} was used before for another request", param="Idempotency-Key"
        )
