"""The load of a node's devices over the last hour, as its agent remembers it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common.errors import NotFound, Unavailable
from common.resources import Node
from scheduler.insight.answers import DeviceSeries, NodeSeries, SeriesPoint
from scheduler.ports import DeviceSample, Fabric

LONGEST_SECONDS = 3600
"""Agents remember so much."""
_VALUES = ("utilisation_percent", "memory_used_bytes", "temperature_celsius", "power_watts")


async def node_series(
    fabric: Fabric, node: Node, device: str | None, window_seconds: int, step_seconds: int, now_ms: int
) -> NodeSeries:
    """The samples of the last ``window_seconds`` of each device (or of the one of that id), as means over
    steps. ``step_seconds`` 0: each sample.

    Raises ``NotFound`` for a device that the node does not have, ``Unavailable`` when its agent, which alone
    knows them, does not answer.
    """
    known = {each.id: each for each in node.status.devices}
    if device is not None and device not in known:
        listed = ", ".join(known) or "none"
        raise NotFound(f"node {node.name} has no device {device!r}; its devices: {listed}")
    try:
        samples = await fabric.series(node.name)
    except NotFound as error:
        message = f"node {node.name} is not in the cluster now, and only its agent knows what its devices did"
        raise Unavailable(message) from error
    since_ms = now_ms - window_seconds * 1000
    wanted = [known[device]] if device is not None else list(known.values())
    rows = [
        DeviceSeries(
            device=one.id,
            index=one.index,
            vendor=one.vendor,
            model=one.model,
            points=points(samples.get(one.id, ()), since_ms, step_seconds),
        )
        for one in wanted
    ]
    return NodeSeries(
        node=node.name, at_ms=now_ms, window_seconds=window_seconds, step_seconds=step_seconds, devices=rows
    )


def points(samples: Sequence[DeviceSample], since_ms: int, step_seconds: int) -> list[SeriesPoint]:
    """One point for each step in which there are samples, the oldest first. Steps begin at multiples of their
    length, so that those of several devices can be put together."""
    step_ms, steps = step_seconds * 1000, dict[int, list[DeviceSample]]()
    for sample in samples:
        if sample.time_ms >= since_ms:
            begins_ms = sample.time_ms // step_ms * step_ms if step_ms else sample.time_ms
            steps.setdefault(begins_ms, []).append(sample)
    return [_point(begins_ms, steps[begins_ms]) for begins_ms in sorted(steps)]


def _point(begins_ms: int, samples: Sequence[DeviceSample]) -> SeriesPoint:
    means = {name: _mean(getattr(sample, name) for sample in samples) for name in _VALUES}
    healthy = all(sample.healthy for sample in samples)
    return SeriesPoint.model_validate(
        {"time_ms": begins_ms, "samples": len(samples), "healthy": healthy, **means}
    )


def _mean(values: Iterable[int | None]) -> int | None:
    """That of the values that there are."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known)) if known else None
