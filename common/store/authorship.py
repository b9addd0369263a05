"""Who writes: each write that has an author leaves an event that says what became of the resource, by whom,
and which fields changed, in the transaction of the write. No text of a field is in it.

The edge of the API names the key of a request, and a loop of control names itself; nothing that writes has to
pass it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from common.ids import derived_id
from common.resources import Resource
from common.store.port import Applied, Event

WRITTEN_BY = "writtenBy"
"""In ``Event.data``: the author's name, of an event that tells of a write."""
_SORT, _TENANT = "writtenByA", "writtenByTenant"
_TOLD_PATHS = 6
"""So many paths stand in the message; all that are known, in the data."""
_MOST_TOLD = 20
_REASONS = {"created": "Created", "configured": "Changed", "deleted": "Deleted"}


@dataclass
class Author:
    """``name`` is that of a key, whose tenant has the uid ``tenant`` (empty = the platform's), or of a part
    of control, such as one of its loops. ``wrote`` counts what it has written, ``told`` names the first of
    that."""

    name: str
    sort: Literal["key", "control"] = "key"
    tenant: str = ""
    wrote: int = 0
    told: list[str] = field(default_factory=list)

    def note(self, applied: Sequence[Applied[Resource]]) -> None:
        """Remember what its writes did, once they are there to stay."""
        for one in applied:
            if one.outcome != "unchanged":
                self.wrote += 1
                if len(self.told) < _MOST_TOLD:
                    self.told.append(f"{one.outcome} {one.resource.key}")

    @property
    def summary(self) -> str:
        """What it wrote, like ``created Tenant/acme, configured Queue/research and 3 more``."""
        more = self.wrote - len(self.told)
        return ", ".join(self.told) + (f" and {more} more" if more else "")


_author: ContextVar[Author | None] = ContextVar("author", default=None)


def current_author() -> Author | None:
    """Who makes the writes of this task; None = nobody says."""
    return _author.get()


@contextmanager
def authored(author: Author) -> Iterator[None]:
    """Within it, what is written is ``author``'s."""
    token = _author.set(author)
    try:
        yield
    finally:
        _author.reset(token)


def events_of(author: Author | None, applied: Sequence[Applied[Resource]], now_ms: int) -> list[Event]:
    """The events of these writes, with their owners; none without an author. Of control that
    changes no spec, but only marks what it handles, there is none."""
    if author is None:
        return []
    return [_event(author, one, now_ms) for one in applied if _is_told(author, one)]


def _is_told(author: Author, applied: Applied[Resource]) -> bool:
    if applied.outcome != "configured":
        return applied.outcome != "unchanged"
    return author.sort == "key" or any(path.startswith("spec") for path in applied.changed)


def _event(author: Author, applied: Applied[Resource], now_ms: int) -> Event:
    resource, outcome = applied.resource, applied.outcome
    metadata = resource.metadata
    data: dict[str, Any] = {WRITTEN_BY: author.name, _SORT: author.sort, _TENANT: author.tenant}
    message = f"{outcome} it"
    if outcome == "configured":
        data["changed"] = list(applied.changed)
        shown = applied.changes[:_TOLD_PATHS]
        more = " and more" if len(applied.changes) > len(shown) else ""
        message = f"changed {', '.join(map(str, shown))}{more}"
    return Event(
        derived_id("evt", metadata.uid, outcome, metadata.resource_version),
        now_ms,
        "info",
        _REASONS[outcome],
        message,
        resource.kind,
        resource.name,
        resource.project,
        data,
        applied.owner,
    )


def is_of_write(event: Event) -> bool:
    """Whether the event tells of a write by somebody."""
    return isinstance(event.data.get(WRITTEN_BY), str)


def shown_to(event: Event, tenant: str | None) -> Event:
    """The event as those of a tenant (its uid; None = the platform's people) may read it: the names of
    others' keys are not for them. Who wrote stands in the message."""
    if not is_of_write(event):
        return event
    data = dict(event.data)
    sort, whose = data.pop(_SORT, "key"), data.pop(_TENANT, "")
    who = f"control ({data[WRITTEN_BY]})" if sort == "control" else f"key {data[WRITTEN_BY]}"
    if sort == "key" and tenant is not None and (not whose or tenant != whose):
        who = "another tenant" if whose else "the platform"
        data[WRITTEN_BY] = ""
    return replace(event, message=f"{who} {event.message}", data=data)
