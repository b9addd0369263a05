"""Starts that are forecast come when they were forecast, as far as users know how long their jobs run."""

from collections.abc import Callable, Mapping
from statistics import median

from scheduler.core.cycle import run_cycle
from scheduler.core.forecast import forecast, forecast_starts
from scheduler.core.model.runtimes import PastRun, RunHistory
from scheduler.core.model.types import Policy, QueueView
from scheduler.core.placement.snapshot import Snapshot
from scheduler.sim.engine import simulate
from scheduler.sim.habits import Habits, at_poisson_times
from scheduler.sim.options import Hooks, Options
from tests.unit.scheduler.sim_build import gpu_job, gpu_node


def test_the_median_eta_is_within_a_quarter_of_the_wait() -> None:
    """Users are wrong by up to a fifth either way; jobs that come later are not known."""
    errors: list[float] = []
    for seed in range(3):
        habits, sizes = Habits(seed, estimate_error=0.2), (1, 1, 1, 2, 2, 4, 8)
        draw = habits.draws()
        lengths = draw.lognormal(6.5, 1.0, 120).tolist()
        jobs = [
            gpu_job(
                f"j{n}",
                sizes[int(draw.integers(len(sizes)))],
                max(30.0, seconds),
                expected_seconds=habits.expected_seconds(seconds, draw),
            )
            for n, seconds in enumerate(lengths)
        ]
        result = simulate(
            [gpu_node(f"n{n}", 8) for n in range(3)],
            [QueueView("default")],
            at_poisson_times(jobs, 24, 1.2, seed),
            Policy(),
            Options(10 * 24 * 3600, start_ms=0, spans=2, eta_seconds=600),
            run_cycle,
            hooks=Hooks(forecast=forecast_starts),
        )
        assert all(outcome.ended_ms is not None for outcome in result.outcomes)
        errors += [eta.relative_error for eta in result.etas]
    assert len(errors) > 200
    assert median(errors) <= 0.25


def by_past_runs(history: RunHistory) -> Callable[[Snapshot, Policy, int], Mapping[str, int]]:
    """Forecasts of a pool where nobody says how long it runs."""

    def starts(snapshot: Snapshot, policy: Policy, now_ms: int) -> Mapping[str, int]:
        views = [*snapshot.pending, *(one.workload for one in snapshot.running)]
        known = {view.uid: history.predict(view) for view in views}
        seconds = {uid: prediction.seconds for uid, prediction in known.items() if prediction}
        return forecast(snapshot, policy, now_ms, predicted_seconds=seconds).starts

    return starts


def test_past_runs_tell_starts_where_nobody_says_how_long_jobs_run() -> None:
    """Starts are told as well as runs of one name are alike: these differ by three tenths."""
    habits = Habits(5)
    draw = habits.draws()
    usual = [(f"user{n}", (1, 1, 2, 4, 8)[n % 5], float(draw.uniform(300, 4000))) for n in range(10)]
    past, jobs = [], []
    for name, size, seconds in usual:
        lengths = (seconds * draw.lognormal(0, 0.3, 21)).tolist()
        past += [PastRun("p", name, "training", size, length) for length in lengths[:9]]
        jobs += [gpu_job(f"{name}-{n}", size, length) for n, length in enumerate(lengths[9:])]
    result = simulate(
        [gpu_node(f"n{n}", 8) for n in range(3)],
        [QueueView("default")],
        at_poisson_times(jobs, 24, 3.0, 5),
        Policy(),
        Options(10 * 24 * 3600, start_ms=0, spans=2, eta_seconds=600),
        run_cycle,
        hooks=Hooks(forecast=by_past_runs(RunHistory(past))),
    )
    errors = [eta.relative_error for eta in result.etas]
    assert len(errors) > 200
    assert median(errors) <= 0.3
