"""Which engines of a role there are to be while a change reaches them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from inference.core.autoscaling.choice import Candidate, choose_replicas, worth


@dataclass(frozen=True)
class Budget:
    """``surge``: so many engines above what is wanted; ``unavailable``: so many fewer may answer."""

    surge: int
    unavailable: int


def choose_rolling(
    candidates: Sequence[Candidate],
    count: int,
    budget: Budget,
    name: Callable[[int], str],
    others: Container[str] = (),
) -> list[str]:
    """The names of the engines of a role that there are to be now, where ``count`` are wanted in the end.

    Outdated ones that answer stay until others of today's spec answer in their place: never do fewer than
    ``count`` less ``unavailable`` answer because of the change, and never are there more than ``count`` and
    ``surge`` in all, those that are leaving included. What is outdated and answers nobody is no loss: it is
    among those that are to be, and is made anew.
    """
    old = [one for one in candidates if one.outdated and one.ready]
    if not old or not count:
        return choose_replicas(candidates, count, name, others)
    fresh = [one for one in candidates if not (one.outdated and one.ready)]
    answering = sum(one.ready and one.complete and not one.draining for one in fresh)
    unavailable = max(budget.unavailable, 1) if any(one.starved for one in fresh) else budget.unavailable
    stay = sorted(old, key=worth)[: max(0, count - unavailable - answering)]
    room = count + budget.surge - len(old)
    taken = _Either(others, frozenset(one.name for one in old))
    made = choose_replicas(fresh, min(count, max(room, len(fresh))), name, taken)
    return [*(one.name for one in sorted(stay, key=lambda one: (one.index, one.name))), *made]


@dataclass(frozen=True)
class _Either:
    """Names of two collections."""

    one: Container[str]
    other: Container[str]

    def __contains__(self, name: object) -> bool:
        return name in self.one or name in self.other
