"""Preemptions that bring nothing: who was preempted for a workload that did not start on what that freed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scheduler.core.model.types import Admit, Decision, Defer, Placement, Preempt


class Useless:
    """Follows for each claimant how many were preempted for it until it starts.

    They were ``preemptions`` for nothing where it goes on waiting without places that are cleared for it, and
    nobody else waits for these places. Where it is withdrawn, or a node of these places is lost, nobody is to
    blame.
    """

    def __init__(self) -> None:
        self.preemptions = 0
        self._owed: dict[str, int] = {}
        self._places: dict[str, Placement] = {}

    def follow(self, decisions: Iterable[Decision]) -> None:
        """All decisions of one cycle."""
        heirs: dict[str, Placement] = {}
        lost: list[str] = []
        for decision in decisions:
            if isinstance(decision, Preempt):
                claimant = decision.beneficiary
                self._owed[claimant] = self._owed.get(claimant, 0) + 1
            elif isinstance(decision, Admit):
                self.forget(decision.uid)
            elif isinstance(decision, Defer) and decision.nominated:
                heirs[decision.uid] = decision.nominated
            elif isinstance(decision, Defer) and decision.uid in self._owed:
                lost.append(decision.uid)
        for uid in lost:
            self._lose(uid, heirs)
        self._places.update((uid, heirs[uid]) for uid in self._owed.keys() & heirs.keys())

    def _lose(self, uid: str, heirs: dict[str, Placement]) -> None:
        """Its places are another's now, or nobody's."""
        owed, devices = self._owed[uid], _devices(self._places.get(uid, ()))
        heir = next((other for other, places in heirs.items() if devices & _devices(places)), None)
        if heir is None:
            self.preemptions += owed
        else:
            self._owed[heir] = self._owed.get(heir, 0) + owed
        self.forget(uid)

    def forget(self, uid: str) -> None:
        """It has started, or was withdrawn."""
        self._owed.pop(uid, None)
        self._places.pop(uid, None)

    def lose(self, is_lost: Callable[[Placement], bool]) -> None:
        """Some places are no more."""
        for uid in [uid for uid, places in self._places.items() if is_lost(places)]:
            self.forget(uid)


def _devices(placement: Placement) -> set[tuple[str, str]]:
    return {(rank.node, share.device) for rank in placement for share in rank.shares}
