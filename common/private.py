"""Folders and files of a user, and those that other users of the machine cannot look into."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from common.errors import SetupError

OTHERS = stat.S_IRWXG | stat.S_IRWXO
PRIVATE_UMASK = 0o077
OURS = frozenset(
    (
        "adapters",
        "cli.json",
        "computility.yaml",
        "files",
        "jobs",
        "logs",
        "models",
        "run",
        "spool",
        "state.db",
        "work",
    )
)
"""Names by which a folder is known to be a home of Computility."""


def at_home(path: str | Path) -> Path:
    """A path with ``~`` at its beginning made that of the user; as it is where there is no such user."""
    return Path(os.path.expanduser(path))


def is_open(path: Path) -> bool:
    """Whether others than the owner may do anything with it. Raises ``OSError`` where it is not there."""
    return bool(path.stat().st_mode & OTHERS)


def make_home(home: Path) -> None:
    """The folder, closed to others also where it existed before.

    Raises ``SetupError`` where that would take a folder from others: one that everybody writes to, or one
    that is open and holds something, and nothing of ours.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not is_open(home):
        return
    if home.stat().st_mode & stat.S_ISVTX or home == home.parent:
        raise SetupError(f"{home} is for everybody: choose another folder with --home or COMPUTILITY_HOME")
    names = {path.name for path in home.iterdir()}
    if names and not names & OURS:
        raise SetupError(
            f"{home} holds other files and is open to other users: choose a folder of its own with --home or "
            f"COMPUTILITY_HOME, or close it with `chmod 700 {home}`"
        )
    try:
        home.chmod(0o700)
    except PermissionError as error:
        raise SetupError(
            f"{home} is open to other users and belongs to another: run as its owner, or have it closed with "
            f"`chmod 700 {home}`"
        ) from error


def make_folder_in_home(folder: Path) -> None:
    """The folder, closed to others also where it existed before and is this user's."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if is_open(folder) and folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)


def make_file(path: Path) -> None:
    """The file, closed to others also where it existed before. Raises ``SetupError``."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if is_open(path):
            path.chmod(0o600)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror}; it has to be this user's") from error
