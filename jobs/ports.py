"""What jobs need from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from common.resources import File
from common.resources.people import ProjectLimits


class Files(Protocol):
    """The files of projects."""

    async def get(self, project: str, name: str) -> File:
        """Raises ``NotFound``."""
        ...

    async def list(self, project: str, purpose: str | None = None) -> list[File]:
        """All of a purpose, oldest first."""
        ...

    async def create(
        self,
        project: str,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        expires_after_seconds: int | None = None,
        *,
        limits: ProjectLimits | None = None,
        limit_bytes: int | None = None,
    ) -> File:
        """Raises ``Forbidden`` over the limits of the project, ``TooLarge`` over ``limit_bytes`` (None = that
        of an upload)."""
        ...

    def content_path(self, file: File) -> Path:
        """Where the bytes can be read. Raises ``NotFound``."""
        ...
