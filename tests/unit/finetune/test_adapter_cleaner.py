"""The files of a deleted adapter go, later; no other folder does."""

from pathlib import Path

import pytest

from common.resources import Adapter, FineTune, Resource
from common.settings import Settings
from common.store.set_aside import SetAside
from finetune.jobs.adapter_cleaner import GRACE_SECONDS, AdapterCleaner
from tests.fixtures.tuning import PROJECT, TuningWorld


@pytest.fixture
async def world(tmp_path: Path) -> TuningWorld:
    made = TuningWorld(tmp_path)
    await made.fill()
    return made


async def _pass_after(world: TuningWorld, seconds: float) -> None:
    """A pass of a new process."""
    world.clock.advance(seconds)
    world.restart_controller()
    await world.step(1)


async def test_the_files_of_a_deleted_adapter_go_after_ten_minutes(world: TuningWorld) -> None:
    await world.apply_job()
    await world.run_to_end()
    (adapter,) = await world.adapters()
    folder = Path(adapter.spec.path)
    await _pass_after(world, 2 * GRACE_SECONDS)
    assert folder.is_dir()
    await world.store.delete(Adapter, adapter.name, PROJECT)
    await _pass_after(world, 60)
    await _pass_after(world, GRACE_SECONDS - 1)
    assert folder.is_dir()
    await _pass_after(world, 1)
    assert not folder.exists()
    assert not await world.adapters()


async def test_an_adapter_that_is_registered_again_keeps_its_files(world: TuningWorld) -> None:
    await world.apply_job()
    await world.run_to_end()
    (adapter,) = await world.adapters()
    await world.store.delete(Adapter, adapter.name, PROJECT)
    await _pass_after(world, 60)
    adapter.metadata.resource_version, adapter.metadata.uid = 0, ""
    adapter.metadata.name = "by-hand"
    await world.store.apply(adapter)
    await _pass_after(world, 2 * GRACE_SECONDS)
    await world.store.delete(Adapter, "by-hand", PROJECT)
    await _pass_after(world, 60)
    assert Path(adapter.spec.path).is_dir()


async def test_what_an_unfinished_job_copies_and_what_no_job_made_stays(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    project = world.home / "adapters" / PROJECT
    copied, foreign, leftover = project / "ft-1", project / "downloaded", project / ".ft-gone"
    for folder in (copied, foreign, leftover):
        folder.mkdir(parents=True)
    await _pass_after(world, 60)
    await _pass_after(world, 2 * GRACE_SECONDS)
    assert copied.is_dir()
    assert foreign.is_dir()
    assert not leftover.exists()


async def test_nothing_goes_while_an_adapter_of_an_older_version_is_set_aside(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.apply_job()
    await world.run_to_end()
    (adapter,) = await world.adapters()
    await world.store.delete(Adapter, adapter.name, PROJECT)

    async def set_aside(kind: type[Resource]) -> list[SetAside]:
        return [SetAside("Adapter", adapter.name, PROJECT, "spec.colour: unknown field")][: kind is Adapter]

    monkeypatch.setattr(world.store, "set_aside", set_aside)
    await _pass_after(world, 60)
    await _pass_after(world, 2 * GRACE_SECONDS)
    assert Path(adapter.spec.path).is_dir()


async def test_where_there_are_no_folders_the_store_is_not_asked(
    world: TuningWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "empty")
    asked: list[object] = []

    async def count(kind: type[Resource] | None = None) -> list[SetAside]:
        asked.append(kind)
        return []

    monkeypatch.setattr(world.store, "set_aside", count)
    cleaner = AdapterCleaner(world.store, settings, world.clock)
    await cleaner.step()
    assert asked == []
    (settings.folder("adapters") / PROJECT / "ft-left").mkdir(parents=True)
    world.clock.advance(60)
    await cleaner.step()
    assert asked == [Adapter, FineTune]
