"""Usage events on disk, durable before a response ends.

A folder of append-only segments, one JSON event per line. Events that come while a write is under way share
the next one and its fsync (group commit). A sealed segment never changes again; the shipper deletes it once
control has taken all of it. After a crash the last line may be torn: it was never confirmed to anybody.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from billing.core.events import UsageEvent
from common.errors import ComputilityError, InvalidInput, SetupError, Unavailable
from common.telemetry import get_logger

SEGMENT_BYTES = 4 * 1024**2
_SUFFIX = ".jsonl"
_EVENT_ID = re.compile(rb'^\{"id":"([^"]*)".*\n', re.MULTILINE)
_log = get_logger("gateway.spool")


_Waiting = tuple[bytes, asyncio.Future[None], Callable[[], None]]
"""A line, who waits for it, and what is to be called once it is durable."""


class Spool:
    """The spool of one gateway. One process at a time: the folder is locked while open."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._lock = lock_folder(folder)
        if self._lock is None:
            raise SetupError(f"another gateway uses the spool {folder}")
        self._segment_bytes = segment_bytes
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._waiting: list[_Waiting] = []
        self._batch: list[_Waiting] = []
        self._idle: asyncio.Future[None] | None = None
        self._file: int | None = None
        self._path: Path | None = None
        self._size = 0
        self._next = 1 + max((int(path.stem) for path in segments(folder)), default=0)
        self.commits = 0

    async def append(self, event: UsageEvent, on_durable: Callable[[], None] = lambda: None) -> None:
        """Return when the event is on disk. Raises ``Unavailable`` when the disk refuses it.

        ``on_durable`` is called once it is there, also when nobody waits any more, and before it is shipped.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        line = f"{event.text()}\n".encode()
        self._waiting.append((line, done, on_durable))
        if self._idle is None:
            self._idle = loop.create_future()
            loop.call_soon(self._hand_over, loop)  # what else comes in this turn of the loop shares the write
        await done

    async def seal(self) -> None:
        """Close the segment being written, so that it can be shipped: with all that came before, also that of
        requests that have ended without waiting for it."""
        if self._idle is not None:
            written = asyncio.get_running_loop().create_future()
            self._waiting.append((b"", written, lambda: None))
            with suppress(Unavailable):
                await written
        await asyncio.get_running_loop().run_in_executor(self._writer, self._seal)

    def sealed(self) -> list[Path]:
        """The segments that will not change any more, oldest first."""
        return [path for path in segments(self.folder) if path != self._path]

    async def close(self) -> None:
        """Write what waits, seal, and unlock."""
        if self._idle is not None:
            await asyncio.wait([self._idle])
        await self.seal()
        self._writer.shutdown()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """What waits is written as one."""
        self._batch, self._waiting = self._waiting, []
        self._writer.submit(self._commit, b"".join([line for line, _, _ in self._batch]), loop)

    def _commit(self, lines: bytes, loop: asyncio.AbstractEventLoop) -> None:
        """In the writer's thread."""
        failure: OSError | None = None
        try:
            if lines:
                self._write(lines)
        except OSError as error:
            failure = error
        loop.call_soon_threadsafe(self._committed, failure, loop)

    def _committed(self, failure: OSError | None, loop: asyncio.AbstractEventLoop) -> None:
        """The batch is on disk, or was refused."""
        error: ComputilityError | None = None
        if failure is not None:
            _log.error("usage cannot be written", folder=str(self.folder), error=str(failure))
            error = Unavailable("usage cannot be recorded right now; try again")
        else:
            self.commits += 1
        for _, done, on_durable in self._batch:
            if error is None:
                on_durable()
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        if self._waiting:
            self._hand_over(loop)
        elif self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _write(self, lines: bytes) -> None:
        if self._size >= self._segment_bytes:
            self._seal()
        if self._file is None:
            self._open()
        assert self._file is not None
        try:
            written = 0
            while written < len(lines):
                written += os.write(self._file, lines[written:])
            os.fdatasync(self._file)
        except OSError:
            self._take_back()
            raise
        self._size += len(lines)

    def _open(self) -> None:
        path = self.folder / f"{self._next:012d}{_SUFFIX}"
        self._path, self._size = path, 0  # named before it exists: `sealed` must never see it as closed
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._next += 1
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _take_back(self) -> None:
        """After a failed write: cut off what was not confirmed, and leave the segment."""
        assert self._file is not None
        try:
            os.ftruncate(self._file, self._size)
        except OSError as error:
            _log.error("a segment keeps a torn end", segment=str(self._path), error=str(error))
        self._seal()

    def _seal(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._path, self._size = None, None, 0


def lock_folder(folder: Path) -> int | None:
    """An open, locked file of the folder, or None when another process holds it."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def segments(folder: Path) -> list[Path]:
    """The segment files of a spool folder, oldest first."""
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())


@dataclass(frozen=True)
class Segment:
    """What a segment file holds: its events as JSON objects, and (line, why) of what is no event."""

    events: list[dict[str, Any]]
    unreadable: list[tuple[str, str]]


def read_segment(path: Path) -> Segment:
    """Read a segment. A torn last line is left out: it was never confirmed."""
    content = path.read_bytes()
    *lines, tail = content.split(b"\n")
    if tail:
        _log.warning("torn last line in a segment", segment=str(path), size_bytes=len(tail))
    events, unreadable = [], []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(UsageEvent.from_dict(json.loads(line)).to_dict())
        except (ValueError, TypeError, RecursionError, InvalidInput) as error:
            _log.error("bad line in a segment", segment=str(path), line=number, error=str(error))
            unreadable.append((line.decode("utf-8", "backslashreplace"), str(error)))
    return Segment(events, unreadable)


def event_ids(path: Path) -> set[str]:
    """The ids that whole lines of a segment begin with, found without reading the events."""
    return {match[1].decode(errors="replace") for match in _EVENT_ID.finditer(path.read_bytes())}
