"""Files and folders that appear complete or not at all, also when the machine loses power.

A rename alone is not on disk: neither what the file holds nor the entry in its folder need be there after a
loss of power. Whoever names a file in the store, which is synced, has to put it in place like this before.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import NO_ROOM, Unavailable

NO_ROOM_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def is_no_room(error: BaseException) -> bool:
    """Whether the disk, a quota or a limit of the process leaves no room for what was to be written."""
    return isinstance(error, OSError) and error.errno in NO_ROOM_ERRORS


@contextmanager
def room_needed(message: str) -> Iterator[None]:
    """Within it, a full disk is ``Unavailable`` (``no_room``) with the message: it may have room again."""
    try:
        yield
    except OSError as error:
        if is_no_room(error):
            raise Unavailable(message, code=NO_ROOM) from error
        raise


def put_in_place(work: Path, target: Path) -> None:
    """Rename ``work`` (a file, or a folder with all that is in it) to ``target``, on disk when this returns.

    Both lie in one file system; a folder that is there already has to be empty. Folders above are made.
    """
    sync_tree(work)
    make_folder(target.parent)
    os.replace(work, target)
    _sync(target.parent)


def write_private(path: Path, text: str) -> None:
    """Write a file in one step, readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    put_in_place(temporary, path)


def make_folder(folder: Path) -> None:
    """The folder and those above it, on disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def sync_tree(path: Path) -> None:
    """Bring a file, or a folder with all that is in it, to disk."""
    if path.is_dir():
        for part in path.iterdir():
            if not part.is_symlink():
                sync_tree(part)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
