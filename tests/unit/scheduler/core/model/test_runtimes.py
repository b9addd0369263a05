"""What is concluded from earlier runs, and how long a workload takes with fewer ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.model.runtimes import (
    LATEST_RUNS,
    MOST_SORTS,
    PastRun,
    Prediction,
    RunHistory,
    devices_of,
    longest_ms,
    name_stem,
)
from scheduler.core.model.types import WorkloadView
from tests.unit.scheduler.build import role, workload


def ran(
    name: str, *seconds: float, devices: float = 1, kind: str = "other", project: str = "p"
) -> list[PastRun]:
    return [PastRun(project, name, kind, devices, each) for each in seconds]


def predict_seconds(runs: list[PastRun], job: WorkloadView) -> int | None:
    prediction = RunHistory(runs).predict(job)
    return prediction.seconds if prediction else None


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("train-0042", "train"),
        ("train-7b-0042-3", "train-7b"),
        ("train-7b", "train-7b"),
        ("llama-3f9a1c2", "llama"),
        ("0042", "0042"),
        ("train", "train"),
    ],
)
def test_numbers_and_hashes_at_the_end_of_a_name_do_not_count(name: str, stem: str) -> None:
    assert name_stem(name) == stem


def test_the_runs_that_are_most_alike_decide() -> None:
    job = workload("train-9", role(2, count=4))
    assert devices_of(job.roles) == 8
    kind = ran("other", 5, 6, 7, devices=8)
    named = ran("train-1", 50, 60, 70, devices=4)
    same = ran("train-2", 500, 600, 90_000, devices=8)
    assert predict_seconds([*same, *named, *kind], job) == 600
    assert predict_seconds([*same[:2], *named, *kind], job) == 70
    assert predict_seconds([*named[:2], *kind], job) == 6
    assert predict_seconds([*named[:2], *kind[:2]], job) is None
    assert predict_seconds(ran("train-1", 1, 1, 1, devices=8, project="q"), job) is None
    assert predict_seconds([], job) is None


def test_a_prediction_says_by_how_many_runs_and_what_they_have_in_common() -> None:
    job = workload("train-9", role(2, count=4))
    named, sized = ran("train-1", 5, 6, 7, 8, devices=4), ran("other", *[9] * 40, devices=8)
    assert RunHistory(named).predict(job) == Prediction(7, 4, "name")
    assert RunHistory(sized).predict(job) == Prediction(9, LATEST_RUNS, "kind and devices")


def test_inference_has_no_end() -> None:
    assert RunHistory(ran("chat", 60, 60, 60)).predict(workload("chat", kind="inference")) is None


def test_what_nothing_was_added_to_for_longest_is_forgotten_first() -> None:
    history = RunHistory(ran("old", 1, 1, 1))
    for number in range(MOST_SORTS // 2):
        history.add(PastRun("p", f"job{number}", "training", 2, 60))
    assert history.predict(workload("old")) is None
    assert history.predict(workload("a", role(count=2), kind="training")) == Prediction(
        60, LATEST_RUNS, "kind and devices"
    )


def test_only_the_latest_runs_count_and_one_that_is_far_off_changes_little() -> None:
    job = workload("train")
    runs = ran("train", *[10_000] * 50, *[100] * (LATEST_RUNS - 1), 1_000_000)
    assert predict_seconds(runs, job) == 100


def test_fewer_ranks_take_longer() -> None:
    assert longest_ms(workload("w", role(4, min_replicas=1), role(3, "b"), expected_seconds=10)) == 40_000
    assert longest_ms(workload("w", role(4), expected_seconds=10)) == 10_000
    assert longest_ms(workload("w", role(4, min_replicas=1))) is None


@given(st.lists(st.floats(0, 1e9), min_size=3, max_size=40))
def test_a_prediction_lies_between_the_shortest_and_the_longest_run(seconds: list[float]) -> None:
    found = predict_seconds(ran("w", *seconds), workload("w"))
    assert found is not None
    assert max(1, min(seconds)) <= found <= max(seconds) + 1
