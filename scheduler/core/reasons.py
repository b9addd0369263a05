"""Why a workload waits, in words: one dominant reason, the count per filter, and what would make it fit."""

from __future__ import annotations

from collections.abc import Callable

from common.units import format_bytes
from scheduler.core.filters import FILTERS, ORDER, Judge, Verdict
from scheduler.core.placing import Placed, Pool, Stuck, place_gang
from scheduler.core.types import Defer, Policy, QueueView, Reason, Request, WorkloadView


def defer_for_queue(workload: WorkloadView, code: str, queue: QueueView | None, in_use: int) -> Defer:
    """The answer for a workload that its queue holds back."""
    name, need = workload.queue, workload.device_count
    if code == "QueueUnknown":
        return Defer(
            workload.uid, (Reason(code, f"there is no queue {name}"),), f"apply a Queue named {name}"
        )
    if code == "QueueNotAllowed":
        message = f"project {workload.project} may not use queue {name}"
        return Defer(
            workload.uid, (Reason(code, message),), f"use one of: {', '.join(workload.allowed_queues)}"
        )
    limit = (queue.max_devices if queue else None) or 0
    if need > limit:
        message = f"never fits in queue {name}: needs {need} devices, maxDevices is {limit}"
        return Defer(
            workload.uid, (Reason(code, message),), f"raise maxDevices to {need} or ask for less", never=True
        )
    message = f"waits for queue {name}: needs {need} devices, {in_use} of maxDevices {limit} are in use"
    return Defer(
        workload.uid, (Reason(code, message),), f"{need + in_use - limit} devices of the queue come free"
    )


def defer_for_place(
    workload: WorkloadView, stuck: Stuck, pool: Pool, ideal: Pool, policy: Policy, judge: Judge
) -> Defer:
    """The answer for a workload that finds no place. ``ideal``: the pool with nothing on it or broken."""
    if not pool:
        return Defer(
            workload.uid,
            (Reason("NoNodes", "waits for a node: the pool has none"),),
            "a node joins the Ray cluster",
        )
    at_best = place_gang(workload.roles, ideal, policy, judge)
    if isinstance(at_best, Placed):
        return _waits(workload, stuck, pool, ideal, judge)
    return _never(workload, at_best, pool, ideal, judge)


def _never(workload: WorkloadView, stuck: Stuck, pool: Pool, ideal: Pool, judge: Judge) -> Defer:
    """It would not fit even if nothing else ran and nothing were broken."""
    request = stuck.role.request
    counted = _count({name: judge(node, request) for name, node in pool.items()}, pool)
    verdicts = {name: judge(node, request) for name, node in ideal.items()}
    if any(verdict.groups for verdict in verdicts.values()):
        message = (
            f"never fits on this pool: it has places for {stuck.fitted} of the gang's {stuck.total} ranks"
        )
        remedy = "lower replicas or devices.count, or add nodes"
        return Defer(workload.uid, (Reason("GangSize", message), *counted), remedy, never=True)
    nearest = _nearest(verdicts)
    message = f"never fits on this pool: {nearest.message}"
    dominant = Reason(nearest.code, message, sum(v.code == nearest.code for v in verdicts.values()))
    return Defer(
        workload.uid, (dominant, *counted), _REMEDIES[nearest.code](nearest, request, pool), never=True
    )


def _waits(workload: WorkloadView, stuck: Stuck, pool: Pool, ideal: Pool, judge: Judge) -> Defer:
    """It fits on the pool as such: it waits for something to end, come back or heal."""
    request = stuck.role.request
    verdicts = {name: judge(node, request) for name, node in pool.items()}
    counted = _count(verdicts, pool)
    if any(verdict.groups for verdict in verdicts.values()):
        message = f"waits for room for the whole gang: {stuck.fitted} of its {stuck.total} ranks fit now"
        remedy = "running workloads end, or nodes are added"
        return Defer(workload.uid, (Reason("GangSize", message), *counted), remedy)
    nearest = _nearest({name: v for name, v in verdicts.items() if judge(ideal[name], request).groups})
    message = f"{_WAITS[nearest.code]}: {nearest.message}"
    dominant = Reason(nearest.code, message, sum(v.code == nearest.code for v in verdicts.values()))
    return Defer(workload.uid, (dominant, *counted), _REMEDIES[nearest.code](nearest, request, pool))


