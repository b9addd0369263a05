"""What may stay where a claimant comes: next to it, or because it leaves anyway."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scheduler.core.model.types import Assignment, Placement, RunningView, WorkloadView
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import MEMORY_BITS, MEMORY_MASK, MIB, pack
from scheduler.core.pool.pool import Pool


def look_past(trial: Trial, leaving: Iterable[RunningView]) -> None:
    """Look at the pool as it will be when these are gone."""
    for one in leaving:
        trial.lift(one.workload, one.placement, whole=True)


def displaced(
    pool: Pool, workload: WorkloadView, placement: Placement, leaving: Sequence[RunningView]
) -> tuple[str, ...]:
    """For which of those that are ``leaving``, and off the pool, the workload, which is on it with this
    placement, has to wait, by uid; the others are put back, in the order of their uids."""
    crowded, gone = {one.node for one in placement}, []
    for one in sorted(leaving, key=lambda each: each.workload.uid):
        if tolerates(pool, workload, one.workload, one.placement, crowded):
            pool.occupy(one.placement)
        else:
            gone.append(one.workload.uid)
    return tuple(gone)


def keep_apart(one: WorkloadView, other: WorkloadView) -> bool:
    """Whether two workloads must not be on one node (``affinity.apart``)."""
    if not (one.affinity.apart or other.affinity.apart):
        return False
    return not (
        set(one.affinity.apart).isdisjoint(other.labels) and set(other.affinity.apart).isdisjoint(one.labels)
    )


def tolerates(
    pool: Pool, workload: WorkloadView, other: WorkloadView, places: Placement, crowded: set[str]
) -> bool:
    """Whether the places of another can stay taken beside the workload, which is on the ``crowded`` nodes."""
    if keep_apart(workload, other) and any(one.node in crowded for one in places):
        return False
    return fits_beside(pool, places, crowded)


def fits_beside(pool: Pool, placement: Iterable[Assignment], crowded: set[str]) -> bool:
    """Whether these ranks still fit where they are. Only ``crowded`` nodes are looked at: elsewhere nothing
    has come."""
    devices: dict[tuple[int, int], int] = {}
    hosts: dict[int, tuple[int, int]] = {}
    for rank in placement:
        number = pool.number(rank.node) if rank.node in crowded else None
        if number is None:
            continue
        usage = pool.usage[number]
        for share in rank.shares:
            position = usage.position_of.get(share.device)
            if position is not None:
                room = usage.capacity[position] & MEMORY_MASK
                packed = pack(share.millis, min(room, -(-share.memory_bytes // MIB)))
                devices[number, position] = devices.get((number, position), 0) + packed
        cpu, host = hosts.get(number, (0, 0))
        hosts[number] = cpu + rank.cpu_millis, host - (-rank.host_memory_bytes // MIB)
    return all(
        _covers(pool.usage[number].entries[position], packed)
        for (number, position), packed in devices.items()
    ) and all(_host_covers(pool, number, cpu, host) for number, (cpu, host) in hosts.items())


def _covers(entry: int, packed: int) -> bool:
    millis = entry >> MEMORY_BITS >= packed >> MEMORY_BITS
    return millis and entry & MEMORY_MASK >= packed & MEMORY_MASK


def _host_covers(pool: Pool, number: int, cpu: int, host: int) -> bool:
    usage = pool.usage[number]
    cpu_fits = not usage.layout.cpu_millis or usage.layout.cpu_millis - usage.cpu_used_millis >= cpu
    free = usage.layout.host_mebibytes - usage.host_used_mebibytes
    return cpu_fits and (not usage.layout.host_mebibytes or free >= host)
