"""Statuses that are written together with the event that tells of them."""

from __future__ import annotations

from collections.abc import Sequence

from common.ids import derived_id
from common.resources import Resource
from common.resources.meta import Status
from common.store.port import Event, StatusWrite, Store


async def write_status(
    store: Store, resource: Resource, before: Status, type_: str, events: Sequence[Event] = ()
) -> None:
    """Write the status of a resource, with an event where the condition ``type_`` has become true, or is so
    no more, since ``before``. Raises what ``Store.set_status`` raises."""
    told = (*events, *transition(resource, before, type_))
    (result,) = await store.set_statuses([StatusWrite(resource, told)])
    if isinstance(result, Exception):
        raise result


def transition(resource: Resource, before: Status, type_: str) -> tuple[Event, ...]:
    """The event of a condition that has changed; that something is not so yet is none."""
    was, now = before.condition(type_), resource.status.condition(type_)
    if now is None or (was.status if was is not None else "False") == now.status:
        return ()
    holds = now.status == "True"
    reason = type_ if holds else f"Not{type_}"
    why = "" if now.reason == type_ else now.reason
    return (
        event_of(
            resource,
            "info" if holds else "warning",
            reason,
            now.message or why or reason,
            now.last_transition_ms,
            now.last_transition_ms,
        ),
    )


def event_of(
    resource: Resource,
    level: str,
    reason: str,
    message: str,
    time_ms: int,
    *identity: str | int,
) -> Event:
    """An event about a resource; ``identity`` tells it from others of the same reason."""
    return Event(
        id=derived_id("evt", resource.metadata.uid, reason, *identity),
        time_ms=time_ms,
        level=level,  # type: ignore[arg-type]
        reason=reason,
        message=message,
        kind=resource.kind,
        name=resource.name,
        project=resource.project,
    )
