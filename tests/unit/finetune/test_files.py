"""Files: kept once, never half, and gone when their time is over."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.clock import VirtualClock
from common.errors import NotFound, TooLarge
from common.settings import Settings
from common.store.memory import MemoryStore
from finetune.adapters.blobs import LocalBlobs
from finetune.adapters.incoming import LEFTOVER_SECONDS, Incoming
from finetune.files.file_service import FileService


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _refused(_handle: int, _how: int) -> None:
    raise OSError(errno.ENOLCK, "no locks here")


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_was_staged_is_readable_only_when_kept(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    staged = await blobs.stage(_pieces(b"ab", b"c"), 3)
    assert staged.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert staged.size_bytes == 3
    with pytest.raises(NotFound):
        blobs.path(staged.sha256)
    await blobs.keep(staged)
    assert blobs.path(staged.sha256).read_bytes() == b"abc"
    await blobs.delete(staged.sha256)
    await blobs.delete(staged.sha256)
    assert _files_in(tmp_path) == []


@pytest.mark.parametrize("is_next_upload", [False, True])
@pytest.mark.parametrize("can_lock", [True, False])
async def test_what_a_killed_process_left_half_is_gone(
    tmp_path: Path, is_next_upload: bool, can_lock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_lock:
        monkeypatch.setattr("fcntl.flock", _refused)
    incoming = Incoming(tmp_path / "incoming")
    left = incoming.temporary()
    left.write_bytes(b"ab")
    incoming.close()
    if not can_lock:
        LocalBlobs(tmp_path)
        assert _files_in(tmp_path) == [left], "may be somebody's"
        written_seconds = left.stat().st_mtime - LEFTOVER_SECONDS - 1
        os.utime(left, (written_seconds, written_seconds))
    if is_next_upload:
        blobs = LocalBlobs(tmp_path)
        await blobs.discard(await blobs.stage(_pieces(b"cd"), 3))
    else:
        LocalBlobs(tmp_path)
    assert _files_in(tmp_path) == []


async def test_an_upload_to_another_process_goes_on_while_one_starts(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    staged = await blobs.stage(_pieces(b"ab"), 3)
    LocalBlobs(tmp_path)
    await blobs.keep(staged)
    assert blobs.path(staged.sha256).read_bytes() == b"ab"


async def test_too_much_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="limit of 3 B"):
        await LocalBlobs(tmp_path).stage(_pieces(b"ab", b"cd"), 3)
    assert _files_in(tmp_path) == []


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"ab"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await LocalBlobs(tmp_path).stage(broken(), 100)
    assert _files_in(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63])
async def test_only_digests_name_blobs(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        LocalBlobs(tmp_path).path(name)


async def test_an_expired_file_does_not_exist_and_its_bytes_go(tmp_path: Path) -> None:
    clock = VirtualClock()
    settings = Settings(home=tmp_path)
    service = FileService(MemoryStore(clock), LocalBlobs(tmp_path / "files"), settings, clock)
    file = await service.create("lab", "a.jsonl", "fine-tune", _pieces(b"x"), 3600)
    clock.advance(3599)
    assert (await service.get("lab", file.name)).name == file.name
    clock.advance(1)
    with pytest.raises(NotFound):
        await service.get("lab", file.name)
    assert await service.list("lab") == []
    await service.create("lab", "b.jsonl", "fine-tune", _pieces(b"y"))
    assert [path.read_bytes() for path in _files_in(tmp_path / "files")] == [b"y"]
