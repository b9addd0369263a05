"""Who applies at the same time applies together: control takes many documents for the price of a few."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from common.errors import ComputilityError, InvalidInput, Unavailable

MOST = 50
"""Documents in one request."""
_INDEX = re.compile(r"\[(\d{1,4})\]")
Document = dict[str, Any]
Send = Callable[[Sequence[Mapping[str, Any]], str | None], Awaitable[list[Document]]]
_Waiting = tuple[Mapping[str, Any], "asyncio.Future[Document]"]


class Together:
    """``send`` applies documents with the rights of a role, all or none. A document that is refused holds up
    no other: the others go without it, and it goes alone, so that it is told its own error."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: dict[str | None, list[_Waiting]] = {}
        self._tasks: dict[str | None, asyncio.Task[None]] = {}

    async def apply(self, document: Mapping[str, Any], acts_as: str | None) -> Document:
        """What control answers for the document."""
        future: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(acts_as, []).append((document, future))
        if acts_as not in self._tasks:
            self._tasks[acts_as] = asyncio.create_task(self._serve(acts_as))
        return await future

    async def _serve(self, acts_as: str | None) -> None:
        """Request after request while somebody waits."""
        await asyncio.sleep(0)  # who comes at the same time is in the first one
        while self._waiting.get(acts_as):
            waiting = self._waiting[acts_as]
            batch, self._waiting[acts_as] = waiting[:MOST], waiting[MOST:]
            await self._apply([one for one in batch if not one[1].done()], acts_as)
        self._waiting.pop(acts_as, None)
        del self._tasks[acts_as]

    async def _apply(self, batch: list[_Waiting], acts_as: str | None) -> None:
        while batch:
            try:
                answers = await self._send([document for document, _ in batch], acts_as)
            except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
                batch = await self._without_refused(batch, acts_as, error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
            return

    async def _without_refused(
        self, batch: list[_Waiting], acts_as: str | None, error: Exception
    ) -> list[_Waiting]:
        """What is to be sent again together; the others have got their answers."""
        if len(batch) == 1 or isinstance(error, Unavailable) or not isinstance(error, ComputilityError):
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return []
        index = refused_index(error, len(batch))
        alone = batch if index is None else [batch[index]]
        for one in alone:
            await self._apply([one], acts_as)
        return [one for one in batch if one not in alone]


def refused_index(error: ComputilityError, count: int) -> int | None:
    """Which of the documents it was, where the error says so."""
    found = _INDEX.match(error.param or "") if isinstance(error, InvalidInput) else None
    return int(found[1]) if found and int(found[1]) < count else None
