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
    """The use of queues by priority. Changes are noted, and added up only where a queue is asked for what is
    below a priority that is not its lowest."""

    def __init__(self, running: Iterable[RunningView]) -> None:
        self._noted: dict[str, list[tuple[int, Placement, int]]] = {}
        self._lowest: dict[str, int] = {}
        self._used: dict[str, dict[int, dict[str, int]]] = {}
        for one in running:
            self.change(one.workload, one.placement, 1)

    def change(self, workload: WorkloadView, placement: Placement, sign: int) -> None:
        """These places have come (1) or gone (-1)."""
        queue, priority = workload.queue, workload.priority
        self._noted.setdefault(queue, []).append((priority, placement, sign))
        if priority < self._lowest.setdefault(queue, priority):
            self._lowest[queue] = priority

    def below(self, queue: str, priority: int) -> Mapping[str, int]:
        """Millis that work of the queue below this priority uses, by class of devices (in lower case); empty
        where there is none."""
        if priority <= self._lowest.get(queue, priority):
            return _NOTHING
        self._add_up(queue)
        lower = [amounts for known, amounts in self._used[queue].items() if known < priority]
        names = {name for amounts in lower for name in amounts}
        return {name: sum(amounts.get(name, 0) for amounts in lower) for name in names}

    def _add_up(self, queue: str) -> None:
        used = self._used.setdefault(queue, {})
        for priority, placement, sign in self._noted.pop(queue, ()):
            amounts = used.setdefault(priority, {})
            for rank in placement:
                for share in rank.shares:
                    for name in classes_of((share.vendor, share.model)):
                        amounts[name] = amounts.get(name, 0) + sign * share.millis
