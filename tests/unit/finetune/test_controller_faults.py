"""Whatever dies or goes wrong on the way, a job ends once, with its reason, and is billed once."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from billing.store.ledger import PostResult
from common.errors import Unavailable
from common.resources import Adapter, File, Metadata, Model, Workload
from common.resources.tuning import FineTuneStatus
from tests.fixtures.tuning import PROJECT, TuningWorld


@pytest.fixture
async def world(tmp_path: Path) -> TuningWorld:
    made = TuningWorld(tmp_path)
    await made.fill()
    return made


async def test_a_controller_that_dies_at_any_write_changes_nothing(
    world: TuningWorld, tmp_path: Path
) -> None:
    """The process is killed before its first write, its second, and so on: the outcome is the same."""
    writes = 0
    while True:
        home = tmp_path / f"run-{writes}"
        home.mkdir()
        tried = TuningWorld(home)
        await tried.fill()
        await tried.apply_job()
        died = await _run_with_death_at(tried, writes)
        job = await tried.job()
        assert job.status.state == "succeeded"
        assert len(await tried.adapters()) == 1
        assert tried.bill.trained_tokens == 900
        messages = await tried.messages()
        assert [m for m in messages if m.startswith("Step")] == ["Step 1/9", "Step 2/9"]
        assert len(messages) == len(set(messages))
        assert len([f for f in await tried.store.list(File) if f.name != "file-1"]) == 1
        if not died:
            break
        writes += 1
    assert writes > 10


class Killed(BaseException):
    """The end of the process."""


async def _run_with_death_at(world: TuningWorld, write: int) -> bool:
    """Run a job to its end with the controller killed at its n-th write. Returns whether it came to that."""
    countdown = [write]
    controller_writes = {"on": False}

    def deadly(target: object, name: str) -> None:
        original = getattr(target, name)

        async def call(*args: object, **kwargs: object) -> object:
            if controller_writes["on"]:
                countdown[0] -= 1
                if countdown[0] == -1:
                    raise Killed
            return await original(*args, **kwargs)

        setattr(target, name, call)

    for name in ("apply", "set_status", "record", "delete"):
        deadly(world.store, name)
    deadly(world.bill, "post")

    async def step() -> None:
        for _ in range(3):
            world.clock.advance(1)
            controller_writes["on"] = True
            try:
                await world.controller.step()
            except Killed:
                world.restart_controller()
            finally:
                controller_writes["on"] = False

    await step()
    await world.set_phase("Running")
    await step()
    world.tell_steps(1, 2)
    await step()
    world.leave_adapter()
    await world.set_phase("Succeeded", 0)
    await step()
    return countdown[0] < 0


async def test_a_cancelled_job_is_billed_the_last_count_that_was_reported(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker trains on while it is being stopped, and the controller dies just after it has billed."""
    await world.apply_job()
    await world.step()
    await world.set_phase("Running")
    world.tell_steps(1, 2, 3)
    job = await world.job()
    job.spec.cancelled = True
    await world.store.apply(job)
    with monkeypatch.context() as patch:

        async def die(*args: object, **kwargs: object) -> None:
            raise Killed

        patch.setattr(world.store, "delete", die)
        with pytest.raises(Killed):
            await world.controller.step()
    world.restart_controller()
    world.clock.advance(5)
    world.tell_steps(4)
    await world.step()
    status = (await world.job()).status
    assert (status.state, status.trained_tokens, status.step) == ("cancelled", 300, 3)
    assert world.bill.trained_tokens == 300
    assert world.bill.posts == 2


