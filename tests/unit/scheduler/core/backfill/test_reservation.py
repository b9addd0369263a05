"""When room will be there, which nodes are held until then, and who may use them meanwhile."""

from dataclasses import replace

import pytest

from scheduler.core.backfill.reservation import Reservation, backfill, backfill_nodes, reserve
from scheduler.core.model.types import (
    Affinity,
    Defer,
    NodeView,
    Policy,
    QueueView,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.placing import Bounds, Stuck
from scheduler.core.placement.snapshot import take_snapshot
from scheduler.core.placement.trial import Trial
from tests.unit.scheduler.build import NOW_MS, cycle, gpu, holding, node, role, workload

A = node("a", *(gpu(i) for i in range(4)))
B = node("b", *(gpu(i) for i in range(4)))


def trial_of(nodes: list[NodeView], *running: RunningView) -> Trial:
    snapshot = take_snapshot(nodes, [QueueView("default")], [], running)
    return Trial(snapshot, Policy(), NOW_MS)


def until(seconds: int, name: str, at: NodeView, *positions: int, **more: object) -> RunningView:
    """It began 100 s ago and ends in so many seconds."""
    started_ms = NOW_MS - 100_000
    return holding(name, at, *positions, started_ms=started_ms, expected_seconds=100 + seconds, **more)


def wants(count: int, ranks: int = 1, **more: object) -> WorkloadView:
    return workload("head", role(ranks, count=count, vendors=("nvidia",)), **more)  # type: ignore[arg-type]


def starts_in(trial: Trial, head: WorkloadView, *earlier: Reservation) -> float | None:
    found = reserve(trial, head, earlier=earlier)
    return None if found is None else (found.start_ms - NOW_MS) / 1000


def in_seconds(start: int, end: int | None, *nodes: int, uid: str = "other") -> Reservation:
    ends = None if end is None else NOW_MS + end * 1000
    return Reservation(uid, NOW_MS + start * 1000, nodes, (), ends)


def test_the_start_is_when_enough_has_ended_and_the_nodes_of_that_place_are_held() -> None:
    trial = trial_of([A, B], until(50, "x", A, 0, 1), until(90, "y", A, 2), until(70, "z", B, 0, 1, 2))
    found = reserve(trial, wants(4, expected_seconds=10))
    assert found is not None
    assert (found.start_ms, found.nodes) == (NOW_MS + 70_000, (1,))
    assert [assignment.node for assignment in found.placement] == ["b"]
    assert found.ends_ms == NOW_MS + 80_000
    assert starts_in(trial, wants(3)) == 50
    assert starts_in(trial, wants(4, ranks=2)) == 90


def test_nothing_is_held_for_a_start_that_nobody_can_foresee() -> None:
    endless = holding("endless", A, 0)
    assert starts_in(trial_of([A], endless, until(50, "x", A, 1)), wants(4)) is None
    assert starts_in(trial_of([A], endless, until(50, "x", A, 1, 2, 3)), wants(3)) == 50
    assert starts_in(trial_of([A]), wants(5)) is None


def test_what_is_leaving_goes_when_it_has_to_and_what_is_overdue_any_moment() -> None:
    leaving = replace(holding("x", A, 0), leaving=True, ends_ms=NOW_MS + 5000)
    assert starts_in(trial_of([A], leaving), wants(4)) == 5
    assert starts_in(trial_of([A], until(-20, "late", A, 0)), wants(4)) == 0


def test_an_elastic_workload_with_half_of_its_ranks_is_expected_to_take_twice_as_long() -> None:
    half = replace(until(0, "x", A, 0, 1), started_ms=NOW_MS)
    half = replace(half, workload=replace(half.workload, roles=(role(2, count=2, min_replicas=1),)))
    assert starts_in(trial_of([A], half), wants(4)) == 200


def test_earlier_reservations_take_their_places_and_give_them_back() -> None:
    trial = trial_of([A], until(50, "x", A, 0, 1))
    first = reserve(trial, replace(wants(4), uid="first", expected_seconds=100))
    assert first is not None
    trial.pool.hide(first.nodes)
    assert first.start_ms == NOW_MS + 50_000
    assert starts_in(trial, wants(4), first) == 150
    assert starts_in(trial, wants(3), replace(first, ends_ms=None)) is None
    assert trial.pool.is_hidden(0)


def test_a_short_one_may_go_before_an_earlier_reservation() -> None:
    trial = trial_of([A], until(50, "x", A, 0), until(20, "y", A, 1))
    first = reserve(trial, replace(wants(4), uid="first", expected_seconds=100))
    assert first is not None
    trial.pool.hide(first.nodes)
    assert starts_in(trial, wants(3, expected_seconds=30), first) == 20
    assert starts_in(trial, wants(3, expected_seconds=31), first) == 150
    assert starts_in(trial, wants(3), first) == 150


def test_what_this_cycle_admitted_or_took_away_counts() -> None:
    trial = trial_of([A, B], until(50, "x", A, 0), until(40, "y", B, 0))
    assert starts_in(trial, wants(4)) == 40
    trial.evict("uid-y")
    short = wants(1, expected_seconds=5)
    placed = trial.place(replace(short, uid="short"), Bounds(only=(1,)))
    assert isinstance(placed, tuple)
    trial.admit(replace(short, uid="short"), placed)
    assert starts_in(trial, wants(4)) == 5
    assert starts_in(trial, wants(4, ranks=2)) == 50


def test_only_nodes_and_models_that_it_may_have_count() -> None:
    big = node("c", *(gpu(i, model="H200") for i in range(4)))
    trial = trial_of([A, replace(B, cordoned=True), big], until(50, "x", A, 0), until(9, "y", big, 0))
    assert starts_in(trial, wants(4)) == 9
    found = reserve(trial, wants(4), Bounds(models=(("nvidia", "H100"),)))
    assert found is not None
    assert found.start_ms == NOW_MS + 50_000


def test_others_that_it_keeps_away_from_must_have_gone() -> None:
    trial = trial_of([A], until(50, "x", A, 0, labels=(("app", "db"),)))
    apart = wants(1, affinity=Affinity(apart=(("app", "db"),)))
    assert starts_in(trial, apart) == 50


def test_the_trial_is_as_it_was() -> None:
    trial = trial_of([A, B], until(50, "x", A, 0, 1), until(70, "z", B, 0, 1, 2))
    before = trial.pool.free_millis(), list(trial.pool.state_of), dict(trial.running), trial.mark()
    held = in_seconds(60, 90, 0)
    reserve(trial, wants(4), earlier=[held])
    reserve(trial, wants(4, affinity=Affinity(apart=(("app", "db"),))))
    reserve(trial, wants(4, ranks=3))
    assert before == (trial.pool.free_millis(), list(trial.pool.state_of), dict(trial.running), trial.mark())


@pytest.mark.parametrize(
    ("seconds", "usable"),
    [(60, (0, 1, 2)), (61, (1,)), (100, (1,)), (101, ()), (None, ())],
)
def test_held_nodes_are_for_those_that_end_before_each_holder_starts(
    seconds: int | None, usable: tuple[int, ...]
) -> None:
    held = [in_seconds(100, 200, 0, 1), in_seconds(60, 99, 0, 2)]
    assert backfill_nodes(held, wants(1, expected_seconds=seconds), NOW_MS) == usable


def test_an_elastic_workload_must_be_through_in_time_even_with_its_fewest_ranks() -> None:
    held = [in_seconds(100, 200, 0)]
    elastic = replace(wants(1, expected_seconds=50), roles=(role(4, min_replicas=2),))
    assert backfill_nodes(held, elastic, NOW_MS) == (0,)
    slow = replace(elastic, roles=(role(5, min_replicas=2),))
    assert backfill_nodes(held, slow, NOW_MS) == ()


def test_backfill_uses_held_and_other_nodes_together_and_keeps_them_held() -> None:
    trial = trial_of([A, B])
    held = [in_seconds(100, 200, 0)]
    trial.pool.hide([0])
    gang = wants(4, ranks=2, expected_seconds=90)
    assert backfill(trial, wants(4, ranks=2, expected_seconds=110), Bounds(), held) is None
    assert backfill(trial, wants(4, ranks=3, expected_seconds=90), Bounds(), held) is None
    assert trial.pool.free_millis() == {("nvidia", "H100"): 8000}
    found = backfill(trial, gang, Bounds(), held)
    assert found is not None
    assert sorted(assignment.node for assignment in found) == ["a", "b"]
    assert trial.pool.is_hidden(0)
    assert not trial.pool.is_hidden(1)
    trial.rollback((0, 0))
    assert trial.pool.free_millis() == {("nvidia", "H100"): 8000}


def test_a_gang_that_would_use_a_held_node_beside_others_is_told_so() -> None:
    rack, app = (("rack", "r"),), (("app", "db"),)
    small = node("a", gpu(0), gpu(1), labels=rack)
    large = node("b", gpu(0), gpu(1), gpu(2), labels=rack)
    busy = holding("busy", large, 0, expected_seconds=3600, started_ms=NOW_MS)
    first = workload("first", role(count=3))
    apart = Affinity(same="rack", apart=app)
    gang = workload("gang", role(2), created_ms=1, affinity=apart, labels=app)
    head, second = cycle([small, large], first, gang, running=[busy], policy=Policy(preempt=False))
    assert isinstance(head, Defer)
    assert head.reserved_ms == NOW_MS + 3_600_000
    assert isinstance(second, Defer)
    assert second.reasons[0].code == "HeldForOthers"


def test_what_is_undone_was_never_admitted() -> None:
    trial = trial_of([A])
    mark = trial.mark()
    ask = workload("undone")
    placement = trial.place(ask)
    assert not isinstance(placement, Stuck)
    trial.admit(ask, placement)
    trial.rollback(mark)
    assert trial.running == {}
    assert not any(trial.changed.values())