def _nearest(verdicts: dict[str, Verdict]) -> Verdict:
    return max(verdicts.values(), key=lambda verdict: (ORDER.index(verdict.code), verdict.best))


_WAITS = {
    "NodeLost": "waits for a node to come back",
    "NodeCordoned": "waits for a node to be uncordoned",
    "DeviceUnhealthy": "waits for a device to become healthy",
    "DeviceCount": "waits for a device to become healthy",
    "DevicesBusy": "waits for running workloads to end",
}
"""What can keep a workload from a node that would fit it, and what it then waits for."""


def _count(verdicts: dict[str, Verdict], pool: Pool) -> tuple[Reason, ...]:
    """One reason per filter: ``2 of 3 nodes: no ascend device``; the highest count first."""
    reasons = []
    for code in ORDER:
        those = [verdict for verdict in verdicts.values() if verdict.code == code]
        if those:
            best = max(those, key=lambda verdict: verdict.best)
            plural = "node" if len(pool) == 1 else "nodes"
            reasons.append(Reason(code, f"{len(those)} of {len(pool)} {plural}: {best.message}", len(those)))
    return tuple(sorted(reasons, key=lambda reason: -reason.nodes))


def _fix_vendor(verdict: Verdict, request: Request, pool: Pool) -> str:
    there = sorted({device.vendor for node in pool.values() for device in node.devices})
    if not there:
        return "add a node with such a device: the pool has no devices"
    return f"add a node with such a device, or allow one of: {', '.join(there)}"


def _fix_model(verdict: Verdict, request: Request, pool: Pool) -> str:
    vendor = FILTERS[0]
    there = sorted(
        {device.model for node in pool.values() for device in node.devices if vendor.passes(device, request)}
    )
    return f"add a node with such a device, or allow one of: {', '.join(there)}"


def _fix_memory(verdict: Verdict, request: Request, pool: Pool) -> str:
    largest = max(
        device.memory_bytes
        for node in pool.values()
        for device in node.devices
        if all(question.passes(device, request) for question in FILTERS[:2])
    )
    return f"lower devices.memoryBytes to at most {largest} ({format_bytes(largest)}), or add larger devices"


def _fix_health(verdict: Verdict, request: Request, pool: Pool) -> str:
    broken = sorted(
        f"{device.id} on {node.name} ({device.fault or 'no fault given'})"
        for node in pool.values()
        for device in node.devices
        if not device.healthy and all(question.passes(device, request) for question in FILTERS[:3])
    )
    return f"repair {', '.join(broken)}"


def _fix_cordon(verdict: Verdict, request: Request, pool: Pool) -> str:
    return f"uncordon {' or '.join(name for name, node in pool.items() if node.cordoned)}, or add a node"


def _fix_lost(verdict: Verdict, request: Request, pool: Pool) -> str:
    return f"bring back {' or '.join(name for name, node in pool.items() if not node.alive)}, or add a node"


def _fix_count(verdict: Verdict, request: Request, pool: Pool) -> str:
    return f"lower devices.count to at most {verdict.best}, or add a node with {request.count} such devices"


def _fix_busy(verdict: Verdict, request: Request, pool: Pool) -> str:
    return f"{request.count - verdict.best} more such devices come free on one node, or a node is added"


_REMEDIES: dict[str, Callable[[Verdict, Request, Pool], str]] = {
    "NodeLost": _fix_lost,
    "NodeCordoned": _fix_cordon,
    "VendorMismatch": _fix_vendor,
    "ModelMismatch": _fix_model,
    "DeviceMemory": _fix_memory,
    "DeviceUnhealthy": _fix_health,
    "DeviceCount": _fix_count,
    "DevicesBusy": _fix_busy,
}
