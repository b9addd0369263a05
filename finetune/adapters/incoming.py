"""Files that are still arriving: a folder for each process that makes some, locked for as long as it lives.

The lock ends with its process, however that ended, so what a killed one left is known at once for what it is,
and what another process is writing is left alone. Where a file system cannot lock a folder, age tells.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from common.clock import SYSTEM_CLOCK

LEFTOVER_SECONDS = 3600.0
"""Where the lock tells nothing: what nobody has written to for so long was left by a process that is gone."""


class Incoming:
    """The folder ``<folder>/<of a process>/<file>``. All methods do blocking file I/O and may be called by
    several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = threading.Lock()
        self._own: Path | None = None
        self._handle = -1

    def temporary(self) -> Path:
        """A fresh, empty file."""
        with self._guard:
            if self._own is None or not self._own.is_dir():
                self._own = self._locked_folder()
            handle, name = tempfile.mkstemp(dir=self._own)
        os.close(handle)
        return Path(name)

    def remove_leftovers(self) -> None:
        """Delete what processes left that are gone."""
        for path in self.folder.glob("*"):
            if path == self._own:
                continue
            if path.is_dir():
                self._remove_unless_locked(path)
            else:
                _remove_if_old(path)

    def close(self) -> None:
        """Give the folder up; what is still in it are leftovers."""
        with self._guard:
            if self._handle >= 0:
                os.close(self._handle)
            self._own, self._handle = None, -1

    def _locked_folder(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = Path(tempfile.mkdtemp(dir=self.folder))
            with suppress(FileNotFoundError):  # another process took it for a leftover before it was locked
                handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                with suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_EX)
                if path.is_dir():
                    if self._handle >= 0:
                        os.close(self._handle)
                    self._handle = handle
                    return path
                os.close(handle)

    def _remove_unless_locked(self, path: Path) -> None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:
            for file in path.glob("*"):
                _remove_if_old(file)
        else:
            for file in path.glob("*"):
                file.unlink(missing_ok=True)
            with suppress(OSError):
                path.rmdir()
        finally:
            os.close(handle)


def _remove_if_old(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.stat().st_mtime < SYSTEM_CLOCK.now_ms() / 1000 - LEFTOVER_SECONDS:
            path.unlink()
