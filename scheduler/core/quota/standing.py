"""What a queue would use with a workload that waits: whether it would borrow for it, and its share then."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scheduler.core.model.device_classes import ModelKey
from scheduler.core.quota.fairness import weighted
from scheduler.core.quota.queue_members import Member
from scheduler.core.quota.quota import QuotaTree
from scheduler.core.quota.quota_accounts import Account

Alternatives = Sequence[tuple[ModelKey, int]]
"""Models that can serve a role, and the millis that all of its least ranks take of each."""


Standing = tuple[int, tuple[tuple[ModelKey, int], ...], float]
"""The height of the cohort that it would borrow from (0 = it keeps to the nominal quota of its queue: then
all of this follows from what the queue itself uses); what it takes of which models, each once, in millis; the
share that its queue would have."""

NOTHING: Standing = (0, (), math.inf)
"""That of a workload whose queue nobody has declared."""


def standing_of(tree: QuotaTree, member: Member, roles: Sequence[Alternatives]) -> Standing:
    """The standing of a workload of this queue, each role on the model that lets it borrow the least, then on
    the one that leaves its queue the lowest share."""
    if len(roles) == 1 and (best := _best(tree, member, roles[0])) is not None:  # mostly
        borrows, part, model, millis = best
        dominant = member.dominant if part <= member.dominant else part
        return borrows, ((model, millis),), weighted(dominant + member.recent, member.view.weight)
    all_best = [_best(tree, member, alternatives) for alternatives in roles]
    found = [best for best in all_best if best is not None]
    taken = _each_once((model, millis) for _, _, model, millis in found)
    borrows = max((height for height, _, _, _ in found), default=0)
    return borrows, taken, share_after(tree, member, taken)


def _best(
    tree: QuotaTree, member: Member, alternatives: Alternatives
) -> tuple[int, float, ModelKey, int] | None:
    """From how high it would borrow, the part of the model's capacity that its queue would use, which model,
    and how much; None where no model serves it. Models that count in the same accounts are borrowed from the
    same height."""
    used, dominant, grants = member.used, member.dominant, tree.grants_of(member)
    best: tuple[int, float, ModelKey, int] | None = None
    own: tuple[Account, ...] | None = None
    least, height, asked = math.inf, 0, 0
    for model, millis in alternatives:
        grant = grants.get(model) or tree.grant_of(member, model)
        if grant.own is not own or millis != asked:
            own, asked, height = grant.own, millis, grant.borrows(millis)
        part = (used.get(model, 0) + millis) / grant.capacity if grant.capacity else 0.0
        if best is None or height < best[0] or (height == best[0] and part < least):
            best, least = (height, part, model, millis), part
        if not height and part <= dominant:
            break
    return best


def _each_once(takes: Iterable[tuple[ModelKey, int]]) -> tuple[tuple[ModelKey, int], ...]:
    total: dict[ModelKey, int] = {}
    for model, millis in takes:
        total[model] = total.get(model, 0) + millis
    return tuple(total.items())


def share_after(tree: QuotaTree, member: Member, takes: Iterable[tuple[ModelKey, int]]) -> float:
    """The weighted share of a queue or cohort once it uses so much more of each of these models, infinite
    where it is unknown. What the pool does not have does not count."""
    if member.share == math.inf:
        return math.inf
    dominant, capacities = member.dominant, tree.capacities
    for model, millis in takes:
        capacity = capacities.get(model)
        if capacity:
            part = (member.used.get(model, 0) + millis) / capacity
            if part > dominant:
                dominant = part
    return weighted(dominant + member.recent, member.view.weight)
