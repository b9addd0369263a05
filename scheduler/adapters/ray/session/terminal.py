"""The agent's end of a pseudo-terminal: what a rank prints goes to its log, what is typed goes to the rank.

A thread of its own reads and writes, so that neither a slow disk nor a rank that prints without end keeps the
agent from its other work.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from common.errors import Conflict, TooManyRequests
from scheduler.adapters.ray.session.connections import NO_ROOM_YET

OUTPUT_BYTES_PER_SECOND = 4 * 1024**2
"""A rank that prints more waits for its terminal."""
TURN_SECONDS = 0.005
"""Between two reads at least: one that prints byte by byte keeps the agent no busier."""
MAX_WRITERS = 64
JOIN_SECONDS = 0.5
_READ_BYTES = 64 * 1024


class Terminal:
    """``rank_end`` is for the rank's standard input, output and error; ``begin`` once it has them. ``moved``
    is called from another thread when there is something new in the log, or nothing more comes."""

    def __init__(self, log: Path, moved: Callable[[], None]) -> None:
        self._log, self._moved = log, moved
        self._end, self.rank_end = os.openpty()
        os.set_blocking(self._end, False)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._pending = b""
        self._numbers: dict[str, int] = {}
        self._closing = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """The rank has its end, or will never have it: let go of that here."""
        os.close(self.rank_end)
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._thread.start()

    def type(self, data: bytes, writer: str, number: int) -> None:
        """Input; what the writer has sent before is typed no second time. Raises ``TooManyRequests`` while
        what came before is not taken, ``Conflict`` where nobody takes it any more, or a number is left
        out: nobody goes on with what they have not begun."""
        with self._lock:
            if self._closing:
                raise Conflict("the terminal is closed: its job has ended")
            known = self._numbers.get(writer, 0)
            if number <= known:
                return
            if number > known + 1:
                raise Conflict(f"number: the next of this writer is {known + 1}", param="number")
            if self._pending:
                raise TooManyRequests("the job has not taken what was typed before", code=NO_ROOM_YET)
            self._pending = data
            self._numbers.pop(writer, None)
            self._numbers[writer] = number
            if len(self._numbers) > MAX_WRITERS:
                del self._numbers[next(iter(self._numbers))]
            os.eventfd_write(self._wake, 1)

    def resize(self, rows: int, columns: int) -> None:
        """The window has another size; the rank is told by SIGWINCH. Raises ``Conflict`` as ``type``."""
        with self._lock:
            if self._closing:
                raise Conflict("the terminal is closed: its job has ended")
            fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """After the rank's end: what it printed last is in the log then, unless the disk is slow."""
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
        with self._lock:
            if not self._closing:
                self._closing = True
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        try:
            while not self._closing and self._turn():
                pass
        finally:
            with self._lock:
                self._closing = True
                os.close(self._end)
                os.close(self._wake)
            self._moved()

    def _turn(self) -> bool:
        """Wait for something to do and do it; False where nobody has the other end any more."""
        waiting = select.poll()
        waiting.register(self._wake, select.POLLIN)
        waiting.register(self._end, select.POLLIN | (select.POLLOUT if self._pending else 0))
        events = dict(waiting.poll())
        if self._wake in events:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        if events.get(self._end, 0) & select.POLLOUT:
            self._write()
        if events.get(self._end, 0) & ~select.POLLOUT:
            return self._read()
        return True

    def _write(self) -> None:
        with self._lock, suppress(OSError):
            self._pending = self._pending[os.write(self._end, self._pending) :]
        if not self._pending:
            self._moved()

    def _read(self) -> bool:
        data, is_held = self._printed()
        if data:
            with suppress(OSError), self._log.open("ab", buffering=0) as log:
                log.write(data)
            self._moved()
        if data and is_held:
            time.sleep(max(TURN_SECONDS, len(data) / OUTPUT_BYTES_PER_SECOND))
        return is_held

    def _printed(self) -> tuple[bytes, bool]:
        """What is there by now, and whether anybody has the other end still."""
        data = bytearray()
        while len(data) < _READ_BYTES:
            try:
                piece = os.read(self._end, _READ_BYTES - len(data))
            except BlockingIOError:
                break
            except OSError:  # EIO: the last process that had the other end has ended
                piece = b""
            if not piece:
                return bytes(data), False
            data += piece
        return bytes(data), True
