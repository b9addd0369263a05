"""Folders as one file: a tar archive, compressed with gzip, the same bytes for the same content.

Whoever unpacks one does not trust who made it: regular files and folders below the target, links that stay
inside where they are wanted, in number and size bounded while they are read; nothing else.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from common.errors import InvalidInput, TooLarge
from common.units import format_bytes
from common.vocabulary import shortened

MAX_PATH_CHARACTERS = 1024
MAX_DEPTH = 64
MAX_NAME_BYTES = 255
_LEVEL = 5
_CHUNK_BYTES = 256 * 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LEFT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Bounds:
    """How much a folder may hold."""

    max_bytes: int
    max_entries: int


class _Count:
    """What was met so far. Raises ``TooLarge`` beyond the bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.entries = 0
        self.bytes = 0

    def entry(self) -> None:
        self.entries += 1
        if self.entries > self._bounds.max_entries:
            raise TooLarge(f"the folder holds more than {self._bounds.max_entries} files and folders")

    def more(self, count: int) -> None:
        self.bytes += count
        if self.bytes > self._bounds.max_bytes:
            raise TooLarge(f"the folder holds more than {format_bytes(self._bounds.max_bytes)}")


def pack(root: Path, paths: Iterable[str], target: IO[bytes], bounds: Bounds, *, links: bool = False) -> int:
    """Write the regular files among ``paths`` (from ``root`` on) to ``target``; returns their number.

    Links are followed nowhere: with ``links`` those that stay inside are kept as links, else all are left
    out. Raises ``TooLarge`` beyond the bounds, ``InvalidInput`` for a link out of the folder.
    """
    count = _Count(bounds)
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=target, compresslevel=_LEVEL, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(set(paths)):
            if _add(archive, root, path, count, links=links):
                count.entry()
    return count.entries


def _add(archive: tarfile.TarFile, root: Path, path: str, count: _Count, *, links: bool) -> bool:
    entry = tarfile.TarInfo(path)
    if links and (root / path).is_symlink():
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(root / path)
        if not _leads_inside(root, path, entry.linkname):
            raise InvalidInput(f"{path}: is a link to {entry.linkname}, which leads out of the folder")
        archive.addfile(entry)
        return True
    opened = open_below(root, path)
    if opened is None:
        return False
    with opened as file:
        found = os.fstat(file.fileno())
        entry.size, entry.mode = found.st_size, 0o700 if found.st_mode & stat.S_IXUSR else 0o600
        count.more(entry.size)
        try:
            archive.addfile(entry, file)
        except OSError as error:
            raise InvalidInput(f"{path}: changed while it was read ({error})") from error
    return True


