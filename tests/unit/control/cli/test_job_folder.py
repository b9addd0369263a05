"""What of a folder is sent with a job, and that the same is sent once."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.client import Client
from common.clock import SYSTEM_CLOCK
from common.errors import InvalidInput, TooLarge
from common.folder_archive import MAX_DEPTH, Bounds, unpack
from common.vocabulary import NAME_PATTERN
from control.cli.work import folder
from control.cli.work.folder import files_to_send, send, stem_of

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..", ".git", *folder.IGNORE_FILES)
)
HOUR_MS = 3_600_000


def write(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


class Files:
    """A control that keeps files."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []
        self.contents: list[bytes] = []
        self.said: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"items": self.kept})
        body = request.read()
        content = body[body.index(b"\x1f\x8b") : body.rindex(b"\r\n--")]
        self.contents.append(content)
        self.keep(f"file-{len(self.kept)}", content)
        return httpx.Response(200, json={"id": self.kept[-1]["metadata"]["name"]})

    def keep(self, name: str, content: bytes, *, left_ms: int | None = None) -> None:
        until = None if left_ms is None else SYSTEM_CLOCK.now_ms() + left_ms
        spec = {"sha256": hashlib.sha256(content).hexdigest(), "purpose": folder.PURPOSE, "expiresMs": until}
        self.kept.append({"metadata": {"name": name}, "spec": spec})

    def send(self, root: Path) -> str:
        with Client("http://control", "ck", transport=httpx.MockTransport(self)) as client:
            return send(client, root, "lab", self.said.append)


def test_what_the_ignore_file_names_stays_here(tmp_path: Path) -> None:
    root = write(
        tmp_path, "train.py", "data/big", "data/small.txt", "logs/a.log", ".git/config", "sub/.git/x"
    )
    (root / ".gitignore").write_text("train.py\n")
    (root / ".computilityignore").write_text("data/*\n!data/small.txt\n*.log\n")
    assert set(files_to_send(root)) == {".computilityignore", ".gitignore", "train.py", "data/small.txt"}


def test_without_one_what_is_never_meant_stays_here(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "__pycache__/a.pyc", ".venv/bin/python", "node_modules/x/y.js", "b.pyc")
    assert files_to_send(tmp_path) == ["a.py"]


@given(names=st.sets(NAMES, max_size=5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_name_that_a_file_can_have_arrives(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    root, control = tmp_path_factory.mktemp("root"), Files()
    (root / ".gitignore").write_text("")
    write(root, *names)
    control.send(root)
    archive = tmp_path_factory.mktemp("there") / "a"
    archive.write_bytes(control.contents[0])
    unpack(archive, archive.with_name("files"), Bounds(10**6, 100), links=True)
    assert {path.name for path in archive.with_name("files").iterdir()} == {*names, ".gitignore"}


def test_the_same_is_sent_once(tmp_path: Path) -> None:
    control = Files()
    root = write(tmp_path, "a", "b/c")
    first = control.send(root)
    os.utime(root / "a", (1, 1))
    assert control.send(root) == first
    assert len(control.contents) == 1
    (root / "a").write_text("changed")
    assert control.send(root) != first
    assert control.said[0].startswith("sending 2 files")
    assert "has them already" in control.said[1]


@pytest.mark.parametrize(("left_ms", "sent"), [(HOUR_MS // 2, 1), (2 * HOUR_MS, 0), (None, 0)])
def test_one_that_soon_goes_is_sent_anew(tmp_path: Path, left_ms: int | None, sent: int) -> None:
    root, known, control = write(tmp_path, "a"), Files(), Files()
    known.send(root)
    control.keep("file-old", known.contents[0], left_ms=left_ms)
    control.send(root)
    assert len(control.contents) == sent


def test_a_link_that_leads_out_is_refused_and_what_to_do_is_said(tmp_path: Path) -> None:
    root, control = write(tmp_path / "root", "a"), Files()
    (root / "inside").symlink_to("a")
    control.send(root)
    (root / "key").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match=r"key: is a link .* \.computilityignore"):
        control.send(root)
    assert len(control.contents) == 1


def test_pipes_and_sockets_are_left_out(tmp_path: Path) -> None:
    os.mkfifo(write(tmp_path, "a") / "pipe")
    assert files_to_send(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_said_and_not_left_out(tmp_path: Path) -> None:
    (write(tmp_path, "a") / "a").chmod(0)
    with pytest.raises(InvalidInput, match="Permission denied"):
        files_to_send(tmp_path)


def test_a_folder_as_deep_as_one_likes_is_refused_here(tmp_path: Path) -> None:
    write(tmp_path, "/".join(["d"] * MAX_DEPTH) + "/fits")
    assert len(files_to_send(tmp_path)) == 1
    write(tmp_path, "/".join(["d"] * (MAX_DEPTH + 1)) + "/deep")
    with pytest.raises(InvalidInput, match="too deep"):
        files_to_send(tmp_path)


def test_too_much_is_refused_naming_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "BOUNDS", Bounds(1000, 10))
    write(tmp_path, "train.py")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w").write_bytes(bytes(5000))
    with pytest.raises(TooLarge, match=r"weights 4\.9 KiB.*\.computilityignore"):
        files_to_send(tmp_path)
    (tmp_path / "weights" / "w").unlink()
    write(tmp_path, *(f"n/{number}" for number in range(11)))
    with pytest.raises(TooLarge):
        files_to_send(tmp_path)


@pytest.mark.parametrize("wrong", ["/", "~", "gone", "file"])
def test_what_is_no_folder_of_a_job_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("HOME", str(write(tmp_path, "file", "home/a") / "home"))
    root = {"~": tmp_path / "home"}.get(wrong, tmp_path / wrong)
    with pytest.raises(InvalidInput, match="folder"):
        files_to_send(root)


@given(name=NAMES)
@settings(deadline=None)
def test_a_folder_of_any_name_names_its_job(name: str) -> None:
    stem = stem_of(Path("/somewhere") / name)
    assert len(stem) <= 40
    assert re.fullmatch(NAME_PATTERN, f"{stem}-abcde")
