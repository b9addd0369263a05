"""Which replicas of a service are replaced next, so that enough of them are ready all the time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaProgress:
    """``current``: it was told to run what is asked for now. ``settled``: it does, and is ready. ``surges``:
    it is replaced by way of a second one beside it."""

    name: str
    ready: bool
    current: bool
    settled: bool
    surges: bool = False


@dataclass(frozen=True, slots=True)
class Replacement:
    """Tell this replica to run what is asked for now. ``surge``: the new one starts beside the old one."""

    name: str
    surge: bool


def next_replacements(
    replicas: Iterable[ReplicaProgress], max_surge: int, max_unavailable: int
) -> list[Replacement]:
    """In the order of the replicas; those that are not ready anyway first and at once.

    While these are carried out, at most ``max_unavailable`` replicas are not ready because of them, and at
    most ``max_surge`` have a second one. A new version that does not become ready stops the rest.
    """
    known = list(replicas)
    surging = sum(replica.current and not replica.settled and replica.surges for replica in known)
    unavailable = sum(not replica.ready for replica in known)
    old = [replica for replica in known if not replica.current]
    answers = [Replacement(replica.name, surge=False) for replica in old if not replica.ready]
    for replica in (replica for replica in old if replica.ready):
        if surging < max_surge:
            surging += 1
            answers.append(Replacement(replica.name, surge=True))
        elif unavailable < max_unavailable:
            unavailable += 1
            answers.append(Replacement(replica.name, surge=False))
    return answers
