"""The folder that a job is to begin with: what of it is sent, and that the same is sent once."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from common.clock import SYSTEM_CLOCK
from common.errors import InvalidInput, TooLarge
from common.folder_archive import MAX_DEPTH, MAX_PATH_CHARACTERS, Bounds, pack
from common.units import GIB, format_bytes

if TYPE_CHECKING:
    from common.client import Client

PURPOSE = "job-folder"
IGNORE_FILES = (".computilityignore", ".gitignore")
"""The first that is in the folder counts; both are written as Git's."""
UNLESS_SAID = ("__pycache__/", ".venv/", "venv/", "node_modules/", "*.pyc")
"""Left out where there is neither."""
ALWAYS = ".git"
BOUNDS = Bounds(4 * GIB, 100_000)
KEPT_SECONDS = 30 * 86_400
"""Of a folder that was sent: the longest that a File may say."""
MARGIN_MS = 3_600_000
"""One that goes within the hour is sent anew."""
_ODD = re.compile(r"[^a-z0-9]+")
_MAX_STEM = 40
_SHOWN = 5
_CHUNK_BYTES = 1024**2


def files_to_send(root: Path) -> list[str]:
    """The files and links of the folder, from it on, that no ignore file leaves out.

    Raises ``TooLarge`` naming the largest parts where that is more than a job may begin with, and
    ``InvalidInput`` for a part that cannot be read, or whose path is too long.
    """
    if root.resolve() in (Path.home(), Path("/")):
        raise InvalidInput(f"{root} is no folder of a job: name one with --folder", param="--folder")
    if not root.is_dir():
        raise InvalidInput(f"there is no folder {root}", param="--folder")
    sizes, found, total_bytes = Counter[str](), [], 0
    try:
        for path, size in _walk(root, ignored_by(root)):
            found.append(path)
            sizes[path.partition("/")[0]] += size
            total_bytes += size
            if len(found) > BOUNDS.max_entries or total_bytes > BOUNDS.max_bytes:
                raise TooLarge(f"{root} holds more than a job may begin with: {_largest(sizes)}; {ADVICE}")
    except OSError as error:
        raise InvalidInput(f"{error.filename}: {error.strerror}; {ADVICE}", param="--folder") from error
    return found


ADVICE = f"leave out what it does not need with {IGNORE_FILES[0]}, written like .gitignore"


def ignored_by(root: Path) -> Callable[[str], bool]:
    """Whether the ignore file of the folder leaves a path out; paths of folders end with a slash."""
    from pathspec import GitIgnoreSpec

    lines = list(UNLESS_SAID)
    for name in IGNORE_FILES:
        if (root / name).is_file():
            lines = (root / name).read_text(errors="replace").splitlines()
            break
    try:
        return GitIgnoreSpec.from_lines(lines).match_file
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}", param="--folder") from error


def _walk(root: Path, is_ignored: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
    """Paths and sizes. Raises ``OSError`` for what cannot be read: a job would miss it without a word."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{folder}{entry.name}"
                if entry.name == ALWAYS:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not is_ignored(f"{path}/"):
                        waiting.append(f"{path}/")
                elif (entry.is_file(follow_symlinks=False) or entry.is_symlink()) and not is_ignored(path):
                    _check_file(entry, path)
                    yield path, entry.stat(follow_symlinks=False).st_size


def _check_file(entry: os.DirEntry[str], path: str) -> None:
    if len(path) > MAX_PATH_CHARACTERS or path.count("/") > MAX_DEPTH:
        raise InvalidInput(f"{path}: is too long a path, or too deep; {ADVICE}", param="--folder")
    if not entry.is_symlink() and not os.access(entry.path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), entry.path)


def _largest(sizes: Counter[str]) -> str:
    return ", ".join(f"{name} {format_bytes(size)}" for name, size in sizes.most_common(_SHOWN))


def send(client: Client, root: Path, project: str, say: Callable[[str], None]) -> str:
    """The id of the File that holds the folder: one that control has already, or a new one."""
    paths = files_to_send(root)
    with tempfile.TemporaryFile() as archive:
        count, size = _packed(root, paths, archive)
        known = _known(client, project, _digest(archive))
        files = "1 file" if count == 1 else f"{count} files"
        if known is not None:
            say(f"{files} of {root}: control has them already")
            return known
        say(f"sending {files} of {root}, {format_bytes(size)} packed")
        archive.seek(0)
        try:
            made = client.upload_file(f"{stem_of(root)}.tar.gz", archive, PURPOSE, project, KEPT_SECONDS)
        except TooLarge as error:
            raise TooLarge(f"{error.message}; {ADVICE}", error.code, error.param) from error
        return str(made["id"])


def _packed(root: Path, paths: list[str], archive: IO[bytes]) -> tuple[int, int]:
    """How many files, and the bytes of the archive."""
    try:
        count = pack(root, paths, archive, BOUNDS, links=True)
    except InvalidInput as error:
        raise InvalidInput(f"{error.message}; {ADVICE}", param="--folder") from error
    except OSError as error:
        raise InvalidInput(f"{root} cannot be packed: {error.strerror}", param="--folder") from error
    if count < len(paths):
        raise InvalidInput(f"{root} changed while it was packed; try again", param="--folder")
    return count, archive.tell()


def stem_of(root: Path) -> str:
    """The folder's name as a part of other names."""
    return _ODD.sub("-", root.resolve().name.lower()).strip("-")[:_MAX_STEM].strip("-") or "job"


def _digest(archive: IO[bytes]) -> str:
    archive.seek(0)
    state = hashlib.sha256()
    while chunk := archive.read(_CHUNK_BYTES):
        state.update(chunk)
    return state.hexdigest()


def _known(client: Client, project: str, sha256: str) -> str | None:
    until_ms = SYSTEM_CLOCK.now_ms() + MARGIN_MS
    for file in client.list("files", project):
        spec: dict[str, Any] = file["spec"]
        stays = spec.get("expiresMs") is None or spec["expiresMs"] > until_ms
        if spec["sha256"] == sha256 and spec["purpose"] == PURPOSE and stays:
            return str(file["metadata"]["name"])
    return None
