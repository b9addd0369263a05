"""Starts are forecast as they then happen, where run times are what was expected."""

from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import forecast
from scheduler.core.backfill.releases import Followed
from scheduler.core.cycle import run_cycle
from scheduler.core.forecast import Forecast, forecast_starts
from scheduler.core.model.types import (
    PeriodBudget,
    Policy,
    QueueView,
    Quota,
    RunningView,
    WorkloadView,
)
from scheduler.core.placement.snapshot import Snapshot, take_snapshot
from scheduler.sim.engine import simulate
from scheduler.sim.jobs import Job
from scheduler.sim.options import Options
from tests.unit.scheduler.build import NOW_MS, gpu, holding, node, role, workload
from tests.unit.scheduler.random_pools import snapshots
from tests.unit.scheduler.sim_build import gpu_job, gpu_node

A = node("a", *(gpu(i) for i in range(4)))


def wants(name: str, count: int, seconds: int | None = 100, **more: object) -> WorkloadView:
    asks = role(count=count, vendors=("nvidia",))
    return workload(name, asks, expected_seconds=seconds, **more)  # type: ignore[arg-type]


def until(seconds: int, name: str, *positions: int) -> RunningView:
    return holding(name, A, *positions, started_ms=NOW_MS - 10_000, expected_seconds=10 + seconds)


def world(pending: list[WorkloadView], *running: RunningView, queue: QueueView | None = None) -> Snapshot:
    return take_snapshot([A], [queue or QueueView("default")], pending, running)


def seconds_of(snapshot: Snapshot, policy: Policy | None = None, **more: int) -> dict[str, float]:
    starts = forecast_starts(snapshot, policy or Policy(), NOW_MS, **more)
    return {uid.removeprefix("uid-"): (at_ms - NOW_MS) / 1000 for uid, at_ms in starts.items()}


def test_one_after_the_other() -> None:
    pending = [wants("first", 4, 50), wants("second", 3, created_ms=1), wants("small", 1, 20, created_ms=2)]
    starts = seconds_of(world(pending, until(30, "x", 0, 1), until(40, "y", 2)))
    assert starts == {"first": 40, "second": 90, "small": 0}


def test_who_waits_for_somebody_without_end_has_no_forecast() -> None:
    endless = holding("endless", A, 0)
    pending = [wants("whole", 4), wants("part", 3, None, created_ms=1), wants("late", 1, created_ms=2)]
    assert seconds_of(world(pending, endless, until(30, "x", 1, 2, 3))) == {"part": 30}
    assert seconds_of(world([wants("never", 5)])) == {}
    assert seconds_of(world([])) == {}


def by_past_runs(snapshot: Snapshot, **seconds: int) -> Forecast:
    predicted = {f"uid-{name}": length for name, length in seconds.items()}
    return forecast.forecast(snapshot, Policy(), NOW_MS, predicted_seconds=predicted)


def test_who_waits_for_predicted_ends_has_a_forecast_that_is_marked_as_a_guess() -> None:
    endless = holding("endless", A, 0, started_ms=NOW_MS - 10_000)
    pending = [wants("part", 3, None), wants("whole", 4, created_ms=1), wants("last", 4, created_ms=2)]
    found = by_past_runs(world(pending, endless, until(30, "x", 1, 2, 3)), endless=70, part=50)
    starts = {"uid-part": NOW_MS + 30_000, "uid-whole": NOW_MS + 80_000, "uid-last": NOW_MS + 180_000}
    assert found == Forecast(starts, {"uid-whole", "uid-last"})


def test_a_stated_length_wins_and_what_overruns_a_predicted_one_is_expected_to_take_twice_as_long() -> None:
    late = holding("late", A, 0, started_ms=NOW_MS - 50_000)
    assert by_past_runs(world([wants("whole", 4)], late), late=20).starts == {"uid-whole": NOW_MS + 30_000}
    stated = until(30, "x", 0)
    assert by_past_runs(world([wants("whole", 4)], stated), x=500).starts == {"uid-whole": NOW_MS + 30_000}


def test_no_room_is_held_or_lent_by_predicted_ends() -> None:
    """``w`` might end before ``whole`` can start, but nobody said so: it waits behind it."""
    pending = [wants("whole", 4), wants("w", 1, None, created_ms=1)]
    snapshot = world(pending, until(300, "x", 0, 1, 2))
    assert by_past_runs(snapshot, w=20) == Forecast(
        {"uid-whole": NOW_MS + 300_000, "uid-w": NOW_MS + 400_000}
    )
    endless = world(
        [wants("whole", 4), wants("w", 1, 100, created_ms=1)], holding("x", A, 0, 1, 2, started_ms=NOW_MS)
    )
    assert by_past_runs(endless, x=30).starts == {"uid-w": NOW_MS, "uid-whole": NOW_MS + 100_000}


