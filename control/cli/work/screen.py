"""One's own terminal and that of a job, joined: what is typed here goes there, what it shows comes here."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from common.client_sessions import NO_ROOM_YET, PIECE_BYTES, JobSession
from common.errors import ComputilityError, Conflict, NotFound, TooManyRequests, Unavailable

LEAVE = b"\x1d"
"""Ctrl-]: leaves the job to itself."""
END_OF_INPUT = b"\x04"
LOOK_SECONDS = 0.1
AWAY_SECONDS = 120.0
TRY_AGAIN_SECONDS = 1.0
MAX_AHEAD_BYTES = 64 * 1024
"""So much may be typed that is not sent yet; then nothing more is read."""
_ENDS = (signal.SIGTERM, signal.SIGHUP)
_READ_BYTES = 16 * 1024


def before_leave(data: bytes) -> tuple[bytes, bool]:
    """What was typed before Ctrl-], and whether that was typed."""
    typed, leave, _ = data.partition(LEAVE)
    return typed, bool(leave)


class _Patience:
    """With control being away."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since_seconds: float | None = None

    def is_over(self) -> bool:
        """It could not be reached; whether that is so for too long now."""
        if self._since_seconds is None:
            self._since_seconds = self._clock()
        return self._clock() - self._since_seconds > AWAY_SECONDS

    def reached(self) -> None:
        self._since_seconds = None


class _Ahead:
    """What was typed and is not sent yet. What may have been sent already is sent again as it was."""

    def __init__(self, session: JobSession, patience: _Patience) -> None:
        self._session, self._patience = session, patience
        self._piece, self._rest, self._last = b"", b"", b"\n"

    @property
    def is_full(self) -> bool:
        return len(self._rest) >= MAX_AHEAD_BYTES

    def add(self, data: bytes) -> None:
        self._rest += data
        self._last = data[-1:] or self._last

    def end(self) -> None:
        """Nothing more is typed. Ctrl-D ends the input only where a line begins."""
        self.add(END_OF_INPUT if self._last in b"\r\n" else b"\n" + END_OF_INPUT)

    def send(self) -> bool:
        """Whether all is sent; if not it is tried again later. Raises ``Unavailable`` where control is away
        for too long."""
        while self._piece or self._rest:
            if not self._piece:
                self._piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
            try:
                self._session.type(self._piece)
            except TooManyRequests as error:
                if error.code != NO_ROOM_YET:
                    raise
                return False
            except Unavailable:
                if self._patience.is_over():
                    raise
                return False
            self._patience.reached()
            self._piece = b""
        return True


class Screen:
    """``read`` waits so many seconds for what is typed: None = nothing yet, empty = nothing any more.
    ``size``: rows and columns, where they have changed since it was asked last. Control may be away for
    ``AWAY_SECONDS``; what is typed meanwhile is sent then."""

    def __init__(
        self,
        session: JobSession,
        *,
        read: Callable[[float], bytes | None],
        show: Callable[[bytes], None],
        size: Callable[[], tuple[int, int] | None],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._read, self._show, self._size = session, read, show, size
        self._sleep, self._clock = sleep, clock
        self._over = threading.Event()
        self._is_closed = False
        self._trouble: ComputilityError | None = None

    def join(self) -> bool:
        """Until the job's process ends (True), or who sits here leaves it, or looks no more (False). Raises
        what keeps them apart."""
        showing = threading.Thread(target=self._show_all, daemon=True)
        showing.start()
        try:
            left = self._type_all()
        except (NotFound, Conflict):  # it has just ended
            left = False
        if left:
            return False
        showing.join()
        if self._trouble is not None:
            raise self._trouble
        return not self._is_closed

    def _type_all(self) -> bool:
        """Whether who sits here has left."""
        ahead, window, ended = _Ahead(self._session, _Patience(self._clock)), None, False
        while not self._over.is_set():
            window = self._unsized(self._size() or window)
            data = None
            if ended or ahead.is_full:
                self._sleep(LOOK_SECONDS)
            else:
                data = self._read(LOOK_SECONDS)
            typed, leaves = before_leave(data or b"")
            ahead.add(typed)
            if data == b"":
                ended = True
                ahead.end()
            is_sent = ahead.send()
            if leaves:
                return True
            if is_sent and ended:
                return False
        return False

    def _unsized(self, window: tuple[int, int] | None) -> tuple[int, int] | None:
        """The window whose size is to be told again, as control was away."""
        if window is None:
            return None
        try:
            self._session.resize(*window)
        except Unavailable:
            return window
        return None

    def _show_all(self) -> None:
        offset, patience = 0, _Patience(self._clock)
        try:
            while True:
                try:
                    piece = self._session.output(offset)
                except Unavailable:
                    if patience.is_over():
                        raise
                    self._sleep(TRY_AGAIN_SECONDS)
                    continue
                patience.reached()
                offset = piece.next_offset
                self._show(piece.data)
                if piece.ended:
                    return
                if not piece.data:
                    self._sleep(LOOK_SECONDS)
        except (NotFound, Conflict):
            return  # that attempt is over, and forgotten
        except ComputilityError as error:
            self._trouble = error
        except OSError:  # a pipe that nobody reads any more
            self._is_closed = True
        finally:
            self._over.set()


def read_here(seconds: float) -> bytes | None:
    """What is typed on standard input."""
    if not select.select([0], [], [], seconds)[0]:
        return None
    return os.read(0, _READ_BYTES)


def show_here(data: bytes) -> None:
    """As it is: a terminal is for who trusts what runs in it."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def raw_terminal() -> Iterator[Callable[[], tuple[int, int] | None]]:
    """Every key is the job's for as long; gives the window's size where it has changed. Afterwards the
    terminal is as before, also where a signal ends this process. Where standard input is no terminal nothing
    is done to it."""
    if not sys.stdin.isatty():
        yield lambda: None
        return
    changed = [True]

    def note(number: int, frame: FrameType | None) -> None:
        changed[0] = True

    def size() -> tuple[int, int] | None:
        if not changed[0]:
            return None
        changed[0] = False
        found = shutil.get_terminal_size()
        return min(max(found.lines, 1), 1000), min(max(found.columns, 1), 1000)

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = termios.tcgetattr(0)
    handlers = {number: signal.signal(number, end) for number in _ENDS}
    handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, note)
    try:
        tty.setraw(0)
        yield size
    finally:
        with suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
