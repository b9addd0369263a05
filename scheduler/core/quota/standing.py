"""What a queue would use with a workload that waits: whether it would borrow for it, and its share then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scheduler.core.model.device_classes import ModelKey
from scheduler.core.quota.fairness import weighted
from scheduler.core.quota.queue_members import Member
from scheduler.core.quota.quota import QuotaTree

Alternatives = Sequence[tuple[ModelKey, int]]
"""Models that can serve a role, and the millis that all of its least ranks take of each."""


class Standing(NamedTuple):
    """``borrows``: the height of the cohort that it would borrow from (0 = it keeps to the nominal quota of
    its queue); ``takes``: of these models so many millis."""

    borrows: int
    takes: tuple[tuple[ModelKey, int], ...]


NOTHING = Standing(0, ())


def standing_of(tree: QuotaTree, member: Member, roles: Sequence[Alternatives]) -> Standing:
    """The standing of a workload of this queue, each role on the model that lets it borrow the least, then on
    the one that leaves its queue the lowest share."""
    borrows, takes = 0, list[tuple[ModelKey, int]]()
    for alternatives in roles:
        best: tuple[int, float, ModelKey, int] | None = None
        for model, millis in alternatives:
            grant = tree.grant_of(member, model)
            height = grant.borrows(millis)
            part = _part(member, model, millis, grant.capacity)
            if best is None or (height, part) < best[:2]:
                best = height, part, model, millis
            if not height and part <= member.dominant:
                break
        if best is not None:
            borrows = max(borrows, best[0])
            takes.append(best[2:])
    return Standing(borrows, tuple(takes))


def share_after(tree: QuotaTree, member: Member, takes: Sequence[tuple[ModelKey, int]]) -> float:
    """The weighted share of a queue or cohort once it uses so much more; infinite where it is unknown."""
    if member.share == math.inf:
        return math.inf
    dominant = member.dominant
    if len(takes) > 1:
        total: dict[ModelKey, int] = {}
        for model, millis in takes:
            total[model] = total.get(model, 0) + millis
        takes = tuple(total.items())
    for model, millis in takes:
        dominant = max(dominant, _part(member, model, millis, tree.capacity(model)))
    return weighted(dominant + member.recent, member.view.weight)


def _part(member: Member, model: ModelKey, millis: int, capacity: int) -> float:
    """The part of a model's capacity that the member would use; 0 of what the pool does not have."""
    return (member.used.get(model, 0) + millis) / capacity if capacity else 0.0
