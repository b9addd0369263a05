"""Preemptions that bring nothing: who was preempted for a workload that did not start on what that freed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from scheduler.core.model.types import Admit, Decision, Defer, Placement, Preempt


class Useless:
    """Follows for each claimant how many were preempted for it until it starts.

    They were ``preemptions`` for nothing where it goes on waiting without the places that they freed, and no
    more important one has taken these over, or the quota for them. They are ``voided`` where that has a cause
    outside of the scheduler: the claimant is withdrawn, or its places, its quota or the workload itself were
    changed (``shake``).
    """

    def __init__(self) -> None:
        self.preemptions = 0
        self.voided = 0
        self._owed: Counter[str] = Counter()
        self._places: dict[str, Placement] = {}
        self._shaken: set[str] = set()

    def follow(self, decisions: Iterable[Decision]) -> None:
        """All decisions of one cycle."""
        owed, nominated, waiting = Counter[str](), dict[str, Placement](), dict[str, str]()
        for decision in decisions:
            if isinstance(decision, Preempt):
                owed[decision.beneficiary] += 1
            elif isinstance(decision, Admit):
                self._forget(decision.uid)
            elif isinstance(decision, Defer) and decision.nominated:
                nominated[decision.uid] = decision.nominated
            elif isinstance(decision, Defer):
                waiting[decision.uid] = decision.outbid_by
        moved = {uid for uid, places in nominated.items() if self._places.get(uid) != places}
        for uid in sorted(self._owed.keys() & (waiting.keys() | moved)):
            heir = waiting.get(uid, "") if uid in waiting or owed[uid] else uid
            self._lose(uid, heir)
        self.preemptions += sum(owed[uid] for uid in owed.keys() & waiting.keys())
        self._owed.update({uid: owed[uid] for uid in owed.keys() & nominated.keys()})
        self._places = {uid: nominated.get(uid) or self._places.get(uid, ()) for uid in self._owed}
        self._shaken.clear()

    def _lose(self, uid: str, heir: str) -> None:
        """Its places are the heir's now, or nobody's (empty); its own heir is who got others for nothing."""
        count, is_shaken = self._owed[uid], uid in self._shaken
        self._forget(uid)
        if heir:
            self._owed[heir] += count
        elif is_shaken:
            self.voided += count
        else:
            self.preemptions += count

    def withdraw(self, uid: str) -> None:
        """It was withdrawn, or has ended."""
        self.voided += self._owed[uid]
        self._forget(uid)

    def shake(self, is_hit: Callable[[str, Placement], bool]) -> None:
        """Something outside has changed since the last cycle for these claimants, or for the places that were
        cleared for them."""
        self._shaken.update(uid for uid, places in self._places.items() if is_hit(uid, places))

    def _forget(self, uid: str) -> None:
        self._owed.pop(uid, None)
        self._places.pop(uid, None)
