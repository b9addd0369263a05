"""A cycle over all that waits; where something breaks it, over all but that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.core.model.types import Decision, Placement, Policy, RunningView, WorkloadView
from scheduler.core.quota.spending import Spent
from scheduler.translate.snapshots import SnapshotKeeper
from scheduler.translate.views import World

MOST_CULPRITS = 8
"""So many are looked for in one pass; with more, the pass goes on with what is known to work."""


@dataclass(frozen=True)
class CycleInput:
    """What a cycle is about."""

    world: World
    pending: Sequence[WorkloadView]
    running: tuple[RunningView, ...]
    lingering: Placement
    spent: Mapping[str, Mapping[str, Spent]]
    policy: Policy
    now_ms: int


@dataclass
class Decided:
    """What was decided, and which workloads, by uid, broke the cycle, and how."""

    decisions: list[Decision] = field(default_factory=list)
    culprits: dict[str, Exception] = field(default_factory=dict)


class Cycles:
    """Runs cycles on the pool of a keeper. Remembers what went well, so that what is new is suspected
    first."""

    def __init__(self, keeper: SnapshotKeeper) -> None:
        self._keeper = keeper
        self._last: tuple[CycleInput, Collection[str]] | None = None

    def run(self, asked: CycleInput) -> Decided:
        """Decide about all of it. Raises what the cycle raises where that is no workload's doing."""
        try:
            decided = Decided(self._decide(asked, ()))
        except Exception as error:  # noqa: BLE001 - whose doing it is is found out
            decided = self._around(asked, _owners(asked), error)
        self._last = asked, decided.culprits.keys()
        return decided

    def _good(self) -> frozenset[str]:
        """Those that were in the last cycle and did not break it."""
        if self._last is None:
            return frozenset()
        asked, culprits = self._last
        return frozenset(_owners(asked)) - frozenset(culprits)

    def _decide(self, asked: CycleInput, left_out: Collection[str]) -> list[Decision]:
        """A cycle without some workloads; what these hold stays held. Raises what the cycle raises."""
        keeper = self._keeper
        pending, running, lingering = asked.pending, asked.running, asked.lingering
        if left_out:
            pending = [view for view in pending if owner_of(view.uid) not in left_out]
            running, held = apart(running, left_out)
            lingering = (*lingering, *held)
        try:
            snapshot = keeper.take(asked.world, pending, lingering, asked.spent, asked.now_ms, running)
            return keeper.decide(snapshot, asked.policy, asked.now_ms)
        except BaseException:
            keeper.forget()
            raise

    def _around(self, asked: CycleInput, everybody: Sequence[str], error: Exception) -> Decided:
        """Leave out what breaks the cycle, one after the other."""
        good = self._good()
        suspects = sorted(everybody, key=lambda uid: uid not in good)
        culprits: dict[str, Exception] = {}

        def broken_by(count: int) -> Exception | None:
            """What the cycle raises with the first ``count`` suspects and no other."""
            try:
                self._decide(asked, {*suspects[count:], *culprits})
            except Exception as found:  # noqa: BLE001 - as above
                return found
            return None

        if broken_by(0) is not None:
            raise error
        for _ in range(MOST_CULPRITS):
            first, error = _first_bad(broken_by, len(suspects), sum(uid in good for uid in suspects))
            culprits[suspects[first - 1]] = error
            try:
                return Decided(self._decide(asked, culprits), culprits)
            except Exception:  # noqa: BLE001 - there is another one
                del suspects[first - 1]
        left = suspects[: _first_bad(broken_by, len(suspects), 0)[0] - 1]
        return Decided(self._decide(asked, set(everybody) - set(left)), culprits)


def _first_bad(
    broken_by: Callable[[int], Exception | None], count: int, likely: int
) -> tuple[int, Exception]:
    """The least number of suspects with which the cycle breaks, and how: none breaks it, all do. ``likely``:
    so many are probably good."""
    good, bad, trial = 0, count, likely
    error = broken_by(count) or RuntimeError("the cycle broke once, and not again")
    while bad - good > 1:
        trial = trial if good < trial < bad else (good + bad) // 2
        found = broken_by(trial)
        if found is None:
            good = trial
        else:
            bad, error = trial, found
        trial = (good + bad) // 2
    return bad, error


def apart(
    running: tuple[RunningView, ...], left_out: Collection[str]
) -> tuple[tuple[RunningView, ...], Placement]:
    """What runs but for these workloads, and the places that these hold."""
    if not left_out:
        return running, ()
    kept = tuple(view for view in running if owner_of(view.workload.uid) not in left_out)
    out = (view for view in running if owner_of(view.workload.uid) in left_out)
    return kept, tuple(rank for view in out for rank in view.placement)


def owner_of(uid: str) -> str:
    """The uid of the workload that a view is of: its gang's, its successor's, or of places that it leaves."""
    return uid.partition("/")[0]


def _owners(asked: CycleInput) -> list[str]:
    """The workloads that it is about, each once."""
    uids: Iterable[str] = (
        *(owner_of(view.workload.uid) for view in asked.running),
        *(owner_of(view.uid) for view in asked.pending),
    )
    return list(dict.fromkeys(uids))
