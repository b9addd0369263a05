"""Blobs on a local disk."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from common.durable import room_needed
from common.errors import TooLarge
from common.threads import Threads
from common.units import format_bytes
from finetune.adapters.blob_folder import BlobFolder
from finetune.ports import StagedBlob

_THREADS = 4
_NO_ROOM = "there is no room on the disk to keep the file; try again later"


class LocalBlobs:
    """Implements ``finetune.ports.Blobs`` in a folder that other control processes may use as well.

    A chunk is the most that is held in memory. Uploads that were never finished are removed at the beginning,
    and before another one is taken.
    """

    def __init__(self, folder: Path) -> None:
        self._blobs = BlobFolder(folder)
        self._blobs.remove_leftovers()
        self._threads = Threads("blobs", _THREADS)

    async def stage(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> StagedBlob:
        with room_needed(_NO_ROOM):
            await self._threads.run(self._blobs.remove_leftovers)
            path = await self._threads.run(self._blobs.temporary)
        state, size = hashlib.sha256(), 0
        try:
            with room_needed(_NO_ROOM), path.open("wb") as stream:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit_bytes:
                        raise TooLarge(
                            f"file: larger than the limit of {format_bytes(limit_bytes)}", param="file"
                        )
                    state.update(chunk)
                    await self._threads.run(stream.write, chunk)
                await self._threads.run(stream.flush)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return StagedBlob(state.hexdigest(), size, path)

    async def keep(self, staged: StagedBlob) -> None:
        with room_needed(_NO_ROOM):
            await self._threads.run(self._blobs.adopt, staged.path, staged.sha256)

    async def put(self, content: bytes) -> StagedBlob:
        with room_needed(_NO_ROOM):
            sha256, size_bytes = await self._threads.run(self._blobs.put, [content])
        return StagedBlob(sha256, size_bytes, self._blobs.place(sha256))

    async def unsettle(self, sha256: str) -> None:
        with room_needed(_NO_ROOM):
            await self._threads.run(self._blobs.unsettle, sha256)

    async def settle(self, sha256: str) -> None:
        await self._threads.run(self._blobs.settle, sha256)

    async def unsettled(self) -> Sequence[str]:
        return await self._threads.run(self._blobs.unsettled)

    async def discard(self, staged: StagedBlob) -> None:
        await self._threads.run(staged.path.unlink, missing_ok=True)

    def path(self, sha256: str) -> Path:
        return self._blobs.path(sha256)

    async def delete(self, sha256: str) -> None:
        await self._threads.run(self._blobs.place(sha256).unlink, missing_ok=True)
