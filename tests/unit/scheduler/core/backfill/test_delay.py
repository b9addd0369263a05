"""Who waits for a better place, and for how long."""

from dataclasses import replace

import pytest

from scheduler.core.backfill.delay import added_waste_millis, should_wait
from scheduler.core.cycle import run_cycle
from scheduler.core.fragmentation.workload_mix import workload_mix_of
from scheduler.core.model.types import Admit, Defer, Placement, Policy, QueueView, RunningView, WorkloadView
from scheduler.core.placement.placing import Stuck
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from tests.unit.scheduler.build import NOW_MS, cpu, gpu, holding, node, role, workload

pytestmark = pytest.mark.unit

LARGE = role(share_millis=810, memory_bytes=1 << 30, vendors=("nvidia",))
HALF = role(share_millis=500, memory_bytes=1 << 30, vendors=("nvidia",))
WHOLE = role(vendors=("nvidia",))
MIX = workload_mix_of([workload("w", WHOLE), workload("h", HALF), workload("l", LARGE)])
EIGHT = node("a", *(gpu(i) for i in range(8)))
SECOND = node("b", *(gpu(i) for i in range(8)))


def placed(head: WorkloadView, *running: RunningView) -> tuple[Trial, Placement]:
    snapshot = take_snapshot([EIGHT, SECOND], [QueueView("default")], [head], running)
    snapshot.pool.use(Policy(), MIX)
    trial = Trial(snapshot, Policy(), NOW_MS)
    placement = trial.place(head)
    assert not isinstance(placement, Stuck)
    return trial, placement


def waits(head: WorkloadView, *running: RunningView, max_delay_seconds: int = 600) -> bool:
    trial, placement = placed(head, *running)
    states = list(trial.pool.state_of)
    answer = should_wait(trial, MIX, head, placement, max_delay_seconds)
    assert list(trial.pool.state_of) == states, "looking changes nothing"
    return answer


NEARLY_FULL = (holding("x", EIGHT, *range(8)), holding("y", SECOND, *range(6)))


def head(of: object = LARGE, **more: object) -> WorkloadView:
    return workload("head", of, created_ms=NOW_MS, **more)  # type: ignore[arg-type]


def test_a_share_that_leaves_a_worthless_rest_waits_while_the_pool_is_nearly_full() -> None:
    assert waits(head(), *NEARLY_FULL)
    assert not waits(head(HALF), *NEARLY_FULL), "the other half is wanted"
    assert not waits(head(WHOLE), *NEARLY_FULL)
    assert not waits(head(), holding("x", EIGHT, *range(8))), "there is room for everyone"


def test_nobody_waits_past_max_delay_or_deadline() -> None:
    assert not waits(head(), *NEARLY_FULL, max_delay_seconds=0)
    late = workload("head", LARGE, created_ms=NOW_MS - 600_000)
    assert not waits(late, *NEARLY_FULL)
    assert waits(late, *NEARLY_FULL, max_delay_seconds=601)
    assert not waits(head(deadline_ms=NOW_MS), *NEARLY_FULL)


def test_a_rest_that_somebody_uses_already_is_not_wasted_again() -> None:
    """A device with 810 free is filled up by it."""
    rest = holding("r", SECOND, 6)
    share = rest.placement[0].shares[0]._replace(millis=190, memory_bytes=1 << 30)
    filler = RunningView(rest.workload, (rest.placement[0]._replace(shares=(share,)),), 0)
    trial, placement = placed(head(), *NEARLY_FULL, filler)
    assert placement[0].shares[0].device == share.device
    assert not should_wait(trial, MIX, head(), placement, 600)


def test_waste_is_what_the_placement_adds() -> None:
    trial, placement = placed(head(HALF), *NEARLY_FULL)
    assert added_waste_millis(trial.pool, MIX, placement) < 100
    trial, placement = placed(head(), *NEARLY_FULL)
    before = trial.mark()
    assert added_waste_millis(trial.pool, MIX, placement) > 300
    assert trial.mark() == before


def test_cpu_devices_are_no_accelerators() -> None:
    host = node("c", cpu("c", slots=64))
    ask = workload("head", role(vendors=("cpu",), memory_bytes=1 << 30), created_ms=NOW_MS)
    snapshot = take_snapshot([host], [QueueView("default")], [ask], [])
    trial = Trial(snapshot, Policy(), NOW_MS)
    placement = trial.place(ask)
    assert not isinstance(placement, Stuck)
    assert not should_wait(trial, MIX, ask, placement, 600)


def test_a_cycle_lets_it_wait_and_says_until_when_and_others_go_first() -> None:
    late = workload("late", LARGE, created_ms=NOW_MS - 600_000)
    whole = workload("whole", WHOLE, created_ms=NOW_MS + 1)
    snapshot = take_snapshot([EIGHT, SECOND], [QueueView("default")], [head(), late, whole], NEARLY_FULL)
    snapshot = replace(snapshot, workload_mix=MIX)
    delaying = Policy(max_delay_seconds=600, preempt=False)
    decisions = {each.uid: each for each in run_cycle(snapshot, delaying, NOW_MS)}
    held = decisions["uid-head"]
    assert isinstance(held, Defer)
    assert (held.reasons[0].code, held.never) == ("WaitsForFit", False)
    assert "hardly anybody uses" in held.reasons[0].message
    assert "1970-01-01 00:26 UTC" in held.reasons[0].message
    assert isinstance(decisions["uid-whole"], Admit)
    assert isinstance(decisions["uid-late"], Admit), "its own delay has ended"
    at_once = run_cycle(snapshot, Policy(preempt=False), NOW_MS)
    assert sum(isinstance(each, Admit) for each in at_once) == 2, "without a delay the head takes a device"
    later = run_cycle(replace(snapshot, pending=(head(),)), delaying, NOW_MS + 600_000)
    assert isinstance(later[0], Admit)
