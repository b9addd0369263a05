"""Why a workload waits, in words: one dominant reason, the count per filter, and what would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from common.units import format_bytes
from scheduler.core.explain.verdicts import Tally, Verdict, Verdicts
from scheduler.core.model.types import Defer, Reason, Request, WorkloadView
from scheduler.core.placement.ideal import Ideal
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.pool.filters import FILTERS, ORDER, untolerated
from scheduler.core.pool.layout import MIB, Group
from scheduler.core.pool.pool import Pool
from scheduler.core.pool.states import Shape
from scheduler.core.quota.quota import QuotaRefusal


def defer_for_queue(workload: WorkloadView, refusal: QuotaRefusal) -> Defer:
    """The answer for a workload that its queue holds back."""
    return Defer(workload.uid, (Reason(refusal.code, refusal.message),), refusal.remedy, refusal.never)


def defer_for_reservation(workload: WorkloadView, queue: str) -> Defer:
    """The answer for one that would fit, were the room not held for another that comes first. That one may be
    of another tenant: only its queue is told."""
    message = f"waits behind a workload of queue {queue}: the room that it could use is held for that one"
    remedy = "that one starts; a shorter expectedSeconds would let it run before"
    return Defer(workload.uid, (Reason("HeldForOthers", message),), remedy)


def defer_for_first(workload: WorkloadView) -> Defer:
    """The answer for one that may not pass the first of its queue."""
    message = f"waits behind the first of queue {workload.queue}, which finds no place: the queue is strict"
    remedy = "that one starts or is withdrawn; with queueing: bestEffort others of the queue may pass it"
    return Defer(workload.uid, (Reason("BehindFirst", message),), remedy)


def defer_for_victims(workload: WorkloadView, victims: int) -> Defer:
    """The answer for one whose places are being taken back from others; from none where those that hold them
    end already."""
    message = "waits for workloads that give up their places already"
    if victims:
        plural = "workload" if victims == 1 else "workloads"
        message = f"waits for {victims} {plural} to give up their places"
    return Defer(workload.uid, (Reason("Preempting", message),), "their grace periods end")


def defer_for_moves(workload: WorkloadView, moves: int) -> Defer:
    """The answer for one that room is made for by moving others."""
    plural = "workload is" if moves == 1 else "workloads are"
    message = f"waits while {moves} running {plural} moved together to make room"
    return Defer(workload.uid, (Reason("Migrating", message),), "they run in their new places")


def defer_for_fit(workload: WorkloadView, until_ms: int) -> Defer:
    """The answer for a share that waits rather than leave a worthless rest."""
    until = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=until_ms)
    message = (
        "waits for a device that it fills up: where it could start now, it would leave a rest that hardly"
        f" anybody uses; it starts at {until:%Y-%m-%d %H:%M} UTC at the latest, if there is room then"
    )
    remedy = "a device with just so much free, or fewer devices in use; scheduler.policy.max_delay_seconds"
    return Defer(workload.uid, (Reason("WaitsForFit", message),), remedy)


class Explainer:
    """Finds words for one cycle; what was found for one shape of request is kept for the next."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tallies: dict[int, list[Tally]] = {}
        self._answers: dict[tuple[object, ...], Defer] = {}

    def defer(self, workload: WorkloadView, stuck: Stuck, bounds: Bounds) -> Defer:
        """The answer for a workload that finds no place."""
        if not self._pool.usage:
            reason = Reason("NoNodes", "waits for a node: the pool has none")
            return Defer(workload.uid, (reason,), "a node joins the Ray cluster")
        key = (workload.roles, bounds.models, workload.affinity, stuck)
        if key not in self._answers:
            at_best = self._pool.once(Ideal).obstacle(workload, bounds)
            if at_best is None:
                self._answers[key] = self._waits(workload, stuck, bounds)
            else:
                self._answers[key] = self._never(workload, at_best, bounds)
        known = self._answers[key]
        return Defer(workload.uid, known.reasons, known.remedy, known.never)

    def _verdicts(self, shape: Shape) -> list[Tally]:
        return self._tallies.get(shape.number) or self._tally_anew(shape)

    def _tally_anew(self, shape: Shape) -> list[Tally]:
        tally = self._tallies[shape.number] = self._pool.once(Verdicts).tally(shape)
        return tally

    def _never(self, workload: WorkloadView, stuck: Stuck, bounds: Bounds) -> Defer:
        """It would not fit even if nothing else ran and nothing were broken."""
        shape = self._pool.shape(stuck.role.request, bounds.models)
        verdicts = self._verdicts(shape)
        counted = self._count(verdicts)
        if stuck.scattered:
            field, key, ranks = _together(workload, stuck)
            message = f"never fits on this pool: no {key} has room for {ranks}"
            remedy = f"lower replicas, drop {field} {key}, or add nodes to one {key}"
            return Defer(workload.uid, (Reason("TopologyDomain", message), *counted), remedy, never=True)
        if any(item.verdict.could for item in verdicts):
            message = (
                f"never fits on this pool: it has places for {stuck.fitted} of the gang's {stuck.total} ranks"
            )
            remedy = "lower replicas or devices.count, or add nodes"
            return Defer(workload.uid, (Reason("GangSize", message), *counted), remedy, never=True)
        nearest = _nearest(verdicts)
        message = f"never fits on this pool: {nearest.verdict.message}"
        return Defer(
            workload.uid,
            (Reason(nearest.verdict.code, message, nearest.nodes), *counted),
            self._remedy(nearest.verdict, shape),
            never=True,
        )

    def _waits(self, workload: WorkloadView, stuck: Stuck, bounds: Bounds) -> Defer:
        """It fits on the pool as such: it waits for something to end, come back or heal."""
        shape = self._pool.shape(stuck.role.request, bounds.models)
        verdicts = self._verdicts(shape)
        counted = self._count(verdicts)
        if stuck.scattered:
            _, key, ranks = _together(workload, stuck)
            message = f"waits for room for {ranks} in one {key}"
            remedy = "running workloads end, or workloads are moved together"
            return Defer(workload.uid, (Reason("TopologyDomain", message), *counted), remedy)
        if stuck.total == 1 and any(not item.verdict.code for item in verdicts):
            verdicts = self._tally_anew(shape)  # others were placed since
            counted = self._count(verdicts)
        if workload.affinity.beside and any(not item.verdict.code for item in verdicts):
            wanted = " and ".join(f"{key}={value}" for key, value in workload.affinity.beside)
            message = f"waits for room on nodes of workloads with {wanted} (affinity.beside)"
            remedy = "such a workload starts on a node with room for it, or workloads beside one end"
            return Defer(workload.uid, (Reason("Affinity", message), *counted), remedy)
        if any(not item.verdict.code for item in verdicts):
            message = f"waits for room for the whole gang: {stuck.fitted} of its {stuck.total} ranks fit now"
            if stuck.total == 1:
                message = "waits for nodes where it may be: those with room are closed to it (affinity.apart)"
            remedy = "running workloads end, or nodes are added"
            code = "GangSize" if stuck.total > 1 else "AntiAffinity"
            return Defer(workload.uid, (Reason(code, message), *counted), remedy)
        able = [item for item in verdicts if item.verdict.could]
        nearest = _nearest(able or verdicts)
        message = f"{_WAITS.get(nearest.verdict.code, 'waits')}: {nearest.verdict.message}"
        return Defer(
            workload.uid,
            (Reason(nearest.verdict.code, message, nearest.nodes), *counted),
            self._remedy(nearest.verdict, shape),
        )

    def _count(self, verdicts: Sequence[Tally]) -> tuple[Reason, ...]:
        """One reason per filter: ``2 of 3 nodes: no ascend device``; the highest count first."""
        total = len(self._pool.usage)
        plural = "node" if total == 1 else "nodes"
        reasons = []
        for code in ORDER:
            those = [item for item in verdicts if item.verdict.code == code]
            if those:
                best = max(those, key=lambda item: item.verdict.best).verdict
                nodes = sum(item.nodes for item in those)
                reasons.append(Reason(code, f"{nodes} of {total} {plural}: {best.message}", nodes))
        return tuple(sorted(reasons, key=lambda reason: -reason.nodes))

    def _remedy(self, verdict: Verdict, shape: Shape) -> str:
        return _REMEDIES[verdict.code](verdict, shape.request, self._pool)


