"""The store port: versioned resources, events, idempotency, audit. One contract suite runs on every adapter.

Rules that every adapter keeps:
- Each write that changes something gives the next revision of one counter; ``metadata.resource_version`` is
  the revision of the resource's last write. A write that changes nothing gives none.
- ``apply`` writes spec, labels, annotations and owner, never status; ``set_status`` writes only status.
- A non-zero ``resource_version`` that is not the stored one is refused with ``Conflict``.
- What is returned is a copy; changing it changes nothing in the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from common.resources import Resource

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class Applied(Generic[R]):
    """What ``apply`` did (or, in a dry run, would do)."""

    resource: R
    outcome: Literal["created", "configured", "unchanged"]


@dataclass(frozen=True)
class Change:
    """One step of the store's history: the resource after the write, or as it was when deleted."""

    revision: int
    type: Literal["put", "delete"]
    resource: Resource


@dataclass(frozen=True)
class Event:
    """Something that happened to a resource. An id that is there already is not recorded again."""

    id: str
    time_ms: int
    level: Literal["info", "warning", "error"]
    reason: str
    message: str
    kind: str
    name: str
    project: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditEntry:
    """Who did what. ``outcome`` is ``ok`` or an error code."""

    id: str
    time_ms: int
    principal: str
    action: str
    target: str
    outcome: str


@dataclass(frozen=True)
class Replay:
    """The answer that an Idempotency-Key got before."""

    status: int
    body: str


@dataclass(frozen=True)
class Limits:
    """How many rows of each kind a store keeps at least; the oldest go first.

    ``history`` only has to cover the time that a watcher may be away. An event id or Idempotency-Key that has
    gone may be used anew.
    """

    history: int = 20_000
    events: int = 100_000
    idempotency_keys: int = 20_000
    audit_entries: int = 100_000


class Store(Protocol):
    """Where all resources live. Only the control process writes."""

    async def get(self, kind: type[R], name: str, project: str | None = None) -> R:
        """The resource; raises ``NotFound``."""
        ...

    async def find(self, kind: type[R], name: str, project: str | None = None) -> R | None:
        """The resource, or None."""
        ...

    async def list(
        self, kind: type[R], *, project: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[R]:
        """All of a kind (of one project, with these labels), ordered by project and name."""
        ...

    async def apply(self, resource: R, *, dry_run: bool = False) -> Applied[R]:
        """Create the resource or change its spec. Raises ``Conflict`` when ``resource_version`` is stale.

        uid, generation and created_ms are kept from the stored one or made. ``status`` of a new resource is
        stored as given.
        """
        ...

    async def set_status(self, resource: R) -> R:
        """Write ``resource.status`` if ``resource_version`` is still the stored one, else ``Conflict``.

        Raises ``NotFound`` when it is gone (or was made anew: another uid).
        """
        ...

    async def delete(
        self,
        kind: type[R],
        name: str,
        project: str | None = None,
        *,
        resource_version: int = 0,
        dry_run: bool = False,
    ) -> R:
        """Remove and return the resource; raises ``NotFound``, or ``Conflict`` when the version is stale."""
        ...

    async def revision(self) -> int:
        """The last revision given."""
        ...

    async def changes(self, since: int, *, kinds: Sequence[str] = (), limit: int = 500) -> Sequence[Change]:
        """Changes after revision ``since``, oldest first.

        Raises ``Conflict`` with code ``gone`` when some of them are no longer kept: list the resources again,
        then go on from the revision read before listing.
        """
        ...

    async def wait(self, since: int, timeout_seconds: float) -> int:
        """Return the revision as soon as it is above ``since``, or after the timeout."""
        ...

    async def record(self, event: Event) -> None:
        """Keep an event; the same id twice is kept once."""
        ...

    async def events(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        project: str | None = None,
        reason: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[Event]:
        """Events ordered by (time, id), oldest first; ``after`` is an event id."""
        ...

    async def begin_idempotent(self, principal: str, key: str, body_digest: str) -> Replay | None:
        """Claim a key. Returns the earlier answer, if any; raises ``IdempotencyMismatch`` for another body.

        A claim without an answer (the process died between) may be claimed again.
        """
        ...

    async def finish_idempotent(self, principal: str, key: str, replay: Replay) -> None:
        """Keep the answer for a claimed key; raises ``NotFound`` when it was not claimed."""
        ...

    async def audit(self, entry: AuditEntry) -> None:
        """Append to the audit log."""
        ...

    async def audit_log(self, *, limit: int = 100) -> Sequence[AuditEntry]:
        """The newest entries, newest first."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
