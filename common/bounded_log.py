"""Logs that processes write to as long as they run, kept within a size.

Whoever writes holds the file open, so a full log is not renamed: what is in it is copied to a file beside
it, the copy of before is dropped, and what was copied is taken out of the log: by whole blocks where the file
system can (ext4, XFS), so that what is written meanwhile stays; else the log is emptied, and what is written
in that moment is lost. It has to be open for appending. Bytes keep their offset: the copy is called
``<log>.<offset at which the log goes on>``, so readers that follow miss nothing and read nothing twice.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PIECE_BYTES = 1024**2
COLLAPSE_RANGE = 0x08
"""FALLOC_FL_COLLAPSE_RANGE of fallocate(2): takes whole blocks out of a file as if they had never been."""


def times_of(log: Path) -> Path:
    """Where it is noted when a log grew (``common.log_times``)."""
    return log.with_name(f"{log.name}.times")


@dataclass(frozen=True)
class BoundedLog:
    """The log at ``path``, and what was moved out of it."""

    path: Path

    def is_full(self, limit_bytes: int) -> bool:
        """Whether it holds more than that (0 = no limit)."""
        return bool(limit_bytes) and _size(self.path) > limit_bytes

    def keep_within(self, limit_bytes: int) -> bool:
        """Move what is in the log out of it where that is more than ``limit_bytes`` (0 = no limit); True when
        it was moved. Of a flood that is over twice the limit by now, the end is kept.

        Where there is no room for a copy, the log is emptied all the same: a full disk stops more than logs.
        """
        try:
            if not self.is_full(limit_bytes):
                return False
            earlier = self._earlier()
            base = earlier[-1][0] if earlier else 0
            with self.path.open("r+b") as log:
                if not self._take_out(log, base, limit_bytes):
                    self._empty(log, base, limit_bytes)
        except OSError:
            return False
        for _, path in earlier:
            with suppress(OSError):
                path.unlink()
        return True

    def _take_out(self, log: IO[bytes], base: int, limit_bytes: int) -> bool:
        """Whether all whole blocks before the last byte were moved."""
        start, state = _start(log, limit_bytes), os.fstat(log.fileno())
        blocks = (state.st_size - 1) // state.st_blksize * state.st_blksize
        copy = self._copy(log, base, start, blocks - start) if start < blocks else None
        if copy is None or _collapsed(log, blocks):
            return copy is not None
        copy.unlink(missing_ok=True)
        return False

    def _empty(self, log: IO[bytes], base: int, limit_bytes: int) -> None:
        """What is written meanwhile is copied too, but not for ever."""
        self._copy(log, base, _start(log, limit_bytes), 2 * limit_bytes + PIECE_BYTES)
        log.truncate(0)

    def _copy(self, log: IO[bytes], base: int, start: int, most_bytes: int) -> Path | None:
        """The copy of so much of the log; None where there is no room for it."""
        draft = self.path.with_name(f"{self.path.name}.moving")
        log.seek(start)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
                left = most_bytes
                while left > 0 and (piece := log.read(min(left, PIECE_BYTES))):
                    copy.write(piece)
                    left -= len(piece)
            return draft.rename(self.path.with_name(f"{self.path.name}.{base + log.tell()}"))
        except OSError:
            draft.unlink(missing_ok=True)
            return None

    def read(self, offset_bytes: int, limit_bytes: int) -> tuple[bytes, int, int]:
        """At most ``limit_bytes`` from the offset (negative: from the end), the offset after them, and the
        end. It begins at the first byte that is still there. Raises ``FileNotFoundError`` where there is no
        log."""
        with self.path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            earlier = self._earlier()
            base, before = earlier[-1] if earlier else (0, None)
            end = base + size
            first = base - _size(before) if before else base
            wanted = end + offset_bytes if offset_bytes < 0 else offset_bytes
            start = min(max(first, wanted), end)
            data = b""
            if before is not None and start < base:
                data = _piece(before, start - first, limit_bytes)
            if start + len(data) >= base:
                log.seek(start + len(data) - base)
                data += log.read(limit_bytes - len(data))
        return data, start + len(data), end

    def tail(self, limit_bytes: int) -> str:
        """The last whole lines within the limit. Raises ``OSError`` where the log cannot be read."""
        data, end, _ = self.read(-limit_bytes, limit_bytes)
        if end > limit_bytes and b"\n" in data:
            data = data.split(b"\n", 1)[1]
        return data.decode(errors="replace").rstrip()

    def end(self) -> int:
        """The offset at which it goes on. Raises ``OSError`` where there is no log."""
        earlier = self._earlier()
        return (earlier[-1][0] if earlier else 0) + self.path.stat().st_size

    def files(self) -> list[Path]:
        """The log, what was moved out of it, and when it grew."""
        times = times_of(self.path)
        return [*(path for _, path in self._earlier()), self.path, *([times] if times.exists() else ())]

    def remove(self) -> None:
        """All of it. Raises ``OSError``."""
        for path in self.files():
            path.unlink(missing_ok=True)

    def _earlier(self) -> list[tuple[int, Path]]:
        """(offset at which the log goes on, file), the newest last."""
        prefix = f"{self.path.name}."
        found = [path for path in self.path.parent.glob(f"{prefix}*") if path.name[len(prefix) :].isdecimal()]
        return sorted((int(path.name[len(prefix) :]), path) for path in found)


def _start(log: IO[bytes], limit_bytes: int) -> int:
    """From where on the log is kept: the whole of it, or its end where it is far over the limit."""
    size = os.fstat(log.fileno()).st_size
    return 0 if size <= 2 * limit_bytes else size - limit_bytes


def _collapsed(log: IO[bytes], size_bytes: int) -> bool:
    """Take the first bytes out of a file; False where its file system cannot."""
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
    except (OSError, AttributeError):
        return False
    offset, length = ctypes.c_int64(0), ctypes.c_int64(size_bytes)
    return bool(fallocate(log.fileno(), COLLAPSE_RANGE, offset, length) == 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _piece(path: Path, offset_bytes: int, limit_bytes: int) -> bytes:
    """Empty where another move has dropped the file just now."""
    try:
        with path.open("rb") as file:
            file.seek(offset_bytes)
            return file.read(limit_bytes)
    except OSError:
        return b""
