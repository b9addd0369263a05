"""What a write means, apart from where it is kept: shared by all store adapters."""

from __future__ import annotations

from common.clock import Clock
from common.errors import Conflict, IdempotencyMismatch, NotFound
from common.ids import new_id
from common.resources import Resource
from common.store.port import Applied, R


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
    return Applied(merged, "configured")


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


def check_claim(key: str, known_digest: str, body_digest: str) -> None:
    """Refuse a claimed Idempotency-Key with another body."""
    if known_digest != body_digest:
        raise IdempotencyMismatch(
            f"Idempotency-Key {key!r} was used before with another body", param="Idempotency-Key"
        )


def not_claimed(key: str) -> NotFound:
    """The error for an answer to a key that nobody claimed."""
    return NotFound(f"Idempotency-Key {key!r} was not claimed")