def open_below(root: Path, path: str) -> IO[bytes] | None:
    """The regular file at ``path`` below ``root``, through no link; None where there is no such file."""
    *folders, name = path.split("/")
    here = os.open(root, _LEFT | os.O_DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, _LEFT | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        found = os.open(name, _LEFT, dir_fd=here)
    except OSError:
        return None
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        return None
    return os.fdopen(found, "rb")


def files_below(root: Path, path: str, bounds: Bounds) -> Iterator[str]:
    """The regular files at ``path`` and below it, from ``root`` on, through no link and at most so many as
    the bounds say. Raises ``TooLarge``."""
    opened = open_below(root, path) if path else None
    if opened is not None:
        opened.close()
        yield path
        return
    if any((root / above).is_symlink() for above in _above(path)):
        return
    count = _Count(bounds)
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(root / folder):
            count.entry()
            below = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(below)
            elif entry.is_file(follow_symlinks=False):
                yield below


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def size_of(root: Path, bounds: Bounds) -> int:
    """The bytes that a folder takes on the disk, with all that is below it. Raises ``TooLarge`` beyond the
    bounds, without looking further."""
    count = _Count(bounds)
    waiting = [root]
    while waiting:
        for entry in _entries(waiting.pop()):
            count.entry()
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            else:
                try:
                    count.more(entry.stat(follow_symlinks=False).st_blocks * 512)
                except FileNotFoundError:
                    continue
    return count.bytes


def unpack(archive: Path, target: Path, bounds: Bounds, *, links: bool = False) -> int:
    """Make the new folder ``target`` with what the archive holds; returns the number of files.

    Raises ``InvalidInput`` for an archive that is none, or holds what leads out of the folder or is neither
    file nor folder (nor, with ``links``, a link); ``TooLarge`` beyond the bounds.
    """
    target.mkdir(mode=0o700, parents=True)
    count, later = _Count(bounds), {}
    try:
        with tarfile.open(archive, "r|gz", errorlevel=2) as opened:
            for entry in opened:
                count.entry()
                path = _checked(entry.name)
                if entry.issym() and links:
                    later[path] = entry.linkname
                elif path:
                    _unpack_one(opened, entry, target / path, count)
    except (tarfile.TarError, zlib.error, EOFError, OSError, UnicodeError, ValueError) as error:
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            raise InvalidInput(f"the archive holds one path twice: {shortened(str(error), 200)}") from error
        if isinstance(error, OSError) and not isinstance(error, tarfile.TarError | gzip.BadGzipFile):
            raise
        raise InvalidInput(f"is no tar archive compressed with gzip: {shortened(str(error), 200)}") from error
    for path, leads_to in later.items():
        _link(target, path, leads_to)
    _check_links(target, later)
    return count.entries


def _checked(name: str) -> str:
    """The path of an entry. Raises ``InvalidInput`` where it does not stay below the target."""
    shown = shortened(name, 200)
    if len(name) > MAX_PATH_CHARACTERS or name.count("/") > MAX_DEPTH:
        raise InvalidInput(f"{shown}: is too long a path")
    if name.startswith("/") or "\0" in name:
        raise InvalidInput(f"{shown}: is no path below the folder")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in parts):
        raise InvalidInput(f"{shown}: has a name of more than {MAX_NAME_BYTES} bytes")
    if ".." in parts:
        raise InvalidInput(f"{shown}: leads out of the folder")
    return "/".join(parts)


def _unpack_one(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path, count: _Count) -> None:
    """No link is there yet, so whatever lies above the path is a folder of ours."""
    if entry.isdir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    content = archive.extractfile(entry) if entry.isreg() and not entry.issparse() else None
    if content is None:
        raise InvalidInput(f"{shortened(entry.name, 200)}: is neither a file nor a folder")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, _NEW, 0o700 if entry.mode & stat.S_IXUSR else 0o600)
    with os.fdopen(descriptor, "wb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            count.more(len(chunk))
            file.write(chunk)


def _link(target: Path, path: str, leads_to: str) -> None:
    if not path or not leads_to or leads_to.startswith("/") or len(leads_to) > MAX_PATH_CHARACTERS:
        raise InvalidInput(f"{shortened(path, 200)}: is a link that leads out of the folder")
    place = target / path
    if any((target / above).is_symlink() for above in _above(path)[:-1]):
        raise InvalidInput(f"{shortened(path, 200)}: lies behind a link")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.symlink_to(leads_to)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{shortened(path, 200)}: is there twice, or no link can be made of it") from error


def _check_links(target: Path, links: Iterable[str]) -> None:
    """All links are there now, so where each leads is where it leads for good."""
    for path in links:
        if not _is_inside(os.path.realpath(target / path), target):
            raise InvalidInput(f"{shortened(path, 200)}: is a link that leads out of the folder")


def _leads_inside(root: Path, path: str, leads_to: str) -> bool:
    return not leads_to.startswith("/") and _is_inside(os.path.realpath(root / path), root)


def _is_inside(real: str, root: Path) -> bool:
    top = os.path.realpath(root)
    return real == top or real.startswith(f"{top}/")
