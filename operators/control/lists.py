"""What control has now, asked once for all who want to know."""

from __future__ import annotations

import asyncio

from operators.control.link import ControlLink, Document

GAP_SECONDS = 1.0


class Lists:
    """A list of a kind begins at most once in ``gap_seconds``, and after everybody asked who is given it: so
    what was there when somebody asked is in it, and a thousand who leave cost no thousand lists."""

    def __init__(self, link: ControlLink, gap_seconds: float = GAP_SECONDS) -> None:
        self._link, self._gap_seconds = link, gap_seconds
        self._next: dict[str, asyncio.Task[list[Document]]] = {}
        self._began_seconds: dict[str, float] = {}

    async def fresh(self, plural: str) -> list[Document]:
        """All of the kind. Raises what control says, to all who asked."""
        task = self._next.get(plural)
        if task is None:
            task = self._next[plural] = asyncio.create_task(self._read(plural))
        return await asyncio.shield(task)

    async def _read(self, plural: str) -> list[Document]:
        now = asyncio.get_running_loop().time
        due = self._began_seconds.get(plural, float("-inf")) + self._gap_seconds
        await asyncio.sleep(max(0.0, due - now()))
        del self._next[plural]
        self._began_seconds[plural] = now()
        documents, _ = await self._link.list_all(plural)
        return documents
