"""Places taken on trial from those that run, so that each can be given back while room is sought. It happens
on the trial, which is rolled back in the end; who is taken from is remembered, and carried out anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scheduler.core.model.types import Assignment, Placement, RunningView, WorkloadView
from scheduler.core.placement.affinity import has_wishes
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import MEMORY_BITS, MEMORY_MASK, MIB, pack
from scheduler.core.pool.pool import Pool
from scheduler.core.preemption.candidates import Candidate
from scheduler.core.reshape.elastic import spare_ranks, without

Saved = tuple[dict[str, Candidate], dict[str, tuple[Candidate, list[Assignment]]]]


class TentativeEvictions:
    """``evicted``: workloads that go, by uid; ``shrunk``: ranks that elastic ones give up; ``aside``: what is
    leaving anyway and is looked through."""

    def __init__(self, trial: Trial, claimant: WorkloadView) -> None:
        self._trial = trial
        if has_wishes(claimant):
            trial.build_affinity_index()
        self.evicted: dict[str, Candidate] = {}
        self.shrunk: dict[str, tuple[Candidate, list[Assignment]]] = {}
        self.aside: list[RunningView] = []

    def victims(self) -> Iterator[Candidate]:
        """All that goes or gives up ranks."""
        yield from self.evicted.values()
        for held, _ in self.shrunk.values():
            yield held

    def placement(self, held: Candidate) -> Placement:
        """What it still holds."""
        uid = held.workload.uid
        if uid in self.evicted:
            return ()
        current = self._trial.running[uid].placement
        return without(current, self.shrunk[uid][1]) if uid in self.shrunk else current

    def spare(self, held: Candidate) -> dict[str, int]:
        """Per role, how many ranks it could still give up."""
        spare = spare_ranks(self._trial.running[held.workload.uid])
        for rank in self.shrunk.get(held.workload.uid, (held, []))[1]:
            spare[rank.role] -= 1
        return spare

    def set_aside(self, leaving: RunningView) -> None:
        """Look at the pool as it will be when this one is gone."""
        self.aside.append(leaving)
        self._trial.lift(leaving.workload, leaving.placement, whole=True)

    def displaced_by(self, workload: WorkloadView, placement: Placement) -> tuple[str, ...]:
        """Which of those set aside the workload, which is on the pool, waits for; the others are put back."""
        crowded, gone = {one.node for one in placement}, []
        for one in self.aside:
            if tolerates(self._trial.pool, workload, one.workload, one.placement, crowded):
                self._trial.pool.occupy(one.placement)
            else:
                gone.append(one.workload.uid)
        return tuple(gone)

    def evict(self, held: Candidate) -> None:
        """It gives up all that it still holds."""
        running = self._trial.running[held.workload.uid]
        for rank in self.shrunk.pop(held.workload.uid, (held, ()))[1]:
            self._trial.lay_back(running.workload, (rank,), whole=False)
        self.evicted[held.workload.uid] = held
        self._trial.lift(running.workload, running.placement, whole=True)

    def restore(self, held: Candidate) -> None:
        """It keeps its places, all of them."""
        del self.evicted[held.workload.uid]
        running = self._trial.running[held.workload.uid]
        self._trial.lay_back(running.workload, running.placement, whole=True)

    def shrink(self, held: Candidate, rank: Assignment) -> None:
        """It gives up one rank."""
        self._trial.lift(held.workload, (rank,), whole=False)
        self.shrunk.setdefault(held.workload.uid, (held, []))[1].append(rank)

    def regrow(self, held: Candidate, rank: Assignment) -> None:
        """It keeps that rank."""
        ranks = self.shrunk[held.workload.uid][1]
        ranks.remove(rank)
        if not ranks:
            del self.shrunk[held.workload.uid]
        self._trial.lay_back(held.workload, (rank,), whole=False)

    def saved(self) -> Saved:
        """For ``return_to``."""
        return dict(self.evicted), {uid: (held, list(ranks)) for uid, (held, ranks) in self.shrunk.items()}

    def return_to(self, saved: Saved) -> None:
        """Go back there; who made the mark rolls back the trial."""
        self.evicted, self.shrunk = saved


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
