"""Logs that processes write to as long as they run, kept within a size.

Whoever writes holds the file open, so a full log is not renamed: what is in it is copied to a file beside
it, the copy of before is dropped, and the log is emptied. It has to be open for appending. Bytes keep their
offset: the copy is called ``<log>.<offset at which the log goes on>``, so readers that follow miss nothing
and read nothing twice.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PIECE_BYTES = 1024**2


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
                self._copy(log, base, limit_bytes)
                log.truncate(0)
        except OSError:
            return False
        for _, path in earlier:
            with suppress(OSError):
                path.unlink()
        return True

    def _copy(self, log: IO[bytes], base: int, limit_bytes: int) -> None:
        draft = self.path.with_name(f"{self.path.name}.moving")
        size = os.fstat(log.fileno()).st_size
        log.seek(0 if size <= 2 * limit_bytes else size - limit_bytes)
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
                left = 2 * limit_bytes + PIECE_BYTES  # what is written meanwhile comes too, but not for ever
                while left > 0 and (piece := log.read(min(left, PIECE_BYTES))):
                    copy.write(piece)
                    left -= len(piece)
            draft.rename(self.path.with_name(f"{self.path.name}.{base + log.tell()}"))
        except OSError:
            draft.unlink(missing_ok=True)

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

    def files(self) -> list[Path]:
        """The log and what was moved out of it."""
        return [*(path for _, path in self._earlier()), self.path]

    def remove(self) -> None:
        """All of it. Raises ``OSError``."""
        for path in self.files():
            path.unlink(missing_ok=True)

    def _earlier(self) -> list[tuple[int, Path]]:
        """(offset at which the log goes on, file), the newest last."""
        prefix = f"{self.path.name}."
        found = [path for path in self.path.parent.glob(f"{prefix}*") if path.name[len(prefix) :].isdecimal()]
        return sorted((int(path.name[len(prefix) :]), path) for path in found)


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
