"""What less important work of a queue uses: of a queue that has borrowed, that is what it has borrowed with.

A nominal quota covers the work of its queue in the order of priority. So who takes back what was lent takes
only work for which the queue would have to borrow even if it ran nothing less important. Else that one, which
is within nominal again once others of its queue make way, would be taken back in turn, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scheduler.core.model.device_classes import classes_of
from scheduler.core.model.types import Placement, RunningView, WorkloadView

_NOTHING: Mapping[str, int] = {}


class Precedence:
    """The use of queues by priority. Per queue it is worked out when first asked for."""

    def __init__(self, running: Iterable[RunningView]) -> None:
        self._unread: dict[str, list[tuple[int, Placement, int]]] = {}
        self._used: dict[str, dict[int, dict[str, int]]] = {}
        for one in running:
            self.change(one.workload, one.placement, 1)

    def change(self, workload: WorkloadView, placement: Placement, sign: int) -> None:
        """These places have come (1) or gone (-1)."""
        if workload.queue in self._used:
            self._count(workload.queue, workload.priority, placement, sign)
        else:
            self._unread.setdefault(workload.queue, []).append((workload.priority, placement, sign))

    def below(self, queue: str, priority: int) -> Mapping[str, int]:
        """Millis that work of the queue below this priority uses, by class of devices (in lower case)."""
        used = self._used.get(queue)
        if used is None:
            used = self._used[queue] = {}
            for known, placement, sign in self._unread.pop(queue, ()):
                self._count(queue, known, placement, sign)
        lower = [amounts for known, amounts in used.items() if known < priority]
        if not lower:
            return _NOTHING
        names = {name for amounts in lower for name in amounts}
        return {name: sum(amounts.get(name, 0) for amounts in lower) for name in names}

    def _count(self, queue: str, priority: int, placement: Placement, sign: int) -> None:
        amounts = self._used[queue].setdefault(priority, {})
        for rank in placement:
            for share in rank.shares:
                for name in classes_of((share.vendor, share.model)):
                    amounts[name] = amounts.get(name, 0) + sign * share.millis
