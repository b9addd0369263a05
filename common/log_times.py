"""When a log grew: a few bytes beside a log whose lines hold no times.

Whoever looks after the log notes now and then how far it is. A line is as old as the first note that is
beyond its beginning, so its time is late by the pause between two notes at most. The file is bounded: where
it is full, notes of long ago are thinned, and what they say gets coarser. A note is 16 bytes; half a one, as
a process leaves that is killed while it writes, counts as none.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.bounded_log import times_of

MOST_MARKS = 4096
"""So many notes are kept: 64 KiB."""
_RECORD = struct.Struct(">QQ")
_END_MS = 253_402_300_800_000
"""The year 10000, which no clock shows."""


class Mark(NamedTuple):
    """At ``time_ms`` the log reached to ``offset``."""

    time_ms: int
    offset: int


class LogTimes:
    """Of the log at a path. One process writes, any may read."""

    def __init__(self, log: Path) -> None:
        self.path = times_of(log)

    def mark(self, time_ms: int, offset: int) -> None:
        """Note that the log reaches to ``offset``. A clock that was set back stands still meanwhile. Raises
        ``OSError``."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            whole = os.fstat(file).st_size // _RECORD.size * _RECORD.size
            if whole:
                last = Mark(*_RECORD.unpack(os.pread(file, _RECORD.size, whole - _RECORD.size)))
                if offset <= last.offset:
                    return
                time_ms = max(time_ms, last.time_ms)
            os.pwrite(file, _RECORD.pack(time_ms, offset), whole)
        finally:
            os.close(file)
        if whole // _RECORD.size >= MOST_MARKS:
            self._thin()

    def _thin(self) -> None:
        """Keep the newest quarter, and of the rest every second one."""
        marks = self.marks()
        newest = max(0, len(marks) - MOST_MARKS // 4)
        kept = (*marks[:newest:2], *marks[newest:])
        draft = self.path.with_name(f"{self.path.name}.moving")
        draft.write_bytes(b"".join(_RECORD.pack(*mark) for mark in kept))
        draft.replace(self.path)

    def marks(self) -> tuple[Mark, ...]:
        """All of them, in their order; none where none were kept. What cannot be a note is left out."""
        try:
            with self.path.open("rb") as file:
                content = file.read(2 * MOST_MARKS * _RECORD.size)
        except OSError:
            return ()
        found: list[Mark] = []
        for time_ms, offset in _RECORD.iter_unpack(content[: len(content) // _RECORD.size * _RECORD.size]):
            last = found[-1] if found else Mark(0, -1)
            if offset > last.offset and last.time_ms <= time_ms < _END_MS:
                found.append(Mark(time_ms, offset))
        return tuple(found)


def covering(marks: Sequence[Mark], start: int, end: int) -> tuple[Mark, ...]:
    """Those that say when the bytes from ``start`` to ``end`` were written, and the last one where none is
    beyond these."""
    offsets = [mark.offset for mark in marks]
    first = min(bisect_right(offsets, start), max(0, len(marks) - 1))
    return tuple(marks[first : bisect_left(offsets, end) + 1])


def time_of(marks: Sequence[Mark], offset: int) -> int | None:
    """When the byte at ``offset`` had been written; None where the log has grown since the last mark."""
    place = bisect_right(marks, offset, key=lambda mark: mark.offset)
    return marks[place].time_ms if place < len(marks) else None


def offset_at(marks: Sequence[Mark], time_ms: int) -> int:
    """From where on the log was written after ``time_ms``: never later than that, and earlier by what lies
    between two marks at most."""
    place = bisect_right(marks, time_ms, key=lambda mark: mark.time_ms)
    return marks[place - 1].offset if place else 0
