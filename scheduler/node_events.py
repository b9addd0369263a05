"""What there is to tell of a node when its status changes. Each reason at most once a minute, however often
it comes and goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from common.clock import rfc3339
from common.resources import Node
from common.resources.pool import Device
from common.store.port import Event
from common.store.transitions import event_of

MINUTE_MS = 60_000
_MOST_NAMED = 8
_Told = tuple[str, str, str]
"""Level, reason and message."""


def node_events(before: Node, after: Node, now_ms: int) -> tuple[Event, ...]:
    """Joined, lost, back, silent, on probation, with broken or mended devices, or with others on them."""
    told = (*_of_ready(before, after), *_of_answers(before, after), *_of_devices(before, after))
    minute = now_ms // MINUTE_MS
    return tuple(
        event_of(after, level, reason, message, now_ms, minute) for level, reason, message in told if message
    )


def _of_ready(before: Node, after: Node) -> Iterator[_Told]:
    was, now = before.status.condition("Ready"), after.status.condition("Ready")
    if now is None or (was is not None and was.status == now.status):
        return
    if now.status == "True":
        reason = "Joined" if was is None else "Returned"
        yield (
            "info",
            reason,
            f"{'joined' if was is None else 'is back'} with {_counted(after.status.devices)}",
        )
    elif was is not None:
        yield "error" if now.reason == "NodeLost" else "warning", now.reason, now.message
    until_ms = after.status.flapping_until_ms
    if until_ms and until_ms != before.status.flapping_until_ms:
        text = f"has come back {after.status.flaps} times lately; nothing new is placed there before"
        yield "warning", "Probation", f"{text} {rfc3339(until_ms)}"


def _of_answers(before: Node, after: Node) -> Iterator[_Told]:
    for type_, good in (
        ("Responsive", "its agent answers again"),
        ("AcceleratorsHeld", "they are ours again"),
    ):
        was, now = before.status.condition(type_), after.status.condition(type_)
        if now is None or (was.status if was is not None else "True") == now.status:
            continue
        if now.status == "True":
            yield "info", type_, good
        else:
            yield "warning", now.reason, now.message


def _of_devices(before: Node, after: Node) -> Iterator[_Told]:
    old = {device.id: device.healthy for device in before.status.devices}
    changed = [one for one in after.status.devices if old.get(one.id, True) != one.healthy]
    yield "warning", "DeviceFault", _named(one for one in changed if not one.healthy)
    yield "info", "DeviceMended", _named(one for one in changed if one.healthy)


def _named(devices: Iterable[Device]) -> str:
    texts = [f"{one.vendor}/{one.model} {one.id}{f': {one.fault}' if one.fault else ''}" for one in devices]
    more = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return "; ".join(texts[:_MOST_NAMED]) + more


def _counted(devices: Sequence[Device]) -> str:
    counts = Counter(f"{device.vendor}/{device.model}" for device in devices)
    return ", ".join(f"{count} × {model}" for model, count in sorted(counts.items())) or "no devices"
