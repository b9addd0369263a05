"""What a person asks of the session of a rank: its terminal, and ports in its cell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Typed:
    """Input for a rank's terminal. What the same writer has sent by a number is typed once."""

    data: bytes
    writer: str
    number: int


@dataclass(frozen=True)
class Resized:
    """The window in which the terminal is shown has another size."""

    rows: int
    columns: int


@dataclass(frozen=True)
class OutputFrom:
    """What the rank prints from an offset of its log on, as soon as there is some."""

    offset_bytes: int


@dataclass(frozen=True)
class Opened:
    """A connection to a port in the rank's cell."""

    port: int


@dataclass(frozen=True)
class Sent:
    """Bytes for a connection, from an offset on; with ``end`` none follow."""

    connection: int
    offset_bytes: int
    data: bytes
    end: bool = False


@dataclass(frozen=True)
class ReceivedFrom:
    """What comes of a connection from an offset on, as soon as there is some; all before it was received."""

    connection: int
    offset_bytes: int


@dataclass(frozen=True)
class Closed:
    """A connection is not needed any more."""

    connection: int


SessionAsk = Typed | Resized | OutputFrom | Opened | Sent | ReceivedFrom | Closed


@dataclass(frozen=True)
class SessionAnswer:
    """``number``: of the connection that was opened, or the offset after ``data``. ``ended``: all came."""

    data: bytes = b""
    number: int = 0
    ended: bool = False
