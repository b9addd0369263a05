"""Waiting a while for a better place, so that others make better use of this one (delay scheduling, Zaharia
et al., EuroSys 2010, here for the rests that a placement leaves and not for the data that it is near to).

A share of a device that leaves a rest which hardly anybody wants takes nearly the whole device. While the
pool is nearly full it may wait, for ``max_delay_seconds`` at most, for a place that it fills up, or for
others to make better use of this one; then it takes what there is. Whole devices, and shares that fill a
device up, never wait."""

from __future__ import annotations

from scheduler.core.fragmentation.fragmentation import UNTRACKED, Fragmentation
from scheduler.core.model.types import WHOLE_MILLIS, Placement, WorkloadView
from scheduler.core.placement.holdings import millis_by_model
from scheduler.core.placement.trial import Trial
from scheduler.core.pool.layout import MEMORY_BITS, ModelKey
from scheduler.core.pool.pool import Pool

NEARLY_FULL = 0.85
"""Part of the accelerators that others use from which waiting is worth it: below it there is room for
everyone."""

WASTEFUL_MILLIS = 300.0
"""What a rank has to waste, by the measure of the score, to wait: it counts a worthless rest twice."""


def should_wait(
    trial: Trial,
    workload_mix: Fragmentation,
    workload: WorkloadView,
    placement: Placement,
    max_delay_seconds: int,
) -> bool:
    """Whether a workload is not to be admitted where it has been placed (on the trial's pool) but to wait."""
    if trial.now_ms >= until_ms(workload, max_delay_seconds) or not _leaves_rests(trial.pool, placement):
        return False
    if added_waste_millis(trial.pool, workload_mix, placement) < WASTEFUL_MILLIS * len(placement):
        return False
    return _used(trial, workload, placement) >= NEARLY_FULL


def until_ms(workload: WorkloadView, max_delay_seconds: int) -> int:
    """Nobody waits past ``max_delay_seconds`` after its creation or past its deadline."""
    end_ms = workload.created_ms + max_delay_seconds * 1000
    return end_ms if workload.deadline_ms is None else min(end_ms, workload.deadline_ms)


def _leaves_rests(pool: Pool, placement: Placement) -> bool:
    """Whether it takes parts of devices of which then something is left over."""
    for rank in placement:
        number = pool.number(rank.node)
        for share in rank.shares:
            if number is not None and share.millis < WHOLE_MILLIS:
                usage = pool.usage[number]
                if usage.entries[usage.position_of[share.device]] >> MEMORY_BITS:
                    return True
    return False


def added_waste_millis(pool: Pool, workload_mix: Fragmentation, placement: Placement) -> float:
    """By how much the waste of its nodes is larger than it would be without the placement, which is on the
    pool."""
    numbers = {pool.number(rank.node) for rank in placement} - {None}
    mark, after = (
        pool.mark(),
        sum(_wasted(pool, workload_mix, number) for number in numbers if number is not None),
    )
    pool.vacate(placement)
    before = sum(_wasted(pool, workload_mix, number) for number in numbers if number is not None)
    pool.rollback(mark)
    return after - before


def _wasted(pool: Pool, workload_mix: Fragmentation, number: int) -> float:
    state = pool.states.all[pool.state_of[number]]
    cpu = state.cpu_free_millis if state.layout.cpu_millis else UNTRACKED
    return sum(
        workload_mix.wasted_millis(group.model, cpu, state.free_millis(index))
        for index, group in enumerate(state.layout.groups)
        if not group.shared
    )


def _used(trial: Trial, workload: WorkloadView, placement: Placement) -> float:
    """The part that others use of the accelerators that may serve it; of all for one that takes none."""
    capacity, free, own = trial.capacity, trial.pool.free_millis(), millis_by_model(placement)
    models: set[ModelKey] = set(trial.needs(workload)) or set(capacity)
    accelerators = [model for model in sorted(models) if model[0] != "cpu" and capacity.get(model)]
    total = sum(capacity[model] for model in accelerators)
    left = sum(free.get(model, 0) + own.get(model, 0) for model in accelerators)
    return 1 - left / total if total else 0.0
