"""Uploads cost what they bring, not what others have; bytes and files are there together or not at all."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.errors import NotFound, Unavailable
from common.resources import File, Metadata
from common.resources.people import ProjectLimits
from common.resources.tuning import FileSpec
from common.settings import Settings
from common.store.memory import MemoryStore
from common.store.port import Limits
from finetune.adapters.blobs import LocalBlobs
from finetune.files.file_index import FileIndex
from finetune.files.file_service import FileService

PROJECTS, NAMES, DIGESTS = ("lab", "search"), ("a", "b", "c"), ("0" * 64, "1" * 64)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _file(
    name: str, project: str, digest: str = DIGESTS[0], size: int = 1, ends_ms: int | None = None
) -> File:
    spec = FileSpec(filename="a", purpose="batch", size_bytes=size, sha256=digest, expires_ms=ends_ms)
    return File(metadata=Metadata(name=name, project=project), spec=spec)


class Lab:
    """Files of a project in a folder, under one control process after the other."""

    def __init__(self, home: Path) -> None:
        self.home, self.clock = home, VirtualClock()
        self.store = MemoryStore(self.clock)
        self.start()

    def start(self) -> None:
        settings = Settings(home=self.home)
        self.files = FileService(self.store, LocalBlobs(self.home / "files"), settings, self.clock)

    async def upload(self, content: bytes, project: str = "lab") -> File:
        return await self.files.create(project, "a.jsonl", "fine-tune", _pieces(content))

    def kept(self) -> list[bytes]:
        """The bytes, marks of what is unsettled left out."""
        found = (path for path in (self.home / "files").rglob("*") if path.parent.name != "unsettled")
        return [path.read_bytes() for path in found if path.is_file()]

    def marks(self) -> list[Path]:
        return list((self.home / "files" / "unsettled").glob("*"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


operation = st.tuples(
    st.sampled_from(["put", "delete", "look"]),
    st.sampled_from(PROJECTS),
    st.sampled_from(NAMES),
    st.sampled_from(DIGESTS),
    st.integers(1, 9),
    st.none() | st.integers(1, 9),
)


@settings(max_examples=60)
@given(operations=st.lists(operation, max_size=30), history=st.sampled_from([1, 20_000]))
async def test_whoever_writes_the_index_says_what_a_look_at_all_files_would(
    operations: list[tuple[str, str, str, str, int, int | None]], history: int
) -> None:
    store = MemoryStore(VirtualClock(), Limits(history=history))
    index = FileIndex(store)
    for what, project, name, digest, number, end in (
        (*operations, ("look", *operations[0][1:])) if operations else ()
    ):
        if what == "put":
            await store.apply(_file(name, project, digest, number, end))
        elif what == "delete" and await store.find(File, name, project) is not None:
            await store.delete(File, name, project)
        elif what == "look":
            files = await store.list(File)
            for each in PROJECTS:
                own = [file.spec.size_bytes for file in files if file.project == each]
                held = await index.held(each)
                assert (held.count, held.bytes) == (len(own), sum(own))
            for each in DIGESTS:
                assert await index.is_used(each) == any(file.spec.sha256 == each for file in files)
            over = {
                (f.project, f.name) for f in files if f.spec.expires_ms is not None and f.spec.expires_ms <= 5
            }
            assert {(key.project, key.name) for key in await index.expired(5)} == over


async def test_an_upload_asks_for_nobodys_files(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.upload(b"x")
    asked: list[Any] = []

    async def listed(kind: type[Any], **options: Any) -> list[Any]:
        asked.append((kind, options))
        return []

    monkeypatch.setattr(lab.store, "list", listed)
    await lab.files.check_room("lab", ProjectLimits(max_files=9, max_file_bytes=9), 1)
    file = await lab.upload(b"y")
    await lab.files.remove_expired()
    await lab.files._remove("lab", file.name)
    assert asked == []


async def test_files_that_share_their_bytes_go_one_by_one(lab: Lab) -> None:
    one, other = await lab.upload(b"x"), await lab.upload(b"x", "search")
    await lab.files._remove("lab", one.name)
    assert lab.kept() == [b"x"]
    await lab.files._remove("search", other.name)
    assert lab.kept() == []


class Killed(BaseException):
    """The process is dead."""


@pytest.mark.parametrize(
    "error", [Killed(), Unavailable("the database is away")], ids=["killed", "database away"]
)
@pytest.mark.parametrize("written", [False, True])
async def test_an_upload_that_was_cut_off_leaves_a_whole_file_or_no_bytes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: BaseException, written: bool
) -> None:
    apply = lab.store.apply

    async def dying(file: Any, **options: Any) -> Any:
        if written:
            await apply(file, **options)
        raise error

    with monkeypatch.context() as doomed:
        doomed.setattr(lab.store, "apply", dying)
        with pytest.raises(type(error)):
            await lab.upload(b"x")
    if isinstance(error, Killed):
        lab.start()
        await lab.files.tidy()
    else:
        await lab.files.remove_expired()
    assert lab.marks() == []
    files = await lab.files.list("lab")
    assert (len(files), lab.kept()) == ((1, [b"x"]) if written else (0, []))
    assert all(lab.files.content_path(file).read_bytes() == b"x" for file in files)


@pytest.mark.parametrize("written", [False, True])
async def test_a_deletion_that_was_cut_off_leaves_a_whole_file_or_no_bytes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    file = await lab.upload(b"x")
    delete = lab.store.delete

    async def dying(*arguments: Any, **options: Any) -> Any:
        if written:
            await delete(*arguments, **options)
        raise Killed

    with monkeypatch.context() as doomed:
        doomed.setattr(lab.store, "delete", dying)
        with pytest.raises(Killed):
            await lab.files.delete("lab", file.name)
    lab.start()
    await lab.files.tidy()
    assert lab.kept() == ([] if written else [b"x"])
    if written:
        with pytest.raises(NotFound):
            await lab.files.get("lab", file.name)


@pytest.mark.parametrize("moment", ["unsettle", "stage", "keep"])
async def test_a_full_disk_refuses_an_upload_clearly_and_lets_files_be_deleted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    kept = await lab.upload(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        target = {"unsettle": "unsettle", "stage": "temporary", "keep": "adopt"}[moment]
        broken.setattr(f"finetune.adapters.blob_folder.BlobFolder.{target}", full)
        with pytest.raises(Unavailable, match="no room on the disk") as refused:
            await lab.upload(b"new")
        assert refused.value.code == "no_room"
        await lab.files.delete("lab", kept.name)
    assert (lab.kept(), await lab.files.list("lab")) == ([], [])
    await lab.upload(b"new")
    assert (lab.kept(), lab.marks()) == ([b"new"], [])
