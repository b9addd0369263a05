"""The agent's end of the socket pair to the relay in a cell."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

from scheduler.adapters.ray.session.connections import Connections
from scheduler.adapters.ray.session.frames import BrokenFrames, Decoder, encode

BYTES_PER_SECOND = 32 * 1024**2
"""Whoever writes more in a cell waits: the agent has other work."""
BUSY_SHARE = 0.05
"""Of a processor, for what one cell writes: frames without content are many in few bytes."""
MAX_UNSENT_BYTES = 12 * 1024**2
"""More than all windows together: a relay that leaves so much unread is not one of ours any more."""
_READ_BYTES = 64 * 1024


class PortsEnd:
    """``rank_end`` is what the relay inherits; ``begin`` once it has. ``moved`` is called when something has
    come."""

    def __init__(self, moved: Callable[[], None]) -> None:
        self._ours, self.rank_end = socket.socketpair()
        self._ours.setblocking(False)
        self._moved = moved
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._resumes: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.connections = Connections()
        self.closed = False

    def begin(self) -> None:
        """The relay has its end, or will never have it: let go of that here."""
        self.rank_end.close()
        if self.closed:
            return
        self._loop.add_reader(self._ours, self._read)

    def flush(self) -> None:
        """Send what is to be sent, now or when the relay takes it."""
        frames = self.connections.take_frames()
        if self.closed:
            return
        for frame in frames:
            self._unsent += encode(frame)
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self.close()
            return
        self._write()

    def sweep(self, now_seconds: float) -> None:
        """Close connections that were abandoned."""
        if not self.closed and self.connections.sweep(now_seconds):
            self.flush()

    def close(self) -> None:
        """No connection goes on."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._ours)
        self._loop.remove_writer(self._ours)
        if self._resumes is not None:
            self._resumes.cancel()
        self._ours.close()
        self._unsent.clear()
        self.connections = Connections()
        self._moved()

    def _write(self) -> None:
        try:
            del self._unsent[: self._ours.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._unsent:
            self._loop.add_writer(self._ours, self._write)
        else:
            self._loop.remove_writer(self._ours)

    def _read(self) -> None:
        data, began = b"", time.thread_time()
        try:
            data = self._ours.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            pass  # it is gone, as at its end
        try:
            for frame in self._decoder.feed(data):
                self.connections.take(frame)
        except BrokenFrames:
            data = b""
        if not data:
            self.close()
            return
        self._moved()
        self._loop.remove_reader(self._ours)
        busy_seconds = time.thread_time() - began
        pause_seconds = max(len(data) / BYTES_PER_SECOND, busy_seconds * (1 / BUSY_SHARE - 1))
        self._resumes = self._loop.call_later(pause_seconds, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._ours, self._read)
