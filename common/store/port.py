"""The store port: versioned resources, events, idempotency, audit. One contract suite runs on every adapter.

Rules that every adapter keeps:
- Each write that changes something gives the next revision of one counter; ``metadata.resource_version`` is
  the revision of the resource's last write. A write that changes nothing gives none.
- ``apply`` writes spec, labels, annotations and owner, never status; ``set_status`` writes only status.
- A non-zero ``resource_version`` that is not the stored one is refused with ``Conflict``.
- What is returned is a copy; changing it changes nothing in the store.
- Each change and event keeps whose it was (``common.store.ownership``), whoever has the name later.
- A write that is given an ``answer`` keeps it for the claim of the request (``common.store.answers``) in the
  same transaction; one that has an author (``common.store.authorship``), the event that tells of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from common.errors import ComputilityError
from common.resources import Resource
from common.store.answers import Answer, Claim, Replay
from common.store.changed import FieldChange
from common.store.ownership import NOBODY_ELSE, Ownership, Viewer
from common.store.set_aside import SetAside
from common.units import MIB

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class Applied(Generic[R]):
    """What a write did (or, in a dry run, would do). What was deleted is as it was before. ``changes`` are
    the fields that differ where it was configured (``common.store.changed``), ``owner`` is whose it is;
    ``before`` is what it was then, only to be read."""

    resource: R
    outcome: Literal["created", "configured", "unchanged", "deleted"]
    changes: tuple[FieldChange, ...] = field(default=(), compare=False)
    owner: Ownership = field(default=NOBODY_ELSE, compare=False)

    @property
    def changed(self) -> tuple[str, ...]:
        """The paths of these fields."""
        return tuple(one.path for one in self.changes)

    before: R | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Put:
    """Create the resource or change its spec: one of several writes."""

    resource: Resource


@dataclass(frozen=True)
class Delete:
    """Remove a resource: one of several writes."""

    kind: type[Resource]
    name: str
    project: str | None = None
    resource_version: int = 0


Write = Put | Delete


@dataclass(frozen=True)
class SpecRevision:
    """A spec that a resource has or had. ``time_ms``: when it was written, ``by``: name of the key of who
    wrote it, ``tenant``: uid of that key's tenant, empty = the platform's (0 and empty where nobody knows).
    ``paths``: fields in which it differs from the one before. ``spec`` as JSON without environments; None
    where it is not kept."""

    generation: int
    time_ms: int
    by: str
    tenant: str
    paths: tuple[str, ...]
    spec: Mapping[str, Any] | None


@dataclass(frozen=True)
class KindSize:
    """What a project holds of one kind: so many resources, of so many bytes of JSON together."""

    count: int
    document_bytes: int


@dataclass(frozen=True)
class Change:
    """One step of the store's history: the resource after the write, or as it was when deleted; ``owner`` is
    whose it was then."""

    revision: int
    type: Literal["put", "delete"]
    resource: Resource
    owner: Ownership = NOBODY_ELSE


@dataclass(frozen=True)
class Event:
    """Something that happened to a resource. An id that is there already is not recorded again; ``owner`` is
    set by the store."""

    id: str
    time_ms: int
    level: Literal["info", "warning", "error"]
    reason: str
    message: str
    kind: str
    name: str
    project: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    owner: Ownership = field(default=NOBODY_ELSE, compare=False)


@dataclass(frozen=True)
class AuditEntry:
    """Who did what. ``outcome`` is ``ok`` or an error code; ``tenant`` is the uid of the principal's."""

    id: str
    time_ms: int
    principal: str
    action: str
    target: str
    outcome: str
    tenant: str = ""


@dataclass(frozen=True)
class Limits:
    """How many rows (and bytes) of each kind a store keeps at least; beyond, the oldest go of those who have
    most (``common.store.fairness``).

    ``history`` only has to cover the time that a watcher may be away. An event id or Idempotency-Key that has
    gone may be used anew.
    """

    history: int = 20_000
    history_bytes: int = 64 * MIB
    events: int = 100_000
    answers: int = 20_000
    answer_bytes: int = 64 * MIB
    audit_entries: int = 100_000


