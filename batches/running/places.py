"""Places of lines under way, which tasks wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batches.core.slots import FairSlots


class Places:
    """So many at a time; projects have equal shares."""

    def __init__(self, places: int) -> None:
        self._slots = FairSlots(places)

    @asynccontextmanager
    async def one(self, project: str) -> AsyncIterator[None]:
        """A block within which a line of the project is under way."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._slots.ask(project, turn):
            try:
                await asyncio.wait((turn,))  # which leaves the turn as it is where its task is cancelled
            except asyncio.CancelledError:
                if turn.done():
                    self._end(project)
                else:
                    self._slots.leave(project, turn)
                raise
        try:
            yield
        finally:
            self._end(project)

    def _end(self, project: str) -> None:
        following = self._slots.end(project)
        if isinstance(following, asyncio.Future):
            following.set_result(None)
