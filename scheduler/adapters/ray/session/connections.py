"""The agent's end of connections to ports of a cell: what waits, what may be sent, and what is refused.

No input or output: frames go in and come out. A caller names the offset of what it sends and of what it wants
next, so that a request whose answer got lost can be sent again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from common.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from scheduler.adapters.ray.session.frames import (
    WINDOW_BYTES,
    BrokenFrames,
    Frame,
    Kind,
    data_frames,
    numbered,
)

MAX_CONNECTIONS = 32
"""Of one rank at once."""
ABANDONED_SECONDS = 60.0
"""A connection of which nobody has asked anything for so long is closed."""
NO_ROOM_YET = "no_room_yet"
"""Code of the error for bytes that the other end cannot take now."""
LAST_NUMBER = 2**32 - 1


@dataclass(frozen=True)
class Piece:
    """Bytes of a connection from an offset on. ``ended``: none follow."""

    data: bytes
    ended: bool


@dataclass
class _Connection:
    asked_seconds: float
    opened: bool = False
    waiting: bytearray = field(default_factory=bytearray)
    read_bytes: int = 0
    """Offset of the first byte in ``waiting``."""
    sent_bytes: int = 0
    room_bytes: int = WINDOW_BYTES
    ended_there: bool = False
    ended_here: bool = False


class Connections:
    """All connections of one rank. ``frames`` are for the relay, and taken by whoever sends them."""

    def __init__(self) -> None:
        self._known: dict[int, _Connection] = {}
        self._next = 1
        self._frames: list[Frame] = []

    def take_frames(self) -> list[Frame]:
        """What is to be sent now; once."""
        frames, self._frames = self._frames, []
        return frames

    def open(self, port: int, now_seconds: float) -> int:
        """The number of a new connection to a port; whether anything listens shows later. Raises
        ``TooManyRequests``."""
        self.sweep(now_seconds)
        if len(self._known) >= MAX_CONNECTIONS:
            raise TooManyRequests(f"the job has {MAX_CONNECTIONS} connections already; close one of them")
        if self._next > LAST_NUMBER:
            raise TooManyRequests("the job has had all connections that it can have")
        number, self._next = self._next, self._next + 1
        self._known[number] = _Connection(now_seconds)
        self._frames.append(numbered(Kind.OPEN, number, port))
        return number

    def is_open(self, number: int) -> bool | None:
        """Whether the port has taken the connection; None where that is not known yet. Raises ``NotFound``
        where it refused, or the connection is gone."""
        return self._of(number).opened or None

    def write(self, number: int, offset: int, data: bytes, now_seconds: float, *, end: bool = False) -> None:
        """Send bytes on, but for those that were sent before. Raises ``NotFound``; ``Conflict`` for bytes
        after a gap or after the end; ``TooManyRequests`` where they would wait here."""
        known = self._asked(number, now_seconds)
        if offset > known.sent_bytes:
            raise Conflict(f"offset: {offset} leaves a gap after {known.sent_bytes}", param="offset")
        new = data[known.sent_bytes - offset :]
        if new and known.ended_here:
            raise Conflict("the connection was ended before these bytes")
        if not known.opened or len(new) > known.room_bytes:
            raise TooManyRequests("the port has not taken what was sent before", code=NO_ROOM_YET)
        known.sent_bytes += len(new)
        known.room_bytes -= len(new)
        self._frames += data_frames(number, new)
        if end and not known.ended_here:
            known.ended_here = True
            self._frames.append(Frame(Kind.END, number))

    def read(self, number: int, offset: int, limit_bytes: int, now_seconds: float) -> Piece:
        """What has come from the offset on; all before it is dropped. Raises ``NotFound``, and
        ``InvalidInput`` for an offset that was dropped or has not come."""
        known = self._asked(number, now_seconds)
        done = offset - known.read_bytes
        if not 0 <= done <= len(known.waiting):
            last = known.read_bytes + len(known.waiting)
            raise InvalidInput(f"offset: must be {known.read_bytes} to {last}, not {offset}", param="offset")
        if done:
            del known.waiting[:done]
            known.read_bytes = offset
            self._frames.append(numbered(Kind.ROOM, number, done))
        data = bytes(known.waiting[:limit_bytes])
        return Piece(data, known.ended_there and len(data) == len(known.waiting))

    def close(self, number: int) -> None:
        """Forget a connection; none is no matter."""
        if self._known.pop(number, None) is not None:
            self._frames.append(Frame(Kind.CLOSE, number))

    def sweep(self, now_seconds: float) -> bool:
        """Close what was abandoned. Returns whether there was any."""
        abandoned = [
            number
            for number, known in self._known.items()
            if now_seconds - known.asked_seconds >= ABANDONED_SECONDS
        ]
        for number in abandoned:
            self.close(number)
        return bool(abandoned)

    def take(self, frame: Frame) -> None:
        """What the relay says. Raises ``BrokenFrames`` where it sends more than it may: all ends then."""
        known = self._known.get(frame.connection)
        if known is None:
            return  # it was closed here meanwhile
        if frame.kind is Kind.OPENED:
            known.opened = True
        elif frame.kind is Kind.DATA:
            if known.ended_there or len(known.waiting) + len(frame.payload) > WINDOW_BYTES:
                raise BrokenFrames("more bytes came than may wait")
            known.waiting += frame.payload
        elif frame.kind is Kind.ROOM:
            if known.room_bytes + frame.number > WINDOW_BYTES:
                raise BrokenFrames("more bytes were taken than were sent")
            known.room_bytes += frame.number
        elif frame.kind is Kind.END:
            known.ended_there = True
        elif frame.kind is Kind.CLOSE:
            self._end(frame.connection, known)
        else:
            raise BrokenFrames("a cell opens no connections")

    def _end(self, number: int, known: _Connection) -> None:
        """What has come may still be read, and that it was all."""
        if known.opened:
            known.ended_there = known.ended_here = True
        else:
            del self._known[number]

    def _asked(self, number: int, now_seconds: float) -> _Connection:
        known = self._of(number)
        known.asked_seconds = now_seconds
        return known

    def _of(self, number: int) -> _Connection:
        known = self._known.get(number)
        if known is None:
            raise NotFound(f"there is no connection {number}: nothing listens on its port, or it was closed")
        return known