def _together(workload: WorkloadView, stuck: Stuck) -> tuple[str, str, str]:
    """Which field asks for it, which label ranks must share, and which ranks, in words."""
    affinity = workload.affinity
    if affinity.slice_same and not affinity.same:
        return "affinity.sliceSame", affinity.slice_same, f"each slice of {affinity.slice_size} ranks"
    return "affinity.same", affinity.same, f"all {stuck.total} ranks"


def _nearest(verdicts: Sequence[Tally]) -> Tally:
    best = max(verdicts, key=lambda item: (ORDER.index(item.verdict.code), item.verdict.best))
    nodes = sum(item.nodes for item in verdicts if item.verdict.code == best.verdict.code)
    return Tally(best.verdict, nodes)


_WAITS = {
    "NodeLost": "waits for a node to come back",
    "NodeFlapping": "waits for a node's probation to end",
    "NodeCordoned": "waits for a node to be uncordoned",
    "NodeReserved": "waits for a reservation",
    "DeviceUnhealthy": "waits for a device to become healthy",
    "DeviceCount": "waits for a device to become healthy",
    "HostBusy": "waits for running workloads to end",
    "DevicesBusy": "waits for running workloads to end",
    "TopologyBusy": "waits for linked devices",
}
"""What can keep a workload from a node that would fit it, and what it then waits for."""


