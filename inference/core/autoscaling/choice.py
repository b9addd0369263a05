"""Which engines of a role stay when there are to be so many, and what new ones are called."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """An engine that is there. ``index`` is its place in its name; ``in_flight`` what it has to do, None
    where that is not known. ``complete``: it holds the adapters that it can. ``starved``: it has waited for a
    place for as long as a change waits."""

    name: str
    index: int
    ready: bool
    outdated: bool = False
    draining: bool = False
    in_flight: int | None = None
    complete: bool = True
    starved: bool = False


def choose_replicas(
    candidates: Sequence[Candidate], count: int, name: Callable[[int], str], others: Container[str] = ()
) -> list[str]:
    """The names of the ``count`` engines that there are to be.

    Those stay that answer, first of all those that no request has been kept from; of equals those of today's
    spec, then those that have most to do, so that what goes is idle soonest. What is missing gets the lowest
    numbers that are free: ``others`` are names of engines of another role. The order is by number and name
    alone, whatever becomes of them: what is replaced first stays first until it is.
    """
    kept = sorted(candidates, key=worth)[:count]
    taken = {candidate.index for candidate in candidates}
    new = (index for index in itertools.count() if index not in taken and name(index) not in others)
    return [
        *(one.name for one in sorted(kept, key=lambda one: (one.index, one.name))),
        *_names(new, count - len(kept), name),
    ]


def worth(candidate: Candidate) -> tuple[bool, bool, bool, float, int]:
    """What stays sorts before what goes."""
    busy = math.inf if candidate.in_flight is None else candidate.in_flight
    return not candidate.ready, candidate.draining, candidate.outdated, -busy, candidate.index


def _names(indices: Iterable[int], count: int, name: Callable[[int], str]) -> list[str]:
    return [name(index) for index in itertools.islice(indices, max(0, count))]