def test_what_takes_longer_than_expected_is_expected_to_take_twice_as_long() -> None:
    late = holding("late", A, 0, started_ms=NOW_MS - 50_000, expected_seconds=20)
    assert seconds_of(world([wants("whole", 4)], late)) == {"whole": 30}


def test_more_ranks_than_the_least_make_an_elastic_workload_faster() -> None:
    elastic = workload("elastic", role(4, min_replicas=2), expected_seconds=100, priority=1)
    other = until(1000, "x", 0, 1)
    assert seconds_of(world([elastic, wants("next", 2)], other)) == {"elastic": 0, "next": 200}


def test_a_budget_is_unspent_when_its_period_is_over() -> None:
    budget = PeriodBudget("*", 100, 100, NOW_MS + 70_000)
    queue = QueueView("default", quotas=(Quota("*", 4000),), budgets=(budget,))
    assert seconds_of(world([wants("w", 1)], queue=queue)) == {"w": 70}


def test_only_the_first_are_forecast() -> None:
    pending = [wants(f"w{number}", 4, 10, created_ms=number) for number in range(5)]
    assert seconds_of(world(pending), limit=2) == {"w0": 0, "w1": 10}


def test_a_victim_waits_again_with_what_it_has_left() -> None:
    pending = [wants("urgent", 4, 100, priority=9)]
    starts = seconds_of(world([*pending, wants("after", 4, created_ms=1)], until(500, "x", 0)))
    assert starts == {"urgent": 10, "after": 10 + 100 + 500}


def test_far_ahead_starts_are_rounded_instead_of_looked_at_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def counted(snapshot: Snapshot, policy: Policy, now_ms: int) -> list[object]:
        calls.append(now_ms)
        return list(run_cycle(snapshot, policy, now_ms))

    monkeypatch.setattr(forecast, "run_cycle", counted)
    monkeypatch.setattr(forecast, "WORK", 0)
    pending = [wants(f"w{number:03d}", 4, 10, created_ms=number) for number in range(100)]
    starts = seconds_of(world(pending))
    assert len(calls) == forecast.FEWEST_CYCLES
    assert [starts[f"w{number:03d}"] for number in range(8)] == [10 * number for number in range(8)]
    assert all(starts[f"w{n:03d}"] >= 10 * n for n in range(100) if f"w{n:03d}" in starts)


@settings(max_examples=40, deadline=None)
@given(snapshots())
def test_the_snapshot_is_left_as_it_was_and_the_same_input_gives_the_same_forecast(
    snapshot: Snapshot,
) -> None:
    pool = snapshot.pool
    before = pool.free_millis(), list(pool.state_of), bytes(pool.listed), pool.mark()
    first = forecast_starts(snapshot, Policy(), NOW_MS)
    assert before == (pool.free_millis(), list(pool.state_of), bytes(pool.listed), pool.mark())
    assert forecast_starts(snapshot, Policy(), NOW_MS) == first
    assert set(first) <= {workload.uid for workload in snapshot.pending}
    assert all(start_ms >= NOW_MS for start_ms in first.values())


@settings(max_examples=40, deadline=None)
@given(snapshots())
def test_releases_that_are_kept_from_cycle_to_cycle_are_those_that_would_be_made_anew(
    snapshot: Snapshot,
) -> None:
    policy = Policy(reserve=3)
    kept = forecast_starts(snapshot, policy, NOW_MS)
    with patch.object(Followed, "by", lambda releases, running: tuple(running)):
        assert forecast_starts(snapshot, policy, NOW_MS) == kept


@st.composite
def _jobs(draw: st.DrawFn) -> list[Job]:
    jobs = []
    for number in range(draw(st.integers(1, 12))):
        seconds = draw(st.sampled_from((10, 30, 70, 200)))
        job = gpu_job(f"j{number:02d}", draw(st.integers(1, 4)), seconds, expected_seconds=seconds)
        jobs.append(replace(job, workload=replace(job.workload, created_ms=number)))
    return jobs


@settings(max_examples=40, deadline=None)
@given(_jobs(), st.lists(st.sampled_from((1, 2, 4)), min_size=1, max_size=3))
def test_the_forecast_is_what_then_happens(jobs: list[Job], sizes: list[int]) -> None:
    nodes = [gpu_node(f"n{number}", size) for number, size in enumerate(sizes)]
    jobs = [replace(job, workload=replace(job.workload, created_ms=0)) for job in jobs]
    queues, policy = (QueueView("default"),), Policy()
    snapshot = take_snapshot(nodes, queues, [job.workload for job in jobs])
    forecast_ms = forecast_starts(snapshot, policy, 0)
    result = simulate(nodes, queues, jobs, policy, Options(5000, start_ms=0, spans=2), run_cycle)
    happened = {o.uid: o.first_start_ms for o in result.outcomes if o.first_start_ms is not None}
    assert forecast_ms == happened