def _groups(pool: Pool, request: Request, before: str) -> list[Group]:
    """The groups of the pool that pass all filters which are asked before the one with this code."""
    asked = list(takewhile(lambda question: question.code != before, FILTERS))
    layouts = {id(usage.layout): usage.layout for usage in pool.usage}
    return [
        group
        for layout in layouts.values()
        for group in layout.mended.groups
        if all(question.passes(group, request) for question in asked)
    ]


def _fix_vendor(verdict: Verdict, request: Request, pool: Pool) -> str:
    there = sorted({group.vendor for group in _groups(pool, request, "VendorMismatch")})
    if not there:
        return "add a node with such a device: the pool has no devices"
    return f"add a node with such a device, or allow one of: {', '.join(there)}"


def _fix_model(verdict: Verdict, request: Request, pool: Pool) -> str:
    there = sorted({group.model for group in _groups(pool, request, "ModelMismatch")})
    return f"add a node with such a device, or allow one of: {', '.join(there)}"


def _fix_capability(verdict: Verdict, request: Request, pool: Pool) -> str:
    return f"add devices with {', '.join(request.capabilities)}, or leave devices.capabilities out"


def _fix_memory(verdict: Verdict, request: Request, pool: Pool) -> str:
    largest = max(group.memory_mebibytes for group in _groups(pool, request, "DeviceMemory")) * MIB
    return f"lower devices.memoryBytes to at most {largest} ({format_bytes(largest)}), or add larger devices"


def _fix_tflops(verdict: Verdict, request: Request, pool: Pool) -> str:
    rates = [group.spec.tflops_of(request.dtype) for group in _groups(pool, request, "DeviceTflops")]
    return f"lower devices.tflops to at most {max(rates):g}, or add faster devices"


def _fix_illegal(verdict: Verdict, request: Request, pool: Pool) -> str:
    legal = sorted(
        {n for group in _groups(pool, request, "IllegalCount") for n in group.spec.rule.legal_counts}
    )
    if not legal or request.by_equivalence:
        return "raise devices.equivalence.maxCount, or ask for less"
    return f"ask for one of {', '.join(map(str, legal))} devices"


def _fix_health(verdict: Verdict, request: Request, pool: Pool) -> str:
    layouts_broken = [(usage.view, usage.view.devices) for usage in pool.usage if usage.layout.broken]
    broken = sorted(
        f"{device.id} on {node.name} ({device.fault or 'no fault given'})"
        for node, devices in layouts_broken
        for device in devices
        if not device.healthy
        and (not request.vendors or device.vendor in request.vendors)
        and (not request.models or device.model.casefold() in {m.casefold() for m in request.models})
    )
    return f"repair {', '.join(broken[:8])}"


