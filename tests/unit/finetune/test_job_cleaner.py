"""The work folders of jobs that ended go after their time; those of jobs that run stay."""

import os
from pathlib import Path

import pytest

from common.retention import DAY_MS
from tests.fixtures.tuning import TuningWorld


@pytest.fixture
async def world(tmp_path: Path) -> TuningWorld:
    made = TuningWorld(tmp_path)
    await made.fill()
    return made


async def pass_after(world: TuningWorld, folder: Path, days: float, **retention: int) -> bool:
    """Whether the folder, untouched for so long, is there after a pass of a new process."""
    seconds = (world.clock.now_ms() - days * DAY_MS) / 1000
    for path in [*folder.rglob("*"), folder] if folder.exists() else []:
        os.utime(path, (seconds, seconds))
    world.restart_controller(retention=retention)
    await world.step(1)
    return folder.exists()


async def test_the_folder_of_an_ended_job_goes_after_two_weeks_and_its_adapter_stays(
    world: TuningWorld,
) -> None:
    await world.apply_job()
    await world.run_to_end()
    folder, (adapter,) = world.folder(), await world.adapters()
    assert await pass_after(world, folder, 13.9)
    assert not await pass_after(world, folder, 14.1)
    assert not await pass_after(world, folder, 14.1)
    assert Path(adapter.spec.path).is_dir()
    assert (await world.job()).status.state == "succeeded"


async def test_the_folder_of_a_job_that_has_not_ended_stays(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    assert await pass_after(world, world.folder(), 99)


async def test_a_limit_of_bytes_takes_what_ended_first(world: TuningWorld) -> None:
    await world.apply_job()
    await world.run_to_end()
    folder = world.folder()
    assert await pass_after(world, folder, 0.01, job_bytes=1)
    assert await pass_after(world, folder, 1, job_bytes=1024**3)
    assert not await pass_after(world, folder, 1, job_bytes=1)
