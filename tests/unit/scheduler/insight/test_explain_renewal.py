"""From when on a workload may start whose queue, or tenant, has spent what it had."""

import pytest

from common.resources.pool import DeviceBudget, DeviceUse, QueueStatus
from common.resources.workload import PendingReason, WorkloadStatus
from tests.unit.scheduler.pool_scene import START_MS, PoolScene, devices

DAY_MS = 86_400_000
TOMORROW_MS = START_MS // DAY_MS * DAY_MS + DAY_MS
NEXT_MONDAY_MS = 1_700_438_400_000


@pytest.mark.parametrize(
    ("hours", "renews_ms"),
    [
        ({"day": 1, "week": 1}, NEXT_MONDAY_MS),
        ({"day": 1, "week": 9}, TOMORROW_MS),
        ({"day": 2}, TOMORROW_MS),
    ],
)
async def test_who_waits_for_several_budgets_waits_for_the_last_of_those_that_are_spent(
    hours: dict[str, int], renews_ms: int
) -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    used = DeviceUse(device_class="nvidia/H100", day_seconds=7200.0, week_seconds=7200.0)
    budgets = [
        DeviceBudget.model_validate({"device_class": "nvidia", "device_hours": most, "period": period})
        for period, most in hours.items()
    ]
    status = QueueStatus(used=[used], used_ms=START_MS)
    await scene.queue("default", status, budgets=budgets)
    await scene.workload("w")
    assert (await scene.explain("w")).not_before_ms == renews_ms


@pytest.mark.parametrize(
    ("code", "remedy", "no_eta"),
    [
        ("BudgetExhausted", "raises the budget's limit", "it waits until the budget has room again"),
        ("Paused", "an admin resumes", "it waits until somebody lets it go on"),
    ],
)
async def test_what_is_stopped_is_told_so_and_is_in_no_line(code: str, remedy: str, no_eta: str) -> None:
    scene = PoolScene()
    await scene.project()
    await scene.node("a", devices("a"))
    reason = PendingReason(code=code, message="why")
    await scene.workload("w", status=WorkloadStatus(pending=[reason], message=reason.message))
    answer = await scene.explain("w")
    assert (answer.message, answer.reasons) == (reason.message, [reason])
    assert remedy in answer.remedy
    assert (answer.eta_ms, answer.no_eta) == (None, no_eta)
    assert not answer.position
