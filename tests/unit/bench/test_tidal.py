"""The inputs of the tidal bench: the load that an hour of a trace becomes, and jobs thinned out to a pool."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bench.job_traces import DAY_MS, sample_jobs
from bench.tidal_serving import DAY_CURVE, DAY_SECONDS, read_hour, scaled, weeks_of
from bench.tidal_worlds import Setting, figures, silo_world, tell, tidal_world
from common.errors import InvalidInput
from scheduler.sim.jobs import Job
from tests.unit.scheduler.sim_build import gpu_job

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,1000,250
2023-11-16 18:15:46.9000000,2000,0
2023-11-16 18:15:50.9951690,500,25
"""


def test_an_azure_hour_is_work_by_seconds(tmp_path: Path) -> None:
    path = tmp_path / "conv.csv.gz"
    path.write_bytes(gzip.compress(AZURE.encode()))
    hour = read_hour(path)
    assert hour.requests[:6].tolist() == [2, 0, 0, 0, 1, 0]
    assert hour.work[0] == pytest.approx(0.1 + 0.1 + 0.2)
    assert hour.work_per_request == pytest.approx((0.4 + 0.06) / 3)


def test_mooncake_batches_are_spread_until_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [{"timestamp": t, "input_length": 10_000, "output_length": 0} for t in (0, 0, 0, 3000, 3000)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert read_hour(path).requests[:6].tolist() == [1, 1, 1, 1, 1, 0]


def test_what_is_no_serving_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"timestamp": 1}\n')
    with pytest.raises(InvalidInput, match="line 1"):
        read_hour(path)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInput, match="neither"):
        read_hour(other)
    other.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,1\n")
    with pytest.raises(InvalidInput, match="line 2"):
        read_hour(other)


def test_days_follow_the_curve_and_differ(tmp_path: Path) -> None:
    path = tmp_path / "conv.csv"
    path.write_text(AZURE)
    load = weeks_of(read_hour(path), 20, 0, seed=3)
    by_hour = load.work.reshape(20, 24, 3600).mean(axis=(0, 2))
    assert np.corrcoef(by_hour, DAY_CURVE)[0, 1] > 0.99
    by_day = load.work.reshape(20, -1).mean(axis=1)
    assert 0.03 < by_day.std() / by_day.mean() < 0.3
    assert len(load.work) == 20 * DAY_SECONDS
    assert scaled(load, 3.0).work.sum() == pytest.approx(3 * load.work.sum())
    assert (weeks_of(read_hour(path), 20, 0, seed=3).work == load.work).all()


def trace(days: int, per_day: int = 50) -> list[Job]:
    """A job of two ranks and ten minutes, every so often."""
    gap = 86_400 // per_day
    return [gpu_job(f"j{n}", 2, 600, at_seconds=n * gap) for n in range(days * per_day)]


def test_jobs_are_drawn_from_consecutive_days_until_they_are_enough() -> None:
    wanted = 40 * 1200.0
    sample = sample_jobs(trace(20), 2, wanted, most_ranks=4, longest_seconds=9e9, seed=1)
    assert len(sample.jobs) == 40
    times = [job.workload.created_ms for job in sample.jobs]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 2 * DAY_MS
    assert sample == sample_jobs(trace(20), 2, wanted, 4, 9e9, seed=1)
    assert sample != sample_jobs(trace(20), 2, wanted, 4, 9e9, seed=2)


def test_too_wide_jobs_are_left_out_and_too_long_ones_cut() -> None:
    jobs = [*trace(20), gpu_job("wide", 64, 600), gpu_job("x", 1, 600)]
    sample = sample_jobs(jobs, 2, 1000 * 600.0, most_ranks=4, longest_seconds=300, seed=1)
    assert sample.notes["left_out_as_too_wide"] == 1
    assert {job.seconds for job in sample.jobs} == {300}
    assert sample.notes["run_times_cut"] == len(sample.jobs)


def test_a_trace_that_is_too_small_is_refused() -> None:
    with pytest.raises(InvalidInput, match="are needed"):
        sample_jobs(trace(4), 2, 1e9, 4, 9e9, seed=1)


def test_a_tidal_pool_does_more_than_silos_and_serves_no_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conv.csv"
    rows = "".join(
        f"2023-11-16 18:{minute:02}:{second:02}.0,1000,250\n"
        for minute in range(60)
        for second in range(0, 60, 2)
    )
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    monkeypatch.setattr("bench.tidal_worlds.DRAIN_DAYS", 2)
    jobs = [
        gpu_job(f"j{n}", 1 + n % 4, 9000 + 300 * (n % 20), n * 1200, least=1 + n % 2, expected_seconds=16_000)
        for n in range(8 * 72)
    ]
    story = tell(Setting(devices=32, days=1), read_hour(path), jobs)
    silo, tidal = silo_world(story), tidal_world(story)
    found = figures(silo, tidal)
    assert found["utilisation_gain_percent"] > 15
    assert found["jct_ratio"] > 1.48
    assert found["slo_attainment"]["tidal"] >= found["slo_attainment"]["silo"] - 1e-4
    worlds = found["worlds"]
    assert worlds["tidal"]["serving_percent"] == pytest.approx(worlds["silo"]["serving_percent"], abs=0.1)
    assert worlds["tidal"]["not_ended"] == worlds["silo"]["not_ended"] == 0


@pytest.mark.parametrize("wrong", [{"devices": 8}, {"serving_share": 1.0}, {"days": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        Setting(**wrong)  # type: ignore[arg-type]
