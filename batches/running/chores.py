"""What is done for a batch beside the passes of the controller, so that it holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any


class Chores:
    """At most one task for each batch and sort of work, by its key."""

    def __init__(self) -> None:
        self._tasks: dict[tuple[str, str], asyncio.Task[Any]] = {}

    def begin(self, sort: str, batch: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Begin it, unless it is under way or what came of it was not asked for yet."""
        key = (sort, batch)
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(work())

    def is_begun(self, sort: str, batch: str) -> bool:
        """Whether it is under way, or has ended and was not asked for."""
        return (sort, batch) in self._tasks

    def take(self, sort: str, batch: str) -> Any:
        """What came of it, once; None while it is under way. Raises what ended it."""
        task = self._tasks.get((sort, batch))
        if task is None or not task.done():
            return None
        del self._tasks[sort, batch]
        return task.result()

    async def end(self, sort: str, batch: str) -> None:
        """Return when it is over: it is given up where it is under way."""
        task = self._tasks.pop((sort, batch), None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def end_others(self, batches: Collection[str]) -> None:
        """End all that is of other batches than these."""
        for sort, batch in [key for key in self._tasks if key[1] not in batches]:
            await self.end(sort, batch)
