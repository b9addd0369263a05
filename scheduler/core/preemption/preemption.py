"""Room for a workload that finds none: by waiting for what leaves anyway, by shrinking elastic workloads, by
taking places back from others. Who is taken from, and in which order: see ``docs/design/preemption.md``.

It goes in stages, each in a file of its own: candidates → lower bounds → clear → place → fill back → plan.
All is tried under one mark and undone; the plan is what is left, and is carried out once.
"""

from __future__ import annotations

from scheduler.core.model.types import RunningView, WorkloadView
from scheduler.core.placement.affinity import has_wishes
from scheduler.core.placement.outline import Outline
from scheduler.core.placement.placing import Bounds
from scheduler.core.placement.trial import Trial
from scheduler.core.preemption.beside import displaced, look_past
from scheduler.core.preemption.candidates import Candidates
from scheduler.core.preemption.claims import Claim, Claimant
from scheduler.core.preemption.clear import clear
from scheduler.core.preemption.fill_back import fill_back
from scheduler.core.preemption.offers import Offers
from scheduler.core.preemption.place import place, place_on_cleared
from scheduler.core.preemption.plan import PreemptionPlan, carry_out, make_plan
from scheduler.core.preemption.scopes import Scope, scopes
from scheduler.core.preemption.tentative import TentativeEvictions
from scheduler.core.quota.quota import QuotaRefusal
from scheduler.core.tide.tides import within_tide

__all__ = ["PreemptionPlan", "find_leftover", "find_room"]

CURABLE = ("QueueLimit", "QuotaExhausted", "CohortExhausted")
"""What a queue holds back for, and that passes when others give something up."""


def find_room(trial: Trial, workload: WorkloadView, bounds: Bounds | QuotaRefusal) -> PreemptionPlan | None:
    """Room for the least ranks of the workload, carried out on the trial; None with the trial as it was.

    ``bounds``: what the quota leaves; a refusal where it leaves nothing, and only a queue that gives
    something up helps.
    """
    if not _may_help(trial, workload, bounds) or within_tide(trial, workload) is None:
        return None
    claimant, mark = Claimant.of(workload, bounds), trial.mark()
    plan = _wait_or_take(trial, claimant)
    trial.rollback(mark)
    if plan is not None:
        carry_out(trial, workload, plan)
    return plan


def find_leftover(trial: Trial, workload: WorkloadView) -> PreemptionPlan | None:
    """Room without taking from anybody: what is free, or will be once those who leave have left. It is
    carried out on the trial; None with the trial as it was."""
    if within_tide(trial, workload) is None:
        return None
    claimant, candidates = Claimant.of(workload, trial.bounds_for(workload)), Candidates.of(trial)
    mark = trial.mark()
    found = place(trial, claimant)
    if found is None:
        plan = _wait(trial, claimant, _look_past_leaving(trial, claimant, candidates))
    else:
        plan = make_plan(trial, workload, found)
    trial.rollback(mark)
    if plan is not None:
        carry_out(trial, workload, plan)
    return plan


def _may_help(trial: Trial, workload: WorkloadView, bounds: Bounds | QuotaRefusal) -> bool:
    """Whether it is worth looking for anybody to give way."""
    if isinstance(bounds, QuotaRefusal) and (bounds.never or bounds.code not in CURABLE):
        return False
    member = trial.tree.member(workload.queue)
    shared = member is not None and member.root is not member
    reclaims = shared and trial.tree.rules(workload.queue).reclaim_within_cohort == "any"
    equals = trial.tree.displaces_newer(workload.queue)
    return Outline.of(trial).helps(workload.priority + equals, reclaims=reclaims)


def _wait_or_take(trial: Trial, claimant: Claimant) -> PreemptionPlan | None:
    """The plan by which nobody is taken from, else the first one by which somebody is."""
    # 1. Candidates: what runs, by classes that are alike to claimants; what leaves anyway is looked past.
    candidates, claim = Candidates.of(trial), Claim(trial, claimant.least)
    leaving = _look_past_leaving(trial, claimant, candidates)
    plan = _wait(trial, claimant, leaving)
    if plan is not None:
        return plan
    for reach in claim.reaches(candidates.classes, lambda: candidates.by_node.millis):
        # 2. Lower bounds: what can be ruled out at once, and where it costs least.
        for scope in scopes(trial, claimant, candidates, reach):
            plan = _take(trial, claimant, candidates, scope, leaving)
            if plan is not None:
                return plan
    return None


def _look_past_leaving(trial: Trial, claimant: Claimant, candidates: Candidates) -> tuple[RunningView, ...]:
    """What leaves is off the pool from here on, with what is residual."""
    if has_wishes(claimant.workload):
        trial.build_affinity_index()
    leaving = tuple(one for one in candidates.soon_gone if trial.running.get(one.workload.uid) is one)
    look_past(trial, leaving)
    trial.pool.vacate(trial.residual)
    return leaving


def _wait(trial: Trial, claimant: Claimant, leaving: tuple[RunningView, ...]) -> PreemptionPlan | None:
    """By which it only waits for what leaves."""
    placement = place(trial, claimant) if leaving or trial.residual else None
    if placement is None:
        return None
    gone = displaced(trial.pool, claimant.workload, placement, leaving)
    return make_plan(trial, claimant.workload, placement, gone)


def _take(
    trial: Trial,
    claimant: Claimant,
    candidates: Candidates,
    scope: Scope,
    leaving: tuple[RunningView, ...],
) -> PreemptionPlan | None:
    """By which places are taken from others; None with the trial as it was."""
    mark, evictions, by_node = trial.mark(), TentativeEvictions(trial), candidates.by_node
    offers = Offers(trial, claimant.least, scope, by_node, evictions)
    # 3. Clear nodes, 4. place the gang on them by the ordinary rules, 5. fill back what turns out not needed.
    if clear(trial, claimant.least, scope, by_node.below, offers):
        placement = place_on_cleared(trial, claimant, offers, evictions)
        if placement is not None:
            placement = fill_back(trial, claimant, scope.reach, evictions, placement)
            # 6. The plan: who goes, who shrinks, who is waited for.
            gone = displaced(trial.pool, claimant.workload, placement, leaving)
            return make_plan(trial, claimant.workload, placement, gone, evictions)
    trial.rollback(mark)
    return None
