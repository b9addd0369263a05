"""Whether uploads fit into their projects, together with those that are still arriving."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common.limits import check_room
from common.resources.people import ProjectLimits
from finetune.files.file_index import FileIndex


class UploadRoom:
    """Counts what arrives, so that many uploads at once are held to the limits of one."""

    def __init__(self, index: FileIndex) -> None:
        self._index = index
        self._uploads: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    async def check(self, project: str, limits: ProjectLimits, more_bytes: int = 1) -> int:
        """The bytes that the project's files have. Raises ``Forbidden`` (``limit_reached``) when one more
        file, of that size, is too much.
        """
        who, held = f"project {project}", await self._index.held(project)
        check_room(who, "maxFiles", limits.max_files, held.count + self._uploads[project], 1)
        check_room(who, "maxFileBytes", limits.max_file_bytes, held.bytes + self._bytes[project], more_bytes)
        return held.bytes

    async def check_stored(self, project: str, limits: ProjectLimits | None, more_bytes: int) -> None:
        """The same for a file that has arrived, with nothing but what is stored; None = no limits."""
        if limits is not None:
            held = (await self._index.held(project)).bytes
            check_room(f"project {project}", "maxFileBytes", limits.max_file_bytes, held, more_bytes)

    @asynccontextmanager
    async def arriving(
        self, project: str, limits: ProjectLimits | None, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks, counted from when they come until the end of the block, when the file is stored or
        given up. Taking one that is too much raises ``Forbidden``; None = no limits.
        """
        if limits is None:
            yield chunks
            return
        held = await self.check(project, limits)
        most, seen = limits.max_file_bytes, 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal seen
            async for chunk in chunks:
                check_room(
                    f"project {project}", "maxFileBytes", most, held + self._bytes[project], len(chunk)
                )
                seen += len(chunk)
                self._bytes[project] += len(chunk)
                yield chunk

        self._uploads[project] += 1
        try:
            yield counted()
        finally:
            self._uploads[project] -= 1
            self._bytes[project] -= seen
            if not self._uploads[project]:
                del self._uploads[project], self._bytes[project]
