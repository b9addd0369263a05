"""What a running workload is told about devices that it was kept off."""

import pytest

from tests.unit.scheduler.pool_scene import PoolScene, devices

pytestmark = pytest.mark.unit


async def test_what_could_have_had_a_scarce_device_is_told_for_whom_that_is_kept() -> None:
    s = PoolScene()
    await s.project()
    await s.node("a", devices("a"))
    await s.node("b", devices("b", model="A10"))
    await s.queue("vision")
    await s.runs("w", "a", 0)
    for number in range(24):
        await s.workload(f"any-{number}")
    for number in range(12):
        await s.workload(f"picky-{number}", queue="vision", request={"models": ["A10"]})
    answer = await s.explain("w")
    assert answer.kept_off == ["kept off A10: wanted by name by queue vision"]
    await s.runs("picky", "b", 0, request={"models": ["A10"]})
    assert (await s.explain("picky")).kept_off == []
