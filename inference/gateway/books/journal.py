"""What requests in flight have used, where it survives the death of the process.

One memory-mapped file of fixed slots, a slot for each request: the event without its numbers,
written once, then the running counts. Nothing is synced: the kernel's page cache outlives ``kill -9``, though
not a loss of power. Counts are written to two places in turn, so that a torn write leaves the counts before
it, which are those of the last bytes that the client was sent. Every part carries a checksum; that of the
counts depends on the event, so that what a former request left in the slot is never taken for its own.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from billing.core.events import UsageEvent
from common.errors import InvalidInput
from inference.core.usage import TokenCounts

JOURNAL_FILE = "in-flight.journal"
LOST_OUTCOME = "gateway_lost"
SLOT_BYTES = 4096
FIRST_SLOTS = 64

_HEAD = struct.Struct("<II")  # size and checksum of the event; a size of 0 = a free slot
_COUNTS = struct.Struct("<QQQQQ")  # sequence (from 1), prompt, cached, completion, time in ms
_SUM = struct.Struct("<I")
_COUNTS_AT = (16, 64)
_EVENT_AT = 112
_FREE = bytes(_HEAD.size)
_NO_COUNTS = bytes(_EVENT_AT - _COUNTS_AT[0])
_MOST = 2**64 - 1


class Journal:
    """The journal of one gateway, empty when made; a journal that a dead process left is read before.

    Raises ``OSError`` when the disk has no room for it.
    """

    def __init__(self, path: Path, slots: int = FIRST_SLOTS) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._map: mmap.mmap | None = None
        self._free: list[int] = []
        self.slots = 0
        self._grow(slots)

    def open(self, event: UsageEvent) -> Entry:
        """A slot for the request that ``event`` is about; its numbers and its end do not matter yet.

        Raises ``InvalidInput`` when the event is too long for a slot, ``OSError`` when the disk is full.
        """
        skeleton = f"{event.beginning}}}".encode()
        if len(skeleton) > SLOT_BYTES - _EVENT_AT:
            raise InvalidInput(f"the names of event {event.id} are too long for the journal")
        if not self._free:
            self._grow(self.slots)
        start, checksum = self._free.pop() * SLOT_BYTES, crc32(skeleton)
        self.write(start + _COUNTS_AT[0], _NO_COUNTS + skeleton)
        return Entry(self, start, checksum, _HEAD.pack(len(skeleton), checksum))

    def release(self, start: int) -> None:
        self.write(start, _FREE)
        self._free.append(start // SLOT_BYTES)

    def write(self, at: int, data: bytes) -> None:
        """Put ``data`` where the process's death does not reach it. A closed journal stays as it is."""
        if self._map is not None:
            self._map[at : at + len(data)] = data

    def sync(self, at: int) -> None:
        """Bring the slot that begins at ``at`` to disk. Raises ``OSError``."""
        if self._map is not None:
            page = at - at % mmap.ALLOCATIONGRANULARITY
            self._map.flush(page, at + SLOT_BYTES - page)

    def close(self) -> None:
        """Close the file. It goes, too, unless it holds what is still to be billed."""
        if self._map is None:
            return
        self._map.close()
        self._map = None
        os.close(self._file)
        if len(self._free) == self.slots:
            self._path.unlink(missing_ok=True)

    def _grow(self, slots: int) -> None:
        """More slots, their blocks allocated: a write to memory could not be told that the disk is full."""
        size = (self.slots + slots) * SLOT_BYTES
        os.posix_fallocate(self._file, 0, size)
        if self._map is None:
            self._map = mmap.mmap(self._file, size)
        else:
            self._map.resize(size)
        self._free.extend(reversed(range(self.slots, self.slots + slots)))
        self.slots += slots


class Entry:
    """The slot of one request. It is there for a successor from the first ``note`` to ``free``."""

    def __init__(self, journal: Journal, start: int, checksum: int, head: bytes) -> None:
        self._journal = journal
        self._start = start
        self._checksum = checksum
        self._head = head
        self._sequence = 0

    def note(self, counts: TokenCounts, now_ms: int) -> None:
        """Write what the request has used by now; when this returns, it outlives the process."""
        self._sequence += 1
        numbers = [counts.prompt, counts.cached, counts.completion, now_ms]
        if max(numbers) > _MOST:
            numbers = [min(number, _MOST) for number in numbers]
        body = _COUNTS.pack(self._sequence, *numbers)
        at = self._start + _COUNTS_AT[self._sequence & 1]
        self._journal.write(at, body + _SUM.pack(crc32(body, self._checksum)))
        if self._sequence == 1:
            self._journal.write(self._start, self._head)

    def sync(self) -> None:
        """Bring what was noted to disk: it survives a loss of power, too. Raises ``OSError``."""
        self._journal.sync(self._start)

    def free(self) -> None:
        """Give the slot back: the event is durable elsewhere, or there is none."""
        self._journal.release(self._start)


@dataclass(frozen=True)
class Left:
    """What a journal holds of requests that were cut off: events, how many slots make no sense, and (content,
    why) of what is whole but no event, such as counts that no request can have."""

    events: list[UsageEvent]
    torn: int
    odd: list[tuple[dict[str, Any], str]] = field(default_factory=list)


def read_journal(path: Path) -> Left:
    """The requests in a journal that nobody writes any more; none where there is no journal.

    An event ends when its counts were last written, so that every reading gives the same event.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Left([], 0)
    left, torn = Left([], 0), 0
    for start in range(0, len(content) - SLOT_BYTES + 1, SLOT_BYTES):
        slot = content[start : start + SLOT_BYTES]
        if slot.startswith(_FREE):
            continue
        found = _content_of(slot)
        if found is None:
            torn += 1
            continue
        try:
            left.events.append(UsageEvent.from_dict(found))
        except InvalidInput as error:
            left.odd.append((found, error.message))
    return replace(left, torn=torn)


def _content_of(slot: bytes) -> dict[str, Any] | None:
    """What the slot says, as an event's JSON; None when it is torn."""
    size, checksum = _HEAD.unpack_from(slot)
    skeleton = slot[_EVENT_AT : _EVENT_AT + size]
    counts = max((_counts_in(slot, at, checksum) for at in _COUNTS_AT), key=lambda c: c[0])
    sequence, prompt, cached, completion, noted_ms = counts
    if not sequence or crc32(skeleton) != checksum:
        return None
    try:
        content: dict[str, Any] = json.loads(skeleton)
        return {
            **content,
            "outcome": LOST_OUTCOME,
            "ended_ms": max(noted_ms, content["started_ms"]),
            "quantities": TokenCounts(prompt, cached, completion).quantities(),
        }
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _counts_in(slot: bytes, at: int, checksum: int) -> tuple[int, ...]:
    """One of the two places; all zeros when it holds nothing whole of this event."""
    body = slot[at : at + _COUNTS.size]
    (found,) = _SUM.unpack_from(slot, at + _COUNTS.size)
    return _COUNTS.unpack(body) if found == crc32(body, checksum) else (0,) * 5
