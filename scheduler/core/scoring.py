"""How good a place is: small functions in [0, 1], higher is better, weighed by the policy."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.core.filters import Group
from scheduler.core.types import NodeView, Policy, Request


def accelerator(node: NodeView, group: Group, request: Request) -> float:
    """An accelerator rather than a CPU standing for one."""
    return 1.0 if any(device.vendor != "cpu" for device in group) else 0.0


def packing(node: NodeView, group: Group, request: Request) -> float:
    """Best fit: the fewer slots stay free on the node, the better, so that large gaps stay whole."""
    devices = group or node.devices
    total = sum(device.slots for device in devices)
    free = sum(device.free_slots for device in devices)
    return 1.0 - (free - request.count) / total if total else 0.0


def memory_fit(node: NodeView, group: Group, request: Request) -> float:
    """Little memory beyond what was asked for: a small request leaves the large devices alone."""
    largest = max((device.memory_bytes for device in node.devices), default=0)
    offered = min((device.memory_bytes for device in group), default=0)
    if not largest or not offered:
        return 0.0
    return request.memory_bytes / offered if request.memory_bytes else 1.0 - offered / (2 * largest)


SCORERS: dict[str, Callable[[NodeView, Group, Request], float]] = {
    "accelerator": accelerator,
    "packing": packing,
    "memory_fit": memory_fit,
}


def score(node: NodeView, group: Group, request: Request, policy: Policy) -> float:
    """The weighted mean over the policy's scorers."""
    total = sum(weight for _, weight in policy.weights)
    return sum(weight * SCORERS[name](node, group, request) for name, weight in policy.weights) / (
        total or 1.0
    )
