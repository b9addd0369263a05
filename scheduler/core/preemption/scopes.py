"""Second stage of preemption: what can be ruled out at once, and where to look in which order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.candidates import Candidates
from scheduler.core.preemption.claims import Claimant, Reach, VictimClass, bounds_now

DOMAINS_TRIED = 8
"""In so many domains (``affinity.same``) room is sought."""


@dataclass(frozen=True)
class Scope:
    """One attempt: whom to take from, within what the quota leaves or will leave then, on which nodes (None =
    all)."""

    reach: Reach
    bounds: Bounds
    nodes: Sequence[int] | None


def scopes(trial: Trial, claimant: Claimant, candidates: Candidates, reach: Reach) -> Iterator[Scope]:
    """Where what is free and what may be taken add up to the gang. The trial is to be as it was whenever the
    next one is asked for."""
    for bounds in _bounds(trial, claimant, candidates, reach):
        if _is_enough(trial, claimant, candidates, reach.classes, bounds):
            for nodes in _domains(trial, claimant, candidates, bounds):
                yield Scope(reach, bounds, nodes)


def _bounds(trial: Trial, claimant: Claimant, candidates: Candidates, reach: Reach) -> Iterator[Bounds]:
    """What the quota leaves as things are; then what it leaves when all that may be taken is taken."""
    now = bounds_now(trial, claimant, reach)
    if isinstance(now, Bounds):
        yield now
        if now.models is None:
            return
    mark = trial.mark()
    for one in sorted(reach.classes):
        used = trial.tree.usage(one.queue)
        for model, millis in candidates.by_node.millis[one].items():
            back = min(millis, used.get(model, 0))
            if back:
                trial.charge(one.queue, model, -back)
                used[model] -= back
    widest = bounds_now(trial, claimant, reach)
    trial.rollback(mark)
    if isinstance(widest, Bounds) and widest != now:
        yield widest


def _is_enough(
    trial: Trial,
    claimant: Claimant,
    candidates: Candidates,
    classes: Collection[VictimClass],
    bounds: Bounds,
) -> bool:
    """Whether each role finds its least ranks in what is free and what may be taken."""
    free, takeable = candidates.free_millis, candidates.by_node.millis_of(classes)
    residual = millis_by_model(trial.residual)
    for role in claimant.least.roles:
        one = replace(claimant.least, roles=(replace(role, replicas=1, min_replicas=None),))
        needs = {
            model: millis
            for model, millis in trial.needs(one).items()
            if millis and (bounds.models is None or model in bounds.models)
        }
        room = sum(
            (free.get(model, 0) + residual.get(model, 0) + takeable.get(model, 0)) // millis
            for model, millis in needs.items()
        )
        if role.request.count and room < role.replicas:
            return False
    return True


def _domains(
    trial: Trial, claimant: Claimant, candidates: Candidates, bounds: Bounds
) -> Iterator[Sequence[int] | None]:
    """Sets of nodes that all ranks may go to, where it costs least first."""
    roles, same = claimant.least.roles, claimant.least.affinity.same
    beside = _beside(trial, claimant)
    if not same:
        yield bounds.only if beside is None else sorted(beside.intersection(bounds.only or beside))
        return
    below, classes = candidates.by_node.below, frozenset(candidates.by_node.classes)
    shapes = [trial.pool.shape(role.request, bounds.models) for role in roles]
    prices = [below.prices(shape, classes, role.least) for shape, role in zip(shapes, roles, strict=True)]
    _, members = trial.pool.topology.domains(same)
    priced: list[tuple[float, int]] = []
    for number, nodes in enumerate(members):
        price = 0.0
        for role, of_node in zip(roles, prices, strict=True):
            able = sorted(value for value in of_node[nodes].tolist() if value != float("inf"))
            price += sum(able[: role.least]) if able else float("inf")
        if price != float("inf"):
            priced.append((price, number))
    for _, number in sorted(priced)[:DOMAINS_TRIED]:
        yield members[number] if beside is None else sorted(beside.intersection(members[number]))


def _beside(trial: Trial, claimant: Claimant) -> set[int] | None:
    """Where those are whom it must be beside; None = anywhere."""
    least = claimant.least
    names = trial.affinity_index.beside(least) if least.affinity.beside else None
    if names is None:
        return None
    return {number for number in map(trial.pool.number, names) if number is not None}
