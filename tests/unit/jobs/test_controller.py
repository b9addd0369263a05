"""A job's way from stored to kept."""

from pathlib import Path

import pytest

from common.errors import Forbidden, TooLarge
from common.folder_archive import Bounds, unpack
from common.labels import KUBERNETES_MARK, SANDBOX_LABEL
from common.resources import File, Job, Metadata, Workload
from common.resources.jobs import ARTEFACTS_PURPOSE
from common.resources.workload import WorkloadSpec
from jobs.controller import GIVE_UP_KEEPING_SECONDS, MEASURE_SECONDS, TRY_KEEPING_SECONDS
from operators.core.reconcile import MARK
from tests.fixtures.jobs import JOB, PROJECT, JobWorld

SECRET = {"TOKEN": "s3cret", "LD_PRELOAD": "/evil.so"}


@pytest.fixture
async def world(tmp_path: Path) -> JobWorld:
    made = JobWorld(tmp_path)
    await made.fill()
    return made


async def test_a_job_becomes_a_workload_in_a_cell(world: JobWorld) -> None:
    await world.apply(retries=2, deadline_seconds=60, env=SECRET)
    await world.step()
    workload, job = await world.workload(), await world.job()
    assert workload is not None
    assert workload.metadata.owner is not None
    assert workload.metadata.owner.uid == job.metadata.uid
    [role] = workload.spec.roles
    assert role.command == ["$(PYTHON)", "-m", "jobs.rank", str(world.folder(job))]
    assert role.sandbox is not None
    assert (role.sandbox.required, role.sandbox.network) == (True, False)
    assert role.sandbox.writable == [str(world.folder(job))]
    assert role.devices.node_labels == {SANDBOX_LABEL: "works"}
    assert workload.spec.restart.max_restarts == 2
    assert workload.spec.expected_seconds == 60
    assert job.status.confined is True


async def test_what_a_tenant_wrote_is_in_the_folder_alone(world: JobWorld) -> None:
    """Whatever stands in the Workload, the platform's own processes get too, outside of the cell."""
    job = await world.apply(command=["python", "x.py"], env=SECRET)
    await world.step()
    workload = await world.workload()
    assert workload is not None
    assert "evil" not in workload.model_dump_json()
    assert "x.py" not in workload.model_dump_json()
    assert world.order(job) == {
        "command": ["python", "x.py"],
        "env": SECRET,
        "output": "output",
        "file_bytes": world.settings.jobs.max_folder_bytes,
        "processes": world.settings.jobs.max_processes,
    }


async def test_its_files_are_there_when_it_starts(world: JobWorld) -> None:
    file = await world.upload({"x.py": b"print(1)"})
    job = await world.apply(folder=file.name)
    await world.step()
    assert (world.folder(job) / "files" / "x.py").read_bytes() == b"print(1)"
    assert await world.workload() is not None


async def test_it_succeeds_and_what_it_left_is_kept(world: JobWorld, tmp_path: Path) -> None:
    job = await world.apply()
    await world.step()
    await world.seen("Running", None)
    await world.step()
    assert (await world.status()).phase == "Running"
    output = world.folder(job) / "files" / "output"
    output.mkdir()
    (output / "model").write_bytes(b"weights")
    (output / "link").symlink_to("/etc/passwd")
    await world.seen("Succeeded", 0)
    await world.step()
    status = await world.status()
    assert (status.phase, status.exit_code, status.exit_codes) == ("Succeeded", 0, [0])
    file = await world.store.get(File, status.artefacts, PROJECT)
    assert file.spec.purpose == ARTEFACTS_PURPOSE
    unpack(world.files.content_path(file), tmp_path / "back", Bounds(1000, 10))
    assert [p.name for p in (tmp_path / "back" / "output").iterdir()] == ["model"]
    assert not world.folder(job).exists()
    assert await world.reasons() == ["Running", "Succeeded"]


