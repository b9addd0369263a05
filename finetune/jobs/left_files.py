"""Files that a worker leaves in its folder, for control to read.

Whoever takes a worker over is shut in, and writes its folder: no link of it may lead control to what the
worker itself cannot see, and nothing in it may hold control up. So only regular files are opened, by no link.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from common.errors import ComputilityError

MAX_COPIED_BYTES = 64 * 1024**3
"""Of one adapter: more than any has, less than fills a disk unnoticed."""
MAX_COPIED_FILES = 64
_NOT_FOLLOWED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def open_left(path: Path, folder: int | None = None) -> Iterator[IO[bytes]]:
    """The file, in the open ``folder`` where one is given.

    Raises ``FileNotFoundError`` also where what is there is no regular file.
    """
    try:
        descriptor = os.open(path, _NOT_FOLLOWED, dir_fd=folder)
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(f"{path} is no file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def copy_left(source: Path, target: Path, root: Path | None = None) -> None:
    """Copy the regular files of a folder, not those below it, to the new folder ``target``. ``root``: the
    folder above it from which on a worker may have written; no folder on the way is a link then.

    Raises ``FileNotFoundError`` where there is no such folder, ``ComputilityError`` (``adapter_damaged``)
    where there is more in it than an adapter has.
    """
    try:
        folder = _open_folder(root or source, source)
    except OSError as error:
        raise FileNotFoundError(f"{source} cannot be read: {error.strerror}") from error
    try:
        target.mkdir()
        left_bytes = MAX_COPIED_BYTES
        for number, name in enumerate(_names(folder)):
            with open_left(Path(name), folder) as file:
                left_bytes -= os.fstat(file.fileno()).st_size
                if left_bytes < 0 or number >= MAX_COPIED_FILES:
                    raise ComputilityError(
                        f"the adapter at {source} is larger than an adapter can be", code="adapter_damaged"
                    )
                with (target / name).open("wb") as copy:
                    shutil.copyfileobj(file, copy)
    finally:
        os.close(folder)


def _open_folder(root: Path, source: Path) -> int:
    """``source``, step by step from ``root`` on. Raises ``OSError``."""
    folder = os.open(root, _NOT_FOLLOWED | os.O_DIRECTORY)
    for name in source.relative_to(root).parts:
        try:
            below = os.open(name, _NOT_FOLLOWED | os.O_DIRECTORY, dir_fd=folder)
        finally:
            os.close(folder)
        folder = below
    return folder


def _names(folder: int) -> Iterator[str]:
    """Of the regular files."""
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if entry.is_file(follow_symlinks=False))
