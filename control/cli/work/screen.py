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

from common.client_sessions import JobSession
from common.errors import ComputilityError, Conflict, NotFound, Unavailable

LEAVE = b"\x1d"
"""Ctrl-]: leaves the job to itself."""
END_OF_INPUT = b"\x04"
LOOK_SECONDS = 0.1
AWAY_SECONDS = 120.0
TRY_AGAIN_SECONDS = 1.0
_READ_BYTES = 16 * 1024


def before_leave(data: bytes) -> tuple[bytes, bool]:
    """What was typed before Ctrl-], and whether that was typed."""
    typed, leave, _ = data.partition(LEAVE)
    return typed, bool(leave)


class Screen:
    """``read`` waits so many seconds for what is typed: None = nothing yet, empty = nothing any more.
    ``size``: rows and columns, where they have changed since it was asked last."""

    def __init__(
        self,
        session: JobSession,
        *,
        read: Callable[[float], bytes | None],
        show: Callable[[bytes], None],
        size: Callable[[], tuple[int, int] | None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session, self._read, self._show, self._size = session, read, show, size
        self._sleep = sleep
        self._over = threading.Event()
        self._trouble: ComputilityError | None = None

    def join(self) -> bool:
        """Until the job's process ends (True), or who sits here leaves it (False). Raises what keeps them
        apart."""
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
        return True

    def _type_all(self) -> bool:
        """Whether who sits here has left."""
        while not self._over.is_set():
            size = self._size()
            if size is not None:
                self._session.resize(*size)
            data = self._read(LOOK_SECONDS)
            if data is None:
                continue
            typed, leaves = before_leave(data)
            if typed or not data:
                self._session.type(typed or END_OF_INPUT)
            if leaves:
                return True
            if not data:
                return False
        return False

    def _show_all(self) -> None:
        offset, away_seconds = 0, 0.0
        try:
            while True:
                try:
                    piece = self._session.output(offset)
                except Unavailable:
                    away_seconds += TRY_AGAIN_SECONDS
                    if away_seconds > AWAY_SECONDS:
                        raise
                    self._sleep(TRY_AGAIN_SECONDS)
                    continue
                offset, away_seconds = piece.next_offset, 0.0
                self._show(piece.data)
                if piece.ended:
                    return
                if not piece.data:
                    self._sleep(LOOK_SECONDS)
        except (NotFound, Conflict):
            return  # that attempt is over, and forgotten
        except ComputilityError as error:
            self._trouble = error
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
    """Every key is the job's for as long; gives the window's size where it has changed. Where standard input
    is no terminal nothing is done to it."""
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

    before, handler = termios.tcgetattr(0), signal.signal(signal.SIGWINCH, note)
    try:
        tty.setraw(0)
        yield size
    finally:
        with suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)
