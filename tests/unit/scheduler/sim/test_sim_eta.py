"""Starts that are forecast come when they were forecast, as far as users know how long their jobs run."""

from collections.abc import Callable, Mapping
from statistics import median

from scheduler.core.cycle import run_cycle
from scheduler.core.forecast import forecast, forecast_starts
from scheduler.core.model.runtimes import PastRun, RunHistory
from scheduler.core.model.types import Policy, QueueView
from scheduler.core.placement.snapshot import Snapshot, take_snapshot
from scheduler.sim.engine import simulate
from scheduler.sim.eta import Forecasts, median_error
from scheduler.sim.habits import Habits, at_poisson_times
from scheduler.sim.options import Hooks, Options
from tests.unit.scheduler.sim_build import gpu_job, gpu_node


def test_forecasts_are_asked_for_at_every_step_and_never_without_one() -> None:
    often = Forecasts(600)
    assert [now for now in (0, 1, 599, 600, 601, 1199, 1300, 1899, 1900) if often.due(now)] == [
        0,
        600,
        1300,
        1900,
    ]
    assert not any(Forecasts(0).due(now) for now in (0, 1, 10**9))


def test_a_forecast_is_judged_by_the_wait_that_was_still_to_come() -> None:
    forecasts, snapshot = Forecasts(600), take_snapshot([], [], [], [])
    said = [{"a": 90_000, "b": 5_000}, {"a": 130_000}, {"a": 100_000}]
    for now_ms, starts in zip((0, 60_000, 100_000), said, strict=True):
        forecasts.ask(lambda *_, starts=starts: starts, snapshot, Policy(), now_ms)
    forecasts.started("a", 100_000)
    forecasts.started("a", 200_000)
    assert [(eta.uid, eta.asked_ms, eta.relative_error) for eta in forecasts.kept()] == [
        ("a", 0, 0.1),
        ("a", 60_000, 0.5),  # a wait of 40 s counts as one of 60 s
    ], "what starts as it is asked needs no forecast, and a start is judged once"
    assert median_error(forecasts.kept()) == 0.3
    assert median_error(()) is None


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
