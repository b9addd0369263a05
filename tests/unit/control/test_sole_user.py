"""One control process on an SQLite file."""

import errno
import os
from pathlib import Path

import pytest

from common.errors import SetupError
from control import sole_user
from control.sole_user import take_file


def test_a_second_one_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    file = tmp_path / "new" / "state.db"
    with take_file(file):
        with pytest.raises(SetupError, match=rf"\(pid {os.getpid()}\)") as refused:
            take_file(file)
        assert refused.value.code == "home_in_use"
        assert (file.with_name("state.db-control").stat().st_mode & 0o777) == 0o600
    take_file(file).close()


def test_a_file_of_two_names_is_one_file(tmp_path: Path) -> None:
    file, link = tmp_path / "state.db", tmp_path / "other" / "state.db"
    link.parent.mkdir()
    link.symlink_to(file)
    with take_file(file), pytest.raises(SetupError, match="another control process"):
        take_file(link)


def test_a_link_in_place_of_the_lock_harms_nobody(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "state.db-control").symlink_to(precious)
    with pytest.raises(SetupError, match=r"state\.db-control"):
        take_file(tmp_path / "state.db")
    assert precious.read_text() == "kept"


def test_what_a_lock_file_holds_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "state.db-control").write_bytes(b"\xff\xfe" * 40)
    with take_file(tmp_path / "state.db"), pytest.raises(SetupError, match=rf"\(pid {os.getpid()}\)"):
        take_file(tmp_path / "state.db")


def test_a_lock_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.db-control").mkdir()
    with pytest.raises(SetupError, match=r"state\.db-control"):
        take_file(tmp_path / "state.db")


def test_a_disk_without_locks_is_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(sole_user.fcntl, "flock", refuse)
    with pytest.raises(SetupError, match="cannot be locked: No locks available"):
        take_file(tmp_path / "state.db")