async def test_a_cancelled_job_is_billed_by_its_last_line_however_much_there_is_to_read(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.jobs.job_folder._MAX_READ_BYTES", 200)
    await world.apply_job()
    await world.step()
    world.tell_steps(*range(1, 9))
    job = await world.job()
    job.spec.cancelled = True
    await world.store.apply(job)
    await world.step(1)
    assert world.bill.trained_tokens == 800


async def test_a_damaged_adapter_is_not_registered(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    world.leave_adapter()
    (world.folder() / "adapter" / "adapter_model.safetensors").write_bytes(b"other")
    await world.set_phase("Succeeded", 0)
    await world.step()
    job = await world.job()
    assert (job.status.state, job.status.error_code) == ("failed", "adapter_damaged")
    assert not await world.adapters()
    assert not world.bill.events


async def test_a_failure_is_told_in_the_workers_words(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    world.tell("error", "line 3 is too long", code="invalid_value", param="training_file")
    await world.set_phase("Restarting", 2)
    await world.step()
    status = (await world.job()).status
    assert status.state == "failed"
    assert (status.error_code, status.error_param) == ("invalid_value", "training_file")
    assert status.error_message == "line 3 is too long"
    assert await world.workload() is None
    assert not world.bill.events


async def test_a_worker_that_dies_without_a_word_leaves_its_exit_code(world: TuningWorld) -> None:
    await world.apply_job()
    await world.step()
    await world.set_phase("Failed", 137, "killed by the system: out of memory")
    await world.step()
    status = (await world.job()).status
    assert (status.state, status.error_code) == ("failed", "training_failed")
    assert "137" in status.error_message
    assert "out of memory" in status.error_message


async def test_a_job_whose_model_is_gone_fails_with_the_reason(world: TuningWorld) -> None:
    await world.store.delete(Model, "tiny", PROJECT)
    await world.apply_job()
    await world.step()
    status = (await world.job()).status
    assert status.state == "failed"
    assert "there is no Model 'tiny'" in status.error_message
    assert await world.workload() is None


async def test_a_database_away_for_a_moment_fails_no_trained_job(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.apply_job()
    apply, away = world.store.apply, [True]

    async def unreliable(resource: Adapter, **options: Any) -> object:
        if isinstance(resource, Adapter) and away.pop():
            away.append(False)
            raise Unavailable("the database cannot be used")
        return await apply(resource, **options)

    monkeypatch.setattr(world.store, "apply", unreliable)
    await world.run_to_end()
    assert (await world.job()).status.state == "succeeded"
    assert world.bill.trained_tokens == 900


async def test_a_full_disk_at_one_job_does_not_hold_up_the_next(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.apply_job()
    await world.step()
    await world.set_phase("Running")
    world.leave_adapter()
    await world.set_phase("Succeeded", 0)
    (world.home / "adapters" / PROJECT).mkdir(parents=True)
    first = await world.job()
    later = first.model_copy(update={"metadata": Metadata(name="ftjob-2", project=PROJECT)})
    later.status = FineTuneStatus(resolved=first.status.resolved)
    await world.store.apply(later)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        await world.step()
        assert await world.store.find(Workload, "ftjob-2", PROJECT) is not None
        waiting = await world.job()
        assert waiting.status.state != "failed"
        told = waiting.status.condition("Handled")
        assert told is not None
        assert (told.status, told.reason) == ("False", "InternalError")
        assert "No space left on device" in told.message
    world.clock.advance(60)
    await world.step()
    assert (await world.job()).status.state == "succeeded"
    assert (await world.job()).status.is_true("Handled")


async def test_what_a_killed_copy_of_an_adapter_left_is_gone(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.apply_job()
    original = os.replace

    def killed_at_adapter(source: Path, target: Path) -> None:
        if "adapters" in str(target):
            raise Killed
        original(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed_at_adapter)
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            await world.run_to_end()
    world.restart_controller()
    await world.step()
    [adapter] = await world.adapters()
    assert [str(path) for path in Path(adapter.spec.path).parent.iterdir()] == [adapter.spec.path]


async def _odd(world: TuningWorld, **spec: str) -> None:
    """A job as an earlier release, which checked less, may have stored it."""
    await world.apply_job()
    job = await world.job()
    vars(job.spec).update(spec)
    await world.store.apply(job)
    assert vars((await world.job()).spec).items() >= spec.items()


async def test_a_job_of_a_key_with_an_odd_name_ends_and_is_billed(world: TuningWorld) -> None:
    await _odd(world, api_key="free\n")
    await world.run_to_end()
    assert (await world.job()).status.state == "succeeded"
    (event,) = world.bill.events.values()
    assert (event.key, event.quantities) == ("free\\x0a", {"trained_tokens": 900})


async def test_a_job_whose_adapter_can_have_no_name_ends_and_says_so(world: TuningWorld) -> None:
    await _odd(world, suffix="zoo\n")
    await world.run_to_end()
    status = (await world.job()).status
    assert (status.state, status.error_code) == ("failed", "adapter_not_registered")
    assert "cannot be registered" in status.error_message


async def test_trained_tokens_that_can_never_be_billed_are_kept_and_the_job_ends(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(events: Any) -> PostResult:
        ids = [event.id for event in events]
        return PostResult(0, 0, tuple(ids), dict.fromkeys(ids, "key: holds a control character"))

    monkeypatch.setattr(world.bill, "post", refuse)
    await world.apply_job()
    await world.step()
    await world.set_phase("Running")
    world.leave_adapter()
    await world.set_phase("Succeeded", 0)
    await world.step()
    job = await world.job()
    assert job.status.state == "succeeded"
    (line,) = (world.home / "spool" / "control" / "rejected.ndjson").read_text().splitlines()
    kept = json.loads(line)
    assert kept["reason"] == "key: holds a control character"
    assert kept["event"]["quantities"] == {"trained_tokens": job.status.trained_tokens}
    await world.step()
    assert (world.home / "spool" / "control" / "rejected.ndjson").read_text().count("\n") == 1


async def test_a_full_disk_delays_the_end_of_a_job_and_does_not_fail_it(
    world: TuningWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    await world.apply_job()
    with monkeypatch.context() as broken:
        broken.setattr("finetune.adapters.blob_folder.BlobFolder.temporary", full)
        await world.run_to_end()
        status = (await world.job()).status
        assert (status.state, status.error_code) == ("running", "")
        handled = status.condition("Handled")
        assert handled is not None
        assert "no room on the disk" in handled.message
    world.clock.advance(3600)
    await world.step()
    assert (await world.job()).status.state == "succeeded"
