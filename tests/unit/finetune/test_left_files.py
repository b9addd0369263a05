"""A worker that somebody has taken over leads control nowhere by what it leaves, and holds nothing up."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import ComputilityError
from finetune.core.job import parse_job
from finetune.core.worker_events import whole_lines
from finetune.jobs import job_folder, left_files
from finetune.jobs.job_folder import JobFolder
from finetune.jobs.left_files import copy_left, open_left
from tests.fixtures.tuning import TuningWorld

SECRET = b"secret of the platform\n"
DIGEST = hashlib.sha256(SECRET).hexdigest()
LEAVE: dict[str, Callable[[Path, Path], None]] = {
    "link": lambda place, secret: place.symlink_to(secret),
    "pipe": lambda place, secret: os.mkfifo(place),
    "folder": lambda place, secret: place.mkdir(),
    "endless": lambda place, secret: place.symlink_to("/dev/zero"),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
async def world(tmp_path: Path) -> TuningWorld:
    made = TuningWorld(tmp_path / "home")
    await made.fill()
    return made


@pytest.mark.parametrize("kind", LEAVE)
def test_only_a_file_is_opened(tmp_path: Path, secret: Path, kind: str) -> None:
    place = tmp_path / "events.jsonl"
    LEAVE[kind](place, secret)
    with pytest.raises(FileNotFoundError), open_left(place):
        pass


@pytest.mark.parametrize("kind", LEAVE)
def test_an_adapter_takes_no_file_of_others_with_it(tmp_path: Path, secret: Path, kind: str) -> None:
    source, target = tmp_path / "adapter", tmp_path / "copy"
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    LEAVE[kind](source / "adapter_model.safetensors", secret)
    copy_left(source, target)
    assert [path.name for path in target.iterdir()] == ["adapter_config.json"]


def test_the_folder_of_an_adapter_is_no_link_to_anothers(tmp_path: Path) -> None:
    (tmp_path / "of-another").mkdir()
    (tmp_path / "adapter").symlink_to(tmp_path / "of-another")
    with pytest.raises(FileNotFoundError):
        copy_left(tmp_path / "adapter", tmp_path / "copy")


def test_no_folder_on_the_way_is_a_link_to_anothers(tmp_path: Path) -> None:
    mine, others = tmp_path / "mine", tmp_path / "others"
    (others / "checkpoints" / "step-3").mkdir(parents=True)
    (mine / "checkpoints" / "step-3").mkdir(parents=True)
    copy_left(mine / "checkpoints" / "step-3", tmp_path / "copy", mine)
    (mine / "checkpoints" / "step-3").rmdir()
    (mine / "checkpoints").rmdir()
    (mine / "checkpoints").symlink_to(others / "checkpoints")
    with pytest.raises(FileNotFoundError):
        copy_left(mine / "checkpoints" / "step-3", tmp_path / "another", mine)
    assert not (tmp_path / "another").exists()


def test_an_adapter_larger_than_any_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "adapter"
    source.mkdir()
    (source / "adapter_model.safetensors").write_bytes(b"x" * 101)
    monkeypatch.setattr(left_files, "MAX_COPIED_BYTES", 100)
    with pytest.raises(ComputilityError, match="larger"):
        copy_left(source, tmp_path / "copy")


async def _running(world: TuningWorld) -> JobFolder:
    await world.apply_job()
    await world.step()
    await world.set_phase("Running")
    await world.step()
    return JobFolder(world.home / "jobs", await world.job())


async def test_a_worker_chooses_no_folder_that_is_published(world: TuningWorld, secret: Path) -> None:
    await _running(world)
    elsewhere = secret.parent / "adapter-of-another"
    elsewhere.mkdir()
    (elsewhere / "adapter_model.safetensors").write_bytes(SECRET)
    world.tell("result", "Trained", trained_tokens=1, adapter_path=str(elsewhere), adapter_sha256=DIGEST)
    await world.set_phase("Succeeded", 0)
    await world.step()
    assert (await world.job()).status.error_code == "adapter_damaged"
    assert not list((world.home / "adapters").rglob("*.safetensors"))


async def test_a_result_without_weights_or_digest_is_no_adapter(world: TuningWorld) -> None:
    await _running(world)
    world.tell("result", "Trained", trained_tokens=1)
    await world.set_phase("Succeeded", 0)
    await world.step()
    assert (await world.job()).status.error_code == "adapter_damaged"


@pytest.mark.parametrize("kind", LEAVE)
async def test_events_that_are_no_file_hold_up_nothing_and_the_job_ends(
    world: TuningWorld, secret: Path, kind: str
) -> None:
    folder = await _running(world)
    place = folder.path / "events.jsonl"
    place.unlink(missing_ok=True)
    LEAVE[kind](place, secret)
    await world.step()
    await world.set_phase("Succeeded", 0)
    await world.step()
    assert (await world.job()).status.state == "failed"


async def test_orders_are_written_through_no_link(world: TuningWorld, secret: Path) -> None:
    folder = await _running(world)
    (folder.path / ".job.json").symlink_to(secret)
    orders = json.loads((folder.path / "job.json").read_text())
    folder.write_job(parse_job(orders))
    assert secret.read_bytes() == SECRET


async def test_of_endless_events_a_part_is_read(world: TuningWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = await _running(world)
    monkeypatch.setattr(job_folder, "MAX_EVENTS_BYTES", 1000)
    for number in range(100):
        world.tell("message", f"line {number}")
    assert 0 < len(folder.all_events()) < 20


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": 10**30},
        {"created_at": -1},
        {"created_at": "soon"},
        {"created_at": 1.5},
        {"data": []},
        {"type": "gift"},
    ],
)
def test_a_line_that_no_worker_writes_is_a_warning(change: dict[str, object]) -> None:
    line = {"type": "message", "created_at": 1, "message": "m", "data": {}} | change
    ((event,), _) = whole_lines(json.dumps(line).encode() + b"\n", 0)
    assert (event.type, event.level) == ("message", "warn")


def test_words_and_numbers_of_a_worker_fit_what_keeps_them() -> None:
    line = {
        "type": "metrics",
        "created_at": 1,
        "message": "\ud800\x1b[2J" + "x" * 10**6,
        "data": {"trained_tokens": 10**40, "step": 7},
    }
    ((event,), _) = whole_lines(json.dumps(line).encode() + b"\n", 0)
    assert len(event.message) < 5000
    event.message.encode()
    assert "\x1b" not in event.message
    assert (event.count("trained_tokens"), event.count("step")) == (None, 7)
