"""The home is closed to other users, also one that existed before; no folder of others is taken from them."""

from pathlib import Path

import pytest

from common.errors import SetupError
from common.private import at_home, make_file, make_home
from common.settings import load_settings
from common.sources import launch_source, local_path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_home_is_made_private_with_all_that_is_in_it(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home")
    assert {mode(settings.folder(name)) for name in ("run", "logs", "spool")} == {0o700}
    assert mode(settings.home) == 0o700


@pytest.mark.parametrize("content", [(), ("state.db",), ("models", "notes.txt")])
def test_an_open_home_of_before_is_closed(tmp_path: Path, content: tuple[str, ...]) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "run").mkdir(mode=0o755)
    home.chmod(0o755)
    for name in content:
        (home / name).touch()
    folder = load_settings(home=home).folder("run")
    assert (mode(home), mode(folder)) == (0o700, 0o700)


def test_a_folder_for_everybody_is_no_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(SetupError, match=r"for everybody.*--home"):
        make_home(tmp_path)
    assert mode(tmp_path) == 0o1777


def test_a_folder_with_other_files_is_not_closed_unasked(tmp_path: Path) -> None:
    (tmp_path / "index.html").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(SetupError, match=f"chmod 700 {tmp_path}"):
        make_home(tmp_path)
    assert mode(tmp_path) == 0o755
    tmp_path.chmod(0o700)
    make_home(tmp_path)


def test_a_file_is_closed_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    make_file(path)
    assert mode(path) == 0o600
    path.write_text("kept")
    path.chmod(0o644)
    make_file(path)
    assert (mode(path), path.read_text()) == (0o600, "kept")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=f"cannot write {tmp_path}"):
        make_file(tmp_path)


@pytest.mark.parametrize("source", ["~no-such-user/m", "~\u16a2", "~", "~/m"])
def test_a_path_of_an_unknown_user_is_a_path_like_any_other(source: str, tmp_path: Path) -> None:
    known = source in ("~", "~/m")
    found = local_path(source, tmp_path)
    assert found == at_home(source) == Path(launch_source(source))
    assert (found == Path(source)) is not known