@dataclass(frozen=True)
class StatusWrite:
    """A status to write, and the events that tell of it: they are kept if the status is (or where there is
    no ``resource``: then it is about events alone)."""

    resource: Resource | None
    events: tuple[Event, ...] = ()


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

    async def sizes(self, project: str) -> Mapping[str, KindSize]:
        """What the project holds, by kind; kinds of which it has none are left out. What is set aside
        counts.
        """
        ...

    async def write_all(
        self, writes: Sequence[Write], *, dry_run: bool = False, answer: Answer | None = None
    ) -> Sequence[Applied[Resource]]:
        """Do all writes in one transaction, or none: results stand in the order given.

        Each takes a revision of its own: what is deleted first, then tenants, then projects, then the rest as
        they come. Raises what ``apply`` and ``delete`` raise.
        """
        ...

    async def apply(self, resource: R, *, dry_run: bool = False, answer: Answer | None = None) -> Applied[R]:
        """Create the resource or change its spec. Raises ``Conflict`` when ``resource_version`` is stale.

        uid, generation and created_ms are kept from the stored one or made. ``status`` of a new resource is
        stored as given.
        """
        ...

    async def set_aside(self, kind: type[Resource] | None = None) -> Sequence[SetAside]:
        """Stored resources (of a kind) that today's kinds do not take any more. Nothing else shows them."""
        ...

    async def remove_set_aside(self, kind: str, name: str, project: str | None = None) -> SetAside:
        """Remove and return one that is set aside; raises ``NotFound`` where none is."""
        ...

    async def set_status(self, resource: R) -> R:
        """Write ``resource.status`` if ``resource_version`` is still the stored one, else ``Conflict``.

        Raises ``NotFound`` when it is gone (or was made anew: another uid).
        """
        ...

    async def set_statuses(
        self, writes: Sequence[StatusWrite]
    ) -> Sequence[Resource | ComputilityError | None]:
        """Write many statuses and events in one transaction; a resource may be named once.

        In the order given: the resource as it is stored now; what ``set_status`` would raise about it (the
        others are written all the same, and its events are not); None where it was about events alone.
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
        answer: Answer | None = None,
    ) -> R:
        """Remove and return the resource; raises ``NotFound``, or ``Conflict`` when the version is stale."""
        ...

    async def revisions(self, uid: str) -> Sequence[SpecRevision]:
        """The specs that the resource of that uid has and had, as far as they are kept
        (``common.store.revisions``), newest first."""
        ...

    async def revision(self) -> int:
        """The last revision given."""
        ...

    async def changes(
        self,
        since: int,
        *,
        kinds: Sequence[str] = (),
        limit: int = 500,
        viewer: Viewer | None = None,
        known: Collection[int] = (),
    ) -> Sequence[Change]:
        """Changes after revision ``since``, oldest first; for a ``viewer`` only those that it may see.
        ``known``: revisions that are left out, because who asks has made them. What other processes have
        written is there as soon as ``revision`` or ``wait`` have told of it.

        Raises ``Conflict`` with code ``gone`` when some of them are no longer kept: list the resources again,
        then go on from the revision read before listing.
        """
        ...

    async def wait(self, since: int, timeout_seconds: float, kinds: Sequence[str] = ()) -> int:
        """Return the revision as soon as it is above ``since``, or after the timeout. Where kinds are named,
        revisions of which it is known that they are of others do not count."""
        ...

    async def record(self, *events: Event) -> None:
        """Keep events, all or none; the same id twice is kept once. Each belongs to whom its project belongs
        to now."""
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
        kinds: Sequence[str] = (),
        viewer: Viewer | None = None,
        newest: bool = False,
    ) -> Sequence[Event]:
        """Events ordered by (time, id), oldest first; ``after`` is an event id. With ``newest`` the last
        ``limit`` of them instead of the first.

        ``kinds``: only of these; empty = of all. For a ``viewer`` only those that it may see; what others
        have costs it nothing.
        """
        ...

    async def find_answer(self, claim: Claim) -> Replay | None:
        """The answer that was kept for the claim; raises ``IdempotencyMismatch`` when it was for another
        request.
        """
        ...

    async def keep_answer(self, claim: Claim, replay: Replay) -> None:
        """Keep the answer to a request that wrote nothing; one that is there stays."""
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