async def test_it_is_retried_and_then_fails_with_its_code(world: JobWorld) -> None:
    await world.apply(retries=1)
    await world.step()
    await world.seen("Restarting", 3)
    await world.step()
    assert (await world.status()).phase == "Retrying"
    await world.seen("Failed", 4, attempt=2)
    await world.step()
    status = await world.status()
    assert (status.phase, status.reason, status.exit_code) == ("Failed", "BackoffLimitExceeded", 4)
    assert status.attempts == 2


@pytest.mark.parametrize(("spec", "reason"), [({"cancelled": True}, "Cancelled"), ({}, "DeadlineExceeded")])
async def test_it_is_stopped_and_its_logs_stay(world: JobWorld, spec: dict[str, bool], reason: str) -> None:
    await world.apply(deadline_seconds=60)
    await world.step()
    await world.seen("Running", None)
    await world.step()
    world.clock.advance(0 if spec else 60)
    job = await world.job()
    job.spec.cancelled = bool(spec)
    await world.store.apply(job)
    await world.step()
    workload = await world.workload()
    assert workload is not None
    assert workload.spec.suspend
    assert (await world.status()).phase == "Stopping"
    world.restart()
    await world.seen("Suspended", 143)
    await world.step()
    status = await world.status()
    assert status.phase == ("Cancelled" if spec else "Failed")
    assert status.reason == reason
    assert await world.workload() is not None


async def test_a_folder_that_grows_too_large_ends_it(world: JobWorld) -> None:
    job = await world.apply()
    await world.step()
    world.restart(max_folder_bytes=8192)
    await world.seen("Running", None)
    await world.step()
    (world.folder(job) / "files" / "big").write_bytes(bytes(100_000))
    world.clock.advance(MEASURE_SECONDS)
    await world.step()
    status = await world.status()
    assert (status.phase, status.reason) == ("Stopping", "FolderTooLarge")
    assert "8.0 KiB" in status.message


async def test_what_it_left_waits_for_room(world: JobWorld) -> None:
    await world.apply()
    await world.step()
    await world.seen("Succeeded", 0)
    world.faults.append(Forbidden("project lab may have 3"))
    await world.step()
    status = await world.status()
    assert status.phase == "Collecting"
    assert "waits for room" in status.message
    world.clock.advance(TRY_KEEPING_SECONDS)
    world.faults.clear()
    await world.step()
    assert (await world.status()).phase == "Succeeded"


async def test_it_does_not_wait_for_ever(world: JobWorld) -> None:
    await world.apply()
    await world.step()
    await world.seen("Failed", 1)
    world.faults.append(Forbidden("project lab may have 3"))
    await world.step()
    world.clock.advance(GIVE_UP_KEEPING_SECONDS + 1)
    await world.step()
    status = await world.status()
    assert status.phase == "Failed"
    assert status.message.startswith("exit code 1 of rank 0, after 1 attempt; what it left waits")


async def test_what_can_never_be_kept_is_said(world: JobWorld) -> None:
    await world.apply()
    await world.step()
    await world.seen("Succeeded", 0)
    world.faults.append(TooLarge("the folder holds more than 1 GiB"))
    await world.step()
    status = await world.status()
    assert status.phase == "Succeeded"
    assert "too large to be kept" in status.message


async def test_a_folder_that_is_no_archive_fails_the_job(world: JobWorld) -> None:
    job = await world.apply(folder="file-gone")
    await world.step(5)
    status = await world.status()
    assert (status.phase, status.reason) == ("Failed", "CannotStart")
    assert not world.folder(job).exists()


async def test_without_cells_it_starts_only_where_that_is_allowed(tmp_path: Path) -> None:
    world = JobWorld(tmp_path)
    await world.fill("missing")
    await world.apply()
    await world.step()
    status = await world.status()
    assert status.phase == "Failed"
    assert "jobs.allow_unconfined" in status.message
    world.restart(allow_unconfined=True)
    await world.apply("other")
    await world.step()
    workload = await world.workload("other")
    assert workload is not None
    [role] = workload.spec.roles
    assert role.sandbox is not None
    assert not role.sandbox.required
    assert role.devices.node_labels == {}
    assert (await world.job("other")).status.confined is False


