"""A time limit that most requests never set: until then it costs next to nothing."""

from __future__ import annotations

import asyncio


class Limit:
    """As ``asyncio.timeout`` without a deadline, for a block of the task that calls ``begin`` and ``end``."""

    __slots__ = ("_before", "_expired", "_task", "_timer")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._before = 0
        self._expired = False

    def begin(self) -> None:
        """The block begins."""
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a limit is for a task")
        self._before = self._task.cancelling()

    def set(self, seconds: float) -> None:
        """The block ends after so many seconds from now; what was set before counts no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and not self._expired:
            self._timer = self._task.get_loop().call_later(seconds, self._expire)

    def end(self, kind: type[BaseException] | None) -> None:
        """The block has ended, with an error of that kind. Raises ``TimeoutError`` in place of the
        cancellation by which the limit ends a block."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task, self._task = self._task, None
        if not self._expired or task is None or task.uncancel() > self._before:
            return
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError

    def _expire(self) -> None:
        self._timer = None
        if self._task is not None:
            self._expired = True
            self._task.cancel()
