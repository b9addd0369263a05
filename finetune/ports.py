"""What fine-tuning needs from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class StagedBlob:
    """Bytes that have arrived whole: at ``path`` for now, or for good once they are kept."""

    sha256: str
    size_bytes: int
    path: Path


class Blobs(Protocol):
    """Files by the SHA-256 of their content."""

    async def stage(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> StagedBlob:
        """Receive bytes. Raises ``TooLarge`` as soon as there are more than the limit, and leaves nothing."""
        ...

    async def keep(self, staged: StagedBlob) -> None:
        """Make the bytes readable under their digest; the same content twice is kept once."""
        ...

    async def put(self, content: bytes) -> StagedBlob:
        """Keep bytes of ours; the same content twice is kept once. Raises ``Unavailable`` where there is no
        room."""
        ...

    async def discard(self, staged: StagedBlob) -> None:
        """Forget bytes that are not to be kept."""
        ...

    async def unsettle(self, sha256: str) -> None:
        """Note, for the case of death, that a blob is about to come or to go with what names it."""
        ...

    async def settle(self, sha256: str) -> None:
        """Both are there or both are gone."""
        ...

    async def unsettled(self) -> Sequence[str]:
        """The digests of blobs that somebody who was killed, or failed, may have left."""
        ...

    def path(self, sha256: str) -> Path:
        """Where the bytes can be read. Raises ``NotFound`` when they are not there."""
        ...

    async def delete(self, sha256: str) -> None:
        """Remove the bytes; it is no error when they are gone."""
        ...
