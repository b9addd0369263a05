"""Folders as archives: the same back, the same bytes, and nothing of who made a hostile one gets out."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import InvalidInput, TooLarge
from common.folder_archive import Bounds, files_below, open_below, pack, size_of, unpack

BOUNDS = Bounds(1_000_000, 100)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
TREES = st.dictionaries(NAMES, st.binary(max_size=300), max_size=6)
HOSTILE_NAMES = st.sampled_from(
    ("../out", "a/../../out", "/etc/x", "..", "a//../../x", "x" * 2000, "a/" * 80 + "b", "ok", "", ".", "a/b")
)
KINDS = (
    *(tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE),
    *(tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"z"),
)
TARGETS = st.sampled_from(("..", "/etc", "../..", "a", "a/..", "ok", "a/../..", ""))
ENTRIES = st.lists(st.tuples(HOSTILE_NAMES, st.sampled_from(KINDS), TARGETS), max_size=8)


def archived(entries: list[tuple[str, bytes, str]], content: bytes = b"evil") -> bytes:
    """An archive with these names, types and targets of links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, kind, target in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            entry.size = len(content) if kind in (tarfile.REGTYPE, tarfile.CONTTYPE) else 0
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def packed(folder: Path, paths: list[str], bounds: Bounds = BOUNDS, *, links: bool = False) -> bytes:
    buffer = io.BytesIO()
    pack(folder, paths, buffer, bounds, links=links)
    return buffer.getvalue()


def unpacked(content: bytes, folder: Path, bounds: Bounds = BOUNDS, *, links: bool = False) -> Path:
    archive = folder / "a.tar.gz"
    archive.write_bytes(content)
    unpack(archive, folder / "target", bounds, links=links)
    return folder / "target"


@given(files=TREES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_packed_comes_back(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("root")
    write(root, files)
    found = sorted(files_below(root, "", BOUNDS))
    assert found == sorted(files)
    content = packed(root, found)
    os.utime(root, (1, 1))
    assert packed(root, found[::-1]) == content
    target = unpacked(content, tmp_path_factory.mktemp("other"))
    assert {path.name: path.read_bytes() for path in target.iterdir()} == files


@given(entries=ENTRIES, links=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hostile_archive_reaches_nothing(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, bytes, str]], links: bool
) -> None:
    """It is refused, or all of it lies in the target, as files and folders, and links lead nowhere else."""
    folder = tmp_path_factory.mktemp("host")
    try:
        target = unpacked(archived(entries), folder, links=links)
    except InvalidInput:
        target = folder / "target"
    else:
        for path in target.rglob("*"):
            assert path.is_symlink() or path.is_file() or path.is_dir()
            assert os.path.realpath(path).startswith(os.path.realpath(target))
            assert links or not path.is_symlink()
    assert {path.name for path in folder.iterdir()} <= {"a.tar.gz", "target"}
    for path in folder.rglob("*"):
        assert path.is_symlink() or path.is_dir() or path.is_file()


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    entries = [("a", tarfile.SYMTYPE, ".."), ("a/x", tarfile.REGTYPE, "")]
    with pytest.raises(InvalidInput):
        unpacked(archived(entries), tmp_path, links=True)
    assert not (tmp_path / "x").exists()


def test_links_that_only_seem_to_stay_inside_are_refused(tmp_path: Path) -> None:
    """``d/l`` leads to the top, so ``d/l/..`` is above it, though its words stay inside."""
    entries = [("d/l", tarfile.SYMTYPE, ".."), ("m", tarfile.SYMTYPE, "d/l/..")]
    with pytest.raises(InvalidInput, match="leads out"):
        unpacked(archived(entries), tmp_path, links=True)


def test_a_bomb_ends_at_the_bounds(tmp_path: Path) -> None:
    content = archived([("zeros", tarfile.REGTYPE, "")], bytes(5_000_000))
    assert len(content) < 20_000
    with pytest.raises(TooLarge, match="more than"):
        unpacked(content, tmp_path)
    assert size_of(tmp_path / "target", Bounds(2_000_000, 10)) <= 1_100_000


def test_many_files_end_at_the_bounds(tmp_path: Path) -> None:
    content = archived([(f"f{n}", tarfile.REGTYPE, "") for n in range(101)])
    with pytest.raises(TooLarge, match="100 files"):
        unpacked(content, tmp_path)


CUT = archived([("a", tarfile.REGTYPE, "")], bytes(range(256)) * 99)[:150]


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", gzip.compress(b"no tar" * 500), CUT],
    ids=["empty", "text", "no tar", "cut short"],
)
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidInput, match="no tar archive"):
        unpacked(content, tmp_path)


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        unpacked(archived([("a", tarfile.REGTYPE, ""), ("a", tarfile.REGTYPE, "")]), tmp_path)


def test_rights_to_run_are_kept_and_no_others(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, {"run.sh": b"#!/bin/sh\n", "data": b"1"})
    (root / "run.sh").chmod(0o4777)
    target = unpacked(packed(root, ["run.sh", "data"]), tmp_path)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in target.iterdir()}
    assert modes == {"run.sh": 0o700, "data": 0o600}


def test_packing_follows_no_link(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(tmp_path, {"secret/key": b"s"})
    write(root, {"own": b"1"})
    (root / "file").symlink_to(tmp_path / "secret" / "key")
    (root / "folder").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "pipe")
    assert list(files_below(root, "", BOUNDS)) == ["own"]
    assert list(files_below(root, "folder", BOUNDS)) == []
    assert open_below(root, "folder/key") is None
    assert open_below(root, "file") is None
    assert open_below(root, "pipe") is None
    target = unpacked(packed(root, ["own", "file", "folder/key", "pipe", "gone"]), tmp_path)
    assert [path.name for path in target.iterdir()] == ["own"]


def test_links_inside_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, {"data/v1": b"1"})
    (root / "latest").symlink_to("data/v1")
    target = unpacked(packed(root, ["data/v1", "latest"], links=True), tmp_path, links=True)
    assert (target / "latest").read_bytes() == b"1"
    (root / "out").symlink_to("../elsewhere")
    with pytest.raises(InvalidInput, match="leads out"):
        packed(root, ["out"], links=True)


def test_packing_ends_at_the_bounds(tmp_path: Path) -> None:
    write(tmp_path, {"big": bytes(5000)})
    with pytest.raises(TooLarge):
        packed(tmp_path, ["big"], Bounds(4999, 10))
    for number in range(12):
        write(tmp_path, {f"n{number}": b""})
    with pytest.raises(TooLarge):
        list(files_below(tmp_path, "", Bounds(10**9, 10)))
