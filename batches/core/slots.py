"""Whose line is next: so many at a time, and projects have equal shares."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque


class FairSlots:
    """Places of lines that are under way. A project that has fewer goes first; of those with as many, the one
    that has waited longest."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[object]] = OrderedDict()

    def ask(self, project: str, who: object) -> bool:
        """Whether it has a place at once; else it waits."""
        if self._free and not self._waiting:
            self._give(project)
            return True
        self._waiting.setdefault(project, deque()).append(who)
        return False

    def leave(self, project: str, who: object) -> None:
        """It waits no longer."""
        line = self._waiting[project]
        line.remove(who)
        if not line:
            del self._waiting[project]

    def end(self, project: str) -> object | None:
        """A place is free again: who has it now; None where nobody waits."""
        self._free += 1
        self._held[project] -= 1
        if not self._held[project]:
            del self._held[project]
        if not self._waiting:
            return None
        chosen = min(self._waiting, key=lambda name: self._held[name])
        line = self._waiting[chosen]
        who = line.popleft()
        if line:
            self._waiting.move_to_end(chosen)
        else:
            del self._waiting[chosen]
        self._give(chosen)
        return who

    def held(self, project: str) -> int:
        """Places that the project has."""
        return self._held[project]

    def _give(self, project: str) -> None:
        self._free -= 1
        self._held[project] += 1
