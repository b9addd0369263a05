"""Places taken on trial from those that run, on the pool and on the books, so that each can be given back
while room is sought. Nothing of it remains: what is decided in the end is carried out anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scheduler.core.elastic import spare_ranks, without
from scheduler.core.layout import MEMORY_BITS, MEMORY_MASK, MIB, ModelKey, pack
from scheduler.core.pool import Pool
from scheduler.core.trial import Trial, millis_by_model
from scheduler.core.types import Assignment, Placement, RunningView, WorkloadView
from scheduler.core.victims import Held

Saved = tuple[
    dict[str, Held],
    dict[str, tuple[Held, list[Assignment]]],
    dict[tuple[str, ModelKey], int],
    dict[str, RunningView],
]


class Taking:
    """``killed``: workloads that go, by uid; ``shrunk``: ranks that elastic ones give up; ``aside``: what is
    leaving anyway and is looked through."""

    def __init__(self, trial: Trial, *, heed_neighbours: bool) -> None:
        self._trial = trial
        self._neighbours = trial.neighbours if heed_neighbours else None
        self._absent: dict[str, RunningView] = {}
        self.killed: dict[str, Held] = {}
        self.shrunk: dict[str, tuple[Held, list[Assignment]]] = {}
        self.aside: list[RunningView] = []
        self._booked: dict[tuple[str, ModelKey], int] = {}

    def victims(self) -> Iterator[Held]:
        """All that goes or gives up ranks."""
        yield from self.killed.values()
        for held, _ in self.shrunk.values():
            yield held

    def placement(self, held: Held) -> Placement:
        """What it still holds."""
        uid = held.workload.uid
        if uid in self.killed:
            return ()
        current = self._trial.running[uid].placement
        return without(current, self.shrunk[uid][1]) if uid in self.shrunk else current

    def spare(self, held: Held) -> dict[str, int]:
        """Per role, how many ranks it could still give up."""
        spare = spare_ranks(self._trial.running[held.workload.uid])
        for rank in self.shrunk.get(held.workload.uid, (held, []))[1]:
            spare[rank.role] -= 1
        return spare

    def set_aside(self, leaving: RunningView) -> None:
        """Look at the pool as it will be when this one is gone."""
        self.aside.append(leaving)
        self._part({**self._absent, leaving.workload.uid: leaving})
        self._move(leaving.workload.queue, leaving.placement, -1)

    def displaced_by(self, workload: WorkloadView, placement: Placement) -> tuple[str, ...]:
        """Which of those set aside the workload, which is on the pool, waits for; the others are put back."""
        crowded, gone = {one.node for one in placement}, []
        for one in self.aside:
            if tolerates(self._trial.pool, workload, one.workload, one.placement, crowded):
                self._trial.pool.occupy(one.placement)
            else:
                gone.append(one.workload.uid)
        return tuple(gone)

    def kill(self, held: Held) -> None:
        """It gives up all that it still holds."""
        self._move(held.workload.queue, self.placement(held), -1)
        self.shrunk.pop(held.workload.uid, None)
        self.killed[held.workload.uid] = held
        self._part({**self._absent, held.workload.uid: self._trial.running[held.workload.uid]})

    def revive(self, held: Held) -> None:
        """It keeps its places, all of them."""
        del self.killed[held.workload.uid]
        self._part({uid: one for uid, one in self._absent.items() if uid != held.workload.uid})
        self._move(held.workload.queue, self.placement(held), 1)

    def shrink(self, held: Held, rank: Assignment) -> None:
        """It gives up one rank."""
        self._move(held.workload.queue, (rank,), -1)
        self.shrunk.setdefault(held.workload.uid, (held, []))[1].append(rank)

    def regrow(self, held: Held, rank: Assignment) -> None:
        """It keeps that rank."""
        ranks = self.shrunk[held.workload.uid][1]
        ranks.remove(rank)
        if not ranks:
            del self.shrunk[held.workload.uid]
        self._move(held.workload.queue, (rank,), 1)

    def saved(self) -> Saved:
        """For ``restore``."""
        shrunk = {uid: (held, list(ranks)) for uid, (held, ranks) in self.shrunk.items()}
        return dict(self.killed), shrunk, dict(self._booked), dict(self._absent)

    def restore(self, saved: Saved) -> None:
        """Go back there; the pool is rolled back by who made the mark."""
        self.killed, self.shrunk, booked, absent = saved
        self._rebook(booked)
        self._part(absent)

    def undo(self) -> None:
        """Put the books right again. What was taken is remembered, and the pool is rolled back by who made
        the mark."""
        self._rebook({})
        self._part({})

    def _part(self, absent: dict[str, RunningView]) -> None:
        """These are nobody's neighbours now."""
        if self._neighbours is None:
            return
        for uid in self._absent.keys() - absent.keys():
            self._neighbours.add(self._absent[uid].workload, self._absent[uid].placement)
        for uid in absent.keys() - self._absent.keys():
            self._neighbours.remove(absent[uid].workload, absent[uid].placement)
        self._absent = absent

    def _rebook(self, wanted: dict[tuple[str, ModelKey], int]) -> None:
        for key in sorted({*self._booked, *wanted}):
            change = wanted.get(key, 0) - self._booked.get(key, 0)
            if change > 0:
                self._trial.tree.charge(*key, change)
            elif change < 0:
                self._trial.tree.refund(*key, -change)
        self._booked = wanted

    def _move(self, queue: str, placement: Placement, sign: int) -> None:
        pool, tree = self._trial.pool, self._trial.tree
        for model, millis in millis_by_model(placement).items():
            self._booked[queue, model] = self._booked.get((queue, model), 0) + sign * millis
            if sign > 0:
                tree.charge(queue, model, millis)
            else:
                tree.refund(queue, model, millis)
        if sign > 0:
            pool.occupy(placement)
        else:
            pool.vacate(placement)


def keep_apart(one: WorkloadView, other: WorkloadView) -> bool:
    """Whether two workloads must not be on one node (``affinity.apart``)."""
    if not (one.affinity.apart or other.affinity.apart):
        return False
    return not (
        set(one.affinity.apart).isdisjoint(other.labels) and set(other.affinity.apart).isdisjoint(one.labels)
    )


def has_wishes(workload: WorkloadView) -> bool:
    """Whether it matters who else is on its nodes."""
    return bool(workload.labels or workload.affinity.near or workload.affinity.apart)


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
