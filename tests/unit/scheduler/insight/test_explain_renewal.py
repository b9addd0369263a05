"""From when on a workload whose queue has spent its device time may start."""

import pytest

from common.resources.pool import DeviceBudget, DeviceUse, QueueStatus
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