async def test_a_gang_needs_the_network_and_so_the_platforms_word(world: JobWorld) -> None:
    await world.apply(replicas=2)
    await world.step()
    assert "jobs.allow_network" in (await world.status()).message
    world.restart(allow_network=True)
    await world.apply("pair", replicas=2)
    await world.step()
    workload = await world.workload("pair")
    assert workload is not None
    assert workload.spec.roles[0].replicas == 2


async def test_a_job_that_is_gone_takes_all_with_it(world: JobWorld) -> None:
    job = await world.apply()
    await world.step()
    assert world.folder(job).exists()
    await world.store.delete(Job, JOB, PROJECT)
    world.clock.advance(3600)
    await world.step()
    assert await world.workload() is None
    assert not world.folder(job).exists()


async def test_it_is_deleted_when_its_time_is_over_but_not_what_kubernetes_has(world: JobWorld) -> None:
    assert KUBERNETES_MARK == MARK
    for name in (JOB, "other"):
        job = await world.apply(name, ttl_seconds_after_finished=100)
        job.status.phase, job.status.finished_ms = "Succeeded", world.clock.now_ms()
        await world.store.set_status(job)
    marked = await world.job("other")
    marked.metadata.annotations = {KUBERNETES_MARK: "c/ns/other"}
    await world.store.apply(marked)
    await world.step()
    assert await world.job() is not None
    world.clock.advance(100)
    await world.step()
    assert [job.name for job in await world.store.list(Job)] == ["other"]


async def test_a_name_that_somebody_else_has_is_not_taken(world: JobWorld) -> None:
    spec = WorkloadSpec.model_validate({"roles": [{"name": "r", "command": ["x"]}]})
    await world.store.apply(Workload(metadata=Metadata(name=JOB, project=PROJECT), spec=spec))
    await world.apply()
    await world.step()
    assert "choose another name" in (await world.status()).message


async def test_a_controller_killed_at_any_write_comes_to_the_same_end(tmp_path: Path) -> None:
    ends = set()
    for killed_at in range(12):
        world = JobWorld(tmp_path / str(killed_at))
        await world.fill()
        file = await world.upload({"x.py": b"1"})
        await world.apply(folder=file.name)
        await _play(world, killed_at)
        status = await world.status()
        kept = [f for f in await world.store.list(File) if f.spec.purpose == ARTEFACTS_PURPOSE]
        ends.add((status.phase, status.exit_code, len(kept), tuple(await world.reasons())))
    assert ends == {("Succeeded", 0, 1, ("Running", "Succeeded"))}


class _Killed(BaseException):
    """Ends the process at a write."""


async def _play(world: JobWorld, killed_at: int) -> None:
    """The way of a job, with a new controller after the write of that number."""
    left = killed_at
    store = world.store
    writes = {name: getattr(store, name) for name in ("apply", "set_status", "record")}

    def counted(name: str):  # type: ignore[no-untyped-def]
        async def write(*args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            done = await writes[name](*args, **options)
            if left == -1:
                raise _Killed
            return done

        return write

    async def passes() -> None:
        for name in writes:
            setattr(store, name, counted(name))
        try:
            for _ in range(4):
                await world.controller.step()
                await world.controller.chores.settle()
        except _Killed:
            world.restart()
            await world.step(4)
        finally:
            for name, write in writes.items():
                setattr(store, name, write)

    await passes()
    await world.seen("Running", None)
    await passes()
    output = world.folder(await world.job()) / "files" / "output"
    output.mkdir()
    (output / "r").write_bytes(b"1")
    await world.seen("Succeeded", 0)
    await passes()
