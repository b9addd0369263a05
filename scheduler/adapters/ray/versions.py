"""A version of what an agent tells, for those who wait for something new."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from common.ids import new_id


class Versions:
    """``now`` is another one whenever ``note`` is given another state, and after a restart of the process."""

    def __init__(self) -> None:
        self._process = new_id("ver")
        self._number = 0
        self._state: object = None
        self._moved = asyncio.Event()

    @property
    def now(self) -> str:
        return f"{self._process}.{self._number}"

    def note(self, state: object) -> None:
        """This is how it is."""
        if state == self._state:
            return
        self._state = state
        self._number += 1
        self._moved.set()
        self._moved = asyncio.Event()

    async def moves(self, seconds: float) -> None:
        """Return with the next version, after so many seconds at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._moved.wait()
