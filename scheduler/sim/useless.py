"""Preemptions that bring nothing: who was preempted for a workload that did not start on what that freed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from scheduler.core.types import Admit, Decision, Defer, Placement, Preempt


class Useless:
    """Follows for each claimant how many were preempted for it until it starts.

    They were ``preemptions`` for nothing where it goes on waiting without places that are cleared for it.
    Where it is withdrawn, or a node of these places is lost, nobody is to blame.
    """

    def __init__(self) -> None:
        self.preemptions = 0
        self._owed: dict[str, int] = {}
        self._places: dict[str, Placement] = {}

    def follow(self, decisions: Iterable[Decision]) -> None:
        """All decisions of one cycle."""
        for decision in decisions:
            if isinstance(decision, Preempt):
                claimant = decision.beneficiary
                self._owed[claimant] = self._owed.get(claimant, 0) + 1
            elif isinstance(decision, Admit):
                self.forget(decision.uid)
            elif isinstance(decision, Defer):
                self._wait(decision)

    def _wait(self, answer: Defer) -> None:
        if not self._owed.get(answer.uid):
            return
        if answer.nominated:
            self._places[answer.uid] = answer.nominated
        else:
            self.preemptions += self._owed[answer.uid]
            self.forget(answer.uid)

    def forget(self, uid: str) -> None:
        """It has started, or was withdrawn."""
        self._owed.pop(uid, None)
        self._places.pop(uid, None)

    def lose(self, is_lost: Callable[[Placement], bool]) -> None:
        """Some places are no more."""
        for uid in [uid for uid, places in self._places.items() if is_lost(places)]:
            self.forget(uid)
