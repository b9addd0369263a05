"""Fourth stage of preemption: a place for the claimant by the ordinary rules, on the pool as it is cleared.
Where the quota does not leave that yet, more is taken, cheapest first."""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.core.model.types import Placement
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.claims import Claimant, Reach, bounds_now
from scheduler.core.preemption.offers import Offer, Offers
from scheduler.core.preemption.tentative import TentativeEvictions


def place(trial: Trial, claimant: Claimant, reach: Reach | None = None) -> Placement | None:
    """Its place on the pool, and within the quota, as they are now; it is on the pool then. None with the
    trial as it was."""
    bounds = bounds_now(trial, claimant, reach)
    found = trial.place(claimant.least, bounds) if isinstance(bounds, Bounds) else None
    return found if isinstance(found, tuple) else None


def place_on_cleared(
    trial: Trial, claimant: Claimant, offers: Offers, evictions: TentativeEvictions
) -> Placement | None:
    """The same once nodes have been cleared for it, with more of the ``offers`` taken where it takes that.
    None leaves the trial for the caller to roll back."""
    placement = place(trial, claimant, offers.reach) or _loosen(trial, claimant, offers, evictions)
    return placement if placement is not None and _make_due(claimant, offers, evictions, placement) else None


def _loosen(
    trial: Trial, claimant: Claimant, offers: Offers, evictions: TentativeEvictions
) -> Placement | None:
    """Where the quota does not leave what was cleared: take more, cheapest first, until it does."""
    bounds, step = bounds_now(trial, claimant, offers.reach), 1
    if bounds == offers.bounds:
        return None
    cheapest = offers.cheapest()
    while cheapest:
        batch, cheapest = cheapest[:step], cheapest[step:]
        for node, item in batch:
            if evictions.is_there(*item.key):
                offers.take(node, [item])
        before, bounds = bounds, bounds_now(trial, claimant, offers.reach)
        placement = place(trial, claimant, offers.reach) if bounds != before else None
        if placement is not None:
            return placement
        step *= 2
    return None


def _make_due(
    claimant: Claimant, offers: Offers, evictions: TentativeEvictions, placement: Placement
) -> bool:
    """Where others gave back what is the queue's own only without less important work of its own, that makes
    way, too, cheapest first."""
    claim = offers.reach.claim
    for node, item in _own(claimant, offers) if not claim.is_due(evictions.classes(), placement) else ():
        if evictions.is_there(*item.key):
            offers.take(node, [item])
            if claim.is_due(evictions.classes(), placement):
                return True
    return claim.is_due(evictions.classes(), placement)


def _own(claimant: Claimant, offers: Offers) -> Iterator[tuple[int, Offer]]:
    for node, item in offers.cheapest():
        if item.key[0].kind.queue == claimant.workload.queue:
            yield node, item