def _names(pool: Pool, picks: Callable[[int], bool]) -> str:
    names = [usage.view.name for number, usage in enumerate(pool.usage) if picks(number)]
    more = f" or {len(names) - 8} more" if len(names) > 8 else ""
    return " or ".join(names[:8]) + more


def _fix_cordon(verdict: Verdict, request: Request, pool: Pool) -> str:
    names = _names(pool, lambda n: pool.view(n).cordoned)
    if " or " not in names:
        return f"computility uncordon {names}, or add a node"
    return f"computility uncordon NODE, of {names}, or add a node"


def _fix_lost(verdict: Verdict, request: Request, pool: Pool) -> str:
    return f"bring back {_names(pool, lambda n: not pool.view(n).alive)}, or add a node"


def _fix_flapping(verdict: Verdict, request: Request, pool: Pool) -> str:
    names = _names(pool, lambda n: bool(pool.view(n).flapping_until_ms))
    return f"the probation of {names} ends, or a node is added"


def _fix_reserved(verdict: Verdict, request: Request, pool: Pool) -> str:
    return "the workload that the nodes are held for starts"


def _fix_labels(verdict: Verdict, request: Request, pool: Pool) -> str:
    wanted = ", ".join(f"{key}={value}" for key, value in request.node_labels)
    return f"label a node with {wanted}, or leave devices.nodeLabels out"


def _fix_taints(verdict: Verdict, request: Request, pool: Pool) -> str:
    taints = {pair for usage in pool.usage for pair in untolerated(usage.layout.taints, request)}
    named = ", ".join(f"{key}={value}" for key, value in sorted(taints))
    return f"tolerate {named} (tolerations of the workload or its queue), or add a node without taints"


def _fix_quota(verdict: Verdict, request: Request, pool: Pool) -> str:
    return "raise the queue's quota for the models that it asks for, or allow other models"


def _fix_host(verdict: Verdict, request: Request, pool: Pool) -> str:
    return "lower devices.cpuMillis or devices.hostMemoryBytes, or add a larger host"


def _fix_host_busy(verdict: Verdict, request: Request, pool: Pool) -> str:
    return "host CPU or memory comes free on one node, or a node is added"


def _fix_count(verdict: Verdict, request: Request, pool: Pool) -> str:
    return f"lower devices.count to at most {verdict.best}, or add a node with {request.count} such devices"


def _fix_busy(verdict: Verdict, request: Request, pool: Pool) -> str:
    more = request.count - verdict.best
    if more < 1:
        return "a part of such a device comes free, or a node is added"
    what = "1 more such device comes" if more == 1 else f"{more} more such devices come"
    return f"{what} free on one node, or a node is added"


def _fix_topology(verdict: Verdict, request: Request, pool: Pool) -> str:
    return f"{request.count} devices of one ring, module or island come free together, or a node is added"


_REMEDIES: dict[str, Callable[[Verdict, Request, Pool], str]] = {
    "QuotaModels": _fix_quota,
    "NodeLost": _fix_lost,
    "NodeFlapping": _fix_flapping,
    "NodeCordoned": _fix_cordon,
    "NodeLabels": _fix_labels,
    "NodeTaints": _fix_taints,
    "NodeReserved": _fix_reserved,
    "VendorMismatch": _fix_vendor,
    "ModelMismatch": _fix_model,
    "CapabilityMissing": _fix_capability,
    "DeviceMemory": _fix_memory,
    "DeviceTflops": _fix_tflops,
    "IllegalCount": _fix_illegal,
    "DeviceUnhealthy": _fix_health,
    "HostTooSmall": _fix_host,
    "DeviceCount": _fix_count,
    "HostBusy": _fix_host_busy,
    "DevicesBusy": _fix_busy,
    "TopologyBusy": _fix_topology,
}
