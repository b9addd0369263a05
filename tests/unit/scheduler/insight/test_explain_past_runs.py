"""Who does not say how long it runs is expected to run as long as others like it did; nothing is promised by
that."""

from typing import Any

import pytest

from common.resources.workload import RestartPolicy
from common.store.port import Event
from tests.unit.scheduler.pool_scene import MINUTE_MS, START_MS, PoolScene, devices


async def ended_runs(scene: PoolScene, *minutes: float) -> None:
    for number, each in enumerate(minutes):
        data = {"seconds": each * 60, "devices": 8, "workloadKind": "other"}
        event = Event(
            f"e{number}", START_MS, "info", "Succeeded", "", "Workload", f"train-{number}", "p", data
        )
        await scene.store.record(event)


async def test_ends_that_nobody_stated_are_expected_by_past_runs_and_said_to_be() -> None:
    scene = PoolScene(policy={"preempt": False, "defragment": False})
    await scene.project()
    await scene.node("a", devices("a"))
    await ended_runs(scene, 10, 20, 90)
    await scene.runs("train-9", "a", *range(8))
    await scene.workload("w", request={"count": 8})
    runs, waits = await scene.explain("train-9"), await scene.explain("w")
    assert (runs.expected_end_ms, runs.end_predicted_by) == (START_MS + 20 * MINUTE_MS, "its last 3 runs")
    assert (waits.eta_ms, waits.eta_predicted, waits.no_eta) == (START_MS + 20 * MINUTE_MS, True, "")
    assert waits.reserved_ms is None, "no promise rests on it"
    rows = (await scene.insight.overview(lambda project: True)).workloads
    assert rows is not None
    assert (rows[0].expected_end_ms, rows[0].end_predicted) == (START_MS + 20 * MINUTE_MS, True)


async def test_a_stated_end_wins_over_past_runs() -> None:
    scene = PoolScene(policy={"preempt": False, "defragment": False})
    await scene.project()
    await scene.node("a", devices("a"))
    await ended_runs(scene, 10, 10, 10)
    await scene.runs("train-9", "a", *range(8), expected_seconds=600 * 3)
    await scene.workload("w", request={"count": 8})
    runs, waits = await scene.explain("train-9"), await scene.explain("w")
    assert (runs.expected_end_ms, runs.end_predicted_by) == (START_MS + 30 * MINUTE_MS, "")
    assert (waits.eta_ms, waits.eta_predicted) == (runs.expected_end_ms, False)


@pytest.mark.parametrize("endless", [{"kind": "inference"}, {"restart": RestartPolicy(policy="Always")}])
async def test_services_have_no_end_whatever_ended_before(endless: dict[str, Any]) -> None:
    scene = PoolScene(policy={"preempt": False, "defragment": False})
    await scene.project()
    await scene.node("a", devices("a"))
    await ended_runs(scene, 10, 10, 10)
    await scene.runs("train-9", "a", *range(8), **endless)
    await scene.workload("w", request={"count": 8})
    assert (await scene.explain("train-9")).expected_end_ms is None
    answer = await scene.explain("w")
    assert answer.eta_ms is None
    assert answer.no_eta.startswith("1 of 1 running workloads has no expectedSeconds")
