"""What there is to tell of queues: that quota or budget holds back who waits, and that others take back, or
take by priority, what they hold. Each reason of a queue at most once a minute, however often it comes and
goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

from common.clock import Clock
from common.guard import Guard
from common.resources import Queue, Workload
from common.resources.pool import WHOLE_MILLIS
from common.store.port import Store
from common.store.transitions import event_of
from scheduler.core.model.types import Decision, Defer, Placement, Preempt, Resize
from scheduler.translate.placements import placement_of
from scheduler.translate.views import SUCCESSOR, World

MINUTE_MS = 60_000
MOST_TAKERS = 8
"""Queues that an event names."""
_HELD_BACK = {
    "QueueLimit": "QuotaReached",
    "QuotaExhausted": "QuotaReached",
    "CohortExhausted": "QuotaReached",
    "BudgetSpent": "BudgetSpent",
}
"""Why a workload waits for its queue, and what is told of the queue then."""
_TAKEN = {
    "Reclaimed": "takes back what was borrowed",
    "Preempted": "has more important workloads",
}


@dataclass
class _Losses:
    """What one queue takes, by its name: workloads that end or shrink for it, and thousandths of devices."""

    workloads: Counter[str] = field(default_factory=Counter)
    millis: Counter[str] = field(default_factory=Counter)


@dataclass
class _Known:
    """Of one queue. ``held``: by reason, how many wait for that since it was last otherwise, and the first
    one's reason in words; ``untold``: of these what no event has said yet."""

    held: dict[str, tuple[int, str]] = field(default_factory=dict)
    untold: set[str] = field(default_factory=set)
    losses: dict[str, _Losses] = field(default_factory=dict)
    told_ms: dict[str, int] = field(default_factory=dict)

    @property
    def is_idle(self) -> bool:
        return not (self.held or self.losses or self.told_ms)


class QueueNews:
    """Gathers from decisions what is to be told, and writes it down when it is due. No workload is named:
    who may read a queue may not read all that is in it."""

    def __init__(self, store: Store, clock: Clock, guard: Guard) -> None:
        self._store, self._clock, self._guard = store, clock, guard
        self._known: dict[str, _Known] = {}

    def look(self, decisions: Sequence[Decision], world: World) -> None:
        """Take note of what a cycle has decided; before it is carried out, as losses are what is held now.
        What cannot be told keeps nothing from being done."""
        with self._guard.item("Queue", ("news",)):
            self._take_note(decisions, world)

    def _take_note(self, decisions: Sequence[Decision], world: World) -> None:
        held: dict[str, dict[str, tuple[int, str]]] = {}
        for decision in decisions:
            if isinstance(decision, Defer):
                reason = None if decision.never else _HELD_BACK.get(decision.reasons[0].code)
                waiting = _workload(decision.uid, world) if reason is not None else None
                if reason is not None and waiting is not None:
                    of_queue = held.setdefault(waiting.spec.queue, {})
                    count, said = of_queue.get(reason, (0, decision.reasons[0].message))
                    of_queue[reason] = count + 1, said
            elif isinstance(decision, Preempt | Resize):
                with self._guard.item("Queue", ("losses",)):
                    self._lose(decision, world)
        for name in held.keys() | self._known.keys():
            known, now = self._known.setdefault(name, _Known()), held.get(name, {})
            known.untold = {reason for reason in now if reason in known.untold or reason not in known.held}
            known.held = now

    def _lose(self, decision: Preempt | Resize, world: World) -> None:
        loser = _workload(decision.uid, world)
        taker = _workload(decision.beneficiary, world)
        if loser is None or taker is None or taker.spec.queue == loser.spec.queue:
            return
        kept = decision.placement if isinstance(decision, Resize) else ()
        millis = _millis(placement_of(loser)) - _millis(kept)
        more = _priority(loser, world) < _priority(taker, world)
        known = self._known.setdefault(loser.spec.queue, _Known())
        losses = known.losses.setdefault("Preempted" if more else "Reclaimed", _Losses())
        losses.workloads[taker.spec.queue] += 1
        losses.millis[taker.spec.queue] += max(0, millis)

    async def tell(self, world: World) -> None:
        """Record what is due. Raises ``Unavailable`` where the database is away; it is told later then."""
        with self._guard.item("Queue", ("events",)):
            await self._tell(world, self._clock.now_ms())

    async def _tell(self, world: World, now_ms: int) -> None:
        self._forget(world.queues, now_ms)
        due = [
            (known, reason, event_of(queue, level, reason, message, now_ms, now_ms // MINUTE_MS))
            for name, known in self._known.items()
            if (queue := world.queues.get(name)) is not None
            for reason, level, message in _due(queue, known, now_ms)
        ]
        if not due:
            return
        await self._store.record(*(event for *_, event in due))
        for known, reason, _ in due:
            known.untold.discard(reason)
            known.losses.pop(reason, None)
            known.told_ms[reason] = now_ms

    def _forget(self, queues: Container[str], now_ms: int) -> None:
        for name, known in list(self._known.items()):
            known.told_ms = {r: told for r, told in known.told_ms.items() if _is_fresh(now_ms, told)}
            if known.is_idle or name not in queues:
                del self._known[name]


def _due(queue: Queue, known: _Known, now_ms: int) -> Iterator[tuple[str, str, str]]:
    """Reason, level and message."""
    for reason in sorted(known.untold - known.told_ms.keys()):
        count, said = known.held[reason]
        waits = "1 workload waits" if count == 1 else f"{count} workloads wait"
        yield reason, "info", f"{waits}; the first: {said}"
    for reason, losses in known.losses.items():
        if reason not in known.told_ms:
            yield reason, "warning", _lost(losses, _TAKEN[reason])


def _lost(losses: _Losses, why: str) -> str:
    takers = sorted(losses.workloads)
    parts = []
    for name in takers[:MOST_TAKERS]:
        count, millis = losses.workloads[name], losses.millis[name]
        who = "1 workload gives" if count == 1 else f"{count} workloads give"
        what = "1 device" if millis == WHOLE_MILLIS else f"{millis / WHOLE_MILLIS:.10g} devices"
        parts.append(f"{who} up {what} to queue {name}, which {why}")
    more = f"; and to {len(takers) - MOST_TAKERS} more queues" if len(takers) > MOST_TAKERS else ""
    return "; ".join(parts) + more


def _is_fresh(now_ms: int, told_ms: int) -> bool:
    """Whether it was told within the last minute, as far as clocks can be trusted."""
    return 0 <= now_ms - told_ms < MINUTE_MS


def _workload(uid: str, world: World) -> Workload | None:
    return world.workloads.get(uid.removesuffix(SUCCESSOR))


def _priority(workload: Workload, world: World) -> int:
    if workload.spec.priority is not None:
        return workload.spec.priority
    queue = world.queues.get(workload.spec.queue)
    return queue.spec.default_priority if queue is not None else 0


def _millis(placement: Placement) -> int:
    return sum(share.millis for rank in placement for share in rank.shares)
