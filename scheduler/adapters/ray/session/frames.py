"""What an agent and the relay in a cell say to each other, over a socket pair that only the two have.

A frame is its kind, the number of a connection, the length of what follows, and so many bytes. Whoever runs
in the cell may write what it likes, so a frame says nothing that is believed beyond its own connection.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

MAX_PAYLOAD_BYTES = 16 * 1024
WINDOW_BYTES = 256 * 1024
"""So many bytes of one direction of one connection are under way that the other end has not taken."""
_HEAD = struct.Struct("!BIH")
_NUMBER = struct.Struct("!I")


class Kind(IntEnum):
    """``OPEN`` names a port and is answered by ``OPENED`` or ``CLOSE``; ``ROOM`` says how many bytes were
    taken; ``END`` that no more are sent; after ``CLOSE`` the number means nothing."""

    OPEN = 1
    OPENED = 2
    DATA = 3
    ROOM = 4
    END = 5
    CLOSE = 6


_LENGTHS = {Kind.OPEN: 4, Kind.OPENED: 0, Kind.ROOM: 4, Kind.END: 0, Kind.CLOSE: 0}


class BrokenFrames(ValueError):
    """The other end does not keep to the protocol."""


@dataclass(frozen=True)
class Frame:
    """One message about one connection."""

    kind: Kind
    connection: int
    payload: bytes = b""

    @property
    def number(self) -> int:
        """The port of an ``OPEN``, the bytes of a ``ROOM``."""
        found: int = _NUMBER.unpack(self.payload)[0]
        return found


def numbered(kind: Kind, connection: int, number: int) -> Frame:
    """A frame with a number in it."""
    return Frame(kind, connection, _NUMBER.pack(number))


def encode(frame: Frame) -> bytes:
    """The frame as bytes."""
    return _HEAD.pack(frame.kind, frame.connection, len(frame.payload)) + frame.payload


def data_frames(connection: int, data: bytes) -> list[Frame]:
    """The bytes in frames of the greatest length."""
    pieces = range(0, len(data), MAX_PAYLOAD_BYTES)
    return [Frame(Kind.DATA, connection, data[at : at + MAX_PAYLOAD_BYTES]) for at in pieces]


class Decoder:
    """Frames out of bytes that come in any pieces. Keeps less than one frame."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises ``BrokenFrames``."""
        self._held += data
        frames, at = [], 0
        while len(self._held) - at >= _HEAD.size:
            kind, connection, length = self._head(at)
            end = at + _HEAD.size + length
            if len(self._held) < end:
                break
            frames.append(Frame(kind, connection, bytes(self._held[at + _HEAD.size : end])))
            at = end
        del self._held[:at]
        return frames

    def _head(self, at: int) -> tuple[Kind, int, int]:
        number, connection, length = _HEAD.unpack_from(self._held, at)
        try:
            kind = Kind(number)
        except ValueError as error:
            raise BrokenFrames(f"there is no frame of kind {number}") from error
        if length > MAX_PAYLOAD_BYTES or length != _LENGTHS.get(kind, length):
            raise BrokenFrames(f"a frame of kind {kind.name} has no {length} bytes")
        return kind, connection, length
