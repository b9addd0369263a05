"""Places that an earlier cycle cleared for a workload: they are its own until it starts or gives up.

Without that, those who gave them up would be considered before it in the next cycle, by age or by share, and
be back in them (Kubernetes keeps a pod's ``nominatedNodeName`` for the same reason). See
``docs/design/preemption.md``.
"""

from __future__ import annotations

from collections import Counter

from scheduler.core.model.types import Placement, RunningView, WorkloadView
from scheduler.core.placement.affinity import has_wishes
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.filters import untolerated
from scheduler.core.pool.pool import Pool
from scheduler.core.preemption.beside import displaced, fits_beside, look_past
from scheduler.core.reshape.elastic import is_elastic, within_quota
from scheduler.core.tide.tides import within_tide


class Seating:
    """Puts workloads on their nominated places, on a trial's pool and books."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._leaving = [running for running in trial.running.values() if running.leaving]

    def seat(self, workload: WorkloadView) -> int | None:
        """Returns for how many workloads, which are leaving, it has to wait; 0 = it may start. None with the
        trial as it was where the places are not its own any more: a node or device of them is lost, its quota
        was cut, it was changed, somebody came who must be kept apart from it."""
        trial, places = self._trial, workload.nominated
        if not _still_suits(trial, workload):
            return None
        if _is_allowed(trial, workload) and _is_free(trial.pool, places):
            trial.pool.occupy(places)
            trial.admit(workload, places)
            return 0
        gone = self._wait_for(workload)
        if gone is None:
            return None
        left = [rank for uid in gone for rank in trial.evict(uid).placement]
        trial.pool.occupy(places)
        trial.admit(workload, places)
        trial.keep_residual(left, places)
        trial.seat(workload.uid)
        return max(1, len(gone))

    def _wait_for(self, workload: WorkloadView) -> tuple[str, ...] | None:
        """Who has to leave before it can start; None where that does not help. Those on its nodes are looked
        at first: there may be many others."""
        trial, places = self._trial, workload.nominated
        nodes = {rank.node for rank in places}
        leaving = [one for one in self._leaving if trial.running.get(one.workload.uid) is one]
        near = [one for one in leaving if any(rank.node in nodes for rank in one.placement)]
        known = {one.workload.uid for one in near}
        far = [one for one in leaving if one.workload.uid not in known]
        if has_wishes(workload):
            trial.build_affinity_index()
        mark = trial.mark()
        trial.pool.vacate(trial.residual)
        past: list[RunningView] = []
        gone: tuple[str, ...] | None = None
        for some in (near, far):
            look_past(trial, some)
            past += some
            if _is_allowed(trial, workload):
                if _is_free(trial.pool, places) or _is_free_but_for_strangers(trial, places):
                    trial.pool.occupy(places)
                    gone = displaced(trial.pool, workload, places, past)
                break
        trial.rollback(mark)
        return gone


def stretch(trial: Trial, workload: WorkloadView) -> Placement:
    """Where a seated workload starts: places are cleared for the least of its ranks, and elastic ones take
    more where there is room now."""
    if not is_elastic(workload):
        return workload.nominated
    mark = trial.mark()
    trial.evict(workload.uid)
    fitted, bounds = within_tide(trial, workload), trial.bounds_for(workload)
    if fitted is not None and isinstance(bounds, Bounds):
        found = trial.place(fitted, bounds)
        if not isinstance(found, Stuck):
            found = within_quota(trial, workload, found)
            trial.admit(workload, found)
            return found
    trial.rollback(mark)
    return workload.nominated


def _still_suits(trial: Trial, workload: WorkloadView) -> bool:
    """Whether these places are what it asks for, on nodes and devices that may be used."""
    ranks = Counter(rank.role for rank in workload.nominated)
    if ranks != Counter({role.name: role.least for role in workload.roles if role.least}):
        return False
    requests = {role.name: role.request for role in workload.roles}
    for rank in workload.nominated:
        number = trial.pool.number(rank.node)
        if number is None or not trial.pool.usage[number].usable:
            return False
        usage = trial.pool.usage[number]
        request = requests[rank.role]
        if any(usage.view.label(key) != value for key, value in request.node_labels):
            return False
        if untolerated(usage.view.taints, request):
            return False
        for share in rank.shares:
            position = usage.position_of.get(share.device)
            if position is None or not usage.view.devices[position].healthy:
                return False
    return within_tide(trial, workload) is not None


def _is_allowed(trial: Trial, workload: WorkloadView) -> bool:
    """Whether neither its quota nor its affinity is in the way."""
    places, queue = workload.nominated, workload.queue
    held = trial.tree.check(queue, millis_by_model(places), workload.allowed_queues, workload.project)
    if held is not None or not has_wishes(workload):
        return held is None
    nodes, beside = {rank.node for rank in places}, trial.affinity_index.beside(workload)
    return nodes.isdisjoint(trial.affinity_index.closed_to(workload)) and (beside is None or nodes <= beside)


def _is_free(pool: Pool, places: Placement) -> bool:
    """Whether nobody is on its devices."""
    return fits_beside(pool, places, {rank.node for rank in places})


def _is_free_but_for_strangers(trial: Trial, places: Placement) -> bool:
    """Whether only processes are in the way that still stop although nobody holds their places any more."""
    nodes = {rank.node for rank in places}
    pool = Pool([view for view in trial.pool.nodes if view.name in nodes], trial.pool.catalogue)
    for running in trial.running.values():
        if not running.leaving:
            pool.occupy(rank for rank in running.placement if rank.node in nodes)
    return _is_free(pool, places)
