"""Files of a project: what lies behind ``/v1/files``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from common.clock import Clock
from common.errors import Conflict, InvalidInput, NotFound, Unavailable
from common.ids import new_id
from common.resources import Batch, File, FineTune, Metadata
from common.resources.jobs import ARTEFACTS_PURPOSE, FOLDER_PURPOSE
from common.resources.people import ProjectLimits
from common.resources.tuning import FileSpec
from common.settings import Settings
from common.store.answers import Answer
from common.store.port import Store
from common.vocabulary import FILE_NAME_CHARACTERS, odd_character
from finetune.files.file_index import FileIndex, Held
from finetune.files.upload_room import UploadRoom
from finetune.objects import TERMINAL
from finetune.ports import Blobs, StagedBlob

PURPOSES = (
    *("assistants", "batch", "fine-tune", "vision", "user_data", "evals"),
    *(FOLDER_PURPOSE, ARTEFACTS_PURPOSE),
)
MOST_BYTES = 2**62
"""Of a file of the platform's own: whoever makes it bounds it."""
MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS = 3600, 2_592_000


class FileService:
    """Files belong to one project; for all others they do not exist."""

    def __init__(self, store: Store, blobs: Blobs, settings: Settings, clock: Clock) -> None:
        self._store, self._blobs, self._settings, self._clock = store, blobs, settings, clock
        # Two files may share their bytes: these must not go while a second file is being made of them.
        self._lock = asyncio.Lock()
        self._index = FileIndex(store)
        self._room = UploadRoom(self._index)

    async def check_room(self, project: str, limits: ProjectLimits, declared_bytes: int) -> None:
        """Raise ``Forbidden`` (``limit_reached``) before a byte is taken of an upload that is too much."""
        await self.remove_expired()
        await self._room.check(project, limits, max(1, declared_bytes))

    async def create(
        self,
        project: str,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        expires_after_seconds: int | None = None,
        answer: Answer | None = None,
        limits: ProjectLimits | None = None,
        limit_bytes: int | None = None,
    ) -> File:
        """Keep an upload, and the ``answer`` to its request. Raises ``InvalidInput`` naming the field,
        ``TooLarge`` over the limit of a file (None = that of an upload), ``Forbidden`` over those of the
        project (None = it has none).
        """
        most = self._settings.control.upload_limit_bytes if limit_bytes is None else limit_bytes
        _check_upload(filename, purpose, expires_after_seconds)
        await self.remove_expired()
        async with self._room.arriving(project, limits, chunks) as counted:
            staged = await self._blobs.stage(counted, most)
            try:
                if not staged.size_bytes:
                    raise InvalidInput("file: is empty", param="file")
                spec = self._spec(staged, filename, purpose, expires_after_seconds)
                metadata = Metadata(name=new_id("file", self._clock), project=project)
                async with self._lock:
                    await self._room.check_stored(project, limits, staged.size_bytes)
                    return await self._keep(staged, File(metadata=metadata, spec=spec), answer)
            finally:
                await self._blobs.discard(staged)

    async def make(
        self,
        project: str,
        name: str,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        expires_after_seconds: int | None = None,
    ) -> File | None:
        """Keep a file of the platform's own under this ``name``; where one is there, it stays. None where it
        would be empty."""
        known = await self._store.find(File, name, project)
        if known is not None:
            return known
        staged = await self._blobs.stage(chunks, MOST_BYTES)
        try:
            if not staged.size_bytes:
                return None
            spec = self._spec(staged, filename, purpose, expires_after_seconds)
            async with self._lock:
                return await self._keep(
                    staged, File(metadata=Metadata(name=name, project=project), spec=spec), None
                )
        finally:
            await self._blobs.discard(staged)

    async def held(self, project: str) -> Held:
        """What the files of the project are together."""
        return await self._index.held(project)

    def _spec(
        self, staged: StagedBlob, filename: str, purpose: str, expires_after_seconds: int | None
    ) -> FileSpec:
        expires_ms = self._clock.now_ms() + 1000 * expires_after_seconds if expires_after_seconds else None
        return FileSpec(
            filename=filename,
            purpose=purpose,
            size_bytes=staged.size_bytes,
            sha256=staged.sha256,
            expires_ms=expires_ms,
        )

    async def get(self, project: str, name: str) -> File:
        """The file. Raises ``NotFound``, also when it has expired."""
        file = await self._store.find(File, name, project)
        if file is None or self._is_expired(file):
            raise NotFound(f"there is no file {name!r}", code="file_not_found", param="file_id")
        return file

    async def list(self, project: str, purpose: str | None = None) -> list[File]:
        """All files, oldest first."""
        files = await self._store.list(File, project=project)
        found = [f for f in files if not self._is_expired(f) and purpose in (None, f.spec.purpose)]
        return sorted(found, key=lambda f: (f.metadata.created_ms, f.name))

    def content_path(self, file: File) -> Path:
        """Where the bytes can be read."""
        return self._blobs.path(file.spec.sha256)

    async def delete(self, project: str, name: str, answer: Answer | None = None) -> None:
        """Remove the file and keep the request's ``answer``. Raises ``Conflict`` while a job or a batch needs
        it."""
        await self.get(project, name)
        for job in await self._store.list(FineTune, project=project):
            needed = name in (job.spec.training_file, job.spec.validation_file)
            if needed and job.status.state not in TERMINAL and not job.spec.cancelled:
                raise Conflict(
                    f"file {name} is needed by job {job.name}; cancel the job first", code="file_in_use"
                )
        for batch in await self._store.list(Batch, project=project):
            if name == batch.spec.input_file and not batch.has_ended:
                raise Conflict(
                    f"file {name} is needed by batch {batch.name}; cancel the batch first", code="file_in_use"
                )
        await self._remove(project, name, answer)

    async def remove_expired(self) -> None:
        """Remove all files whose time is over, and bytes that belong to none."""
        for key in await self._index.expired(self._clock.now_ms()):
            with suppress(NotFound):
                await self._remove(key.project, key.name)
        await self.tidy()

    async def tidy(self) -> None:
        """Remove the bytes of uploads and deletions that who was killed, or failed, left half done."""
        async with self._lock:
            for sha256 in await self._blobs.unsettled():
                await self._settle(sha256)

    async def _keep(self, staged: StagedBlob, file: File, answer: Answer | None) -> File:
        await self._blobs.unsettle(staged.sha256)
        await self._blobs.keep(staged)
        stored = (await self._store.apply(file, answer=answer)).resource
        await self._blobs.settle(staged.sha256)
        return stored

    async def _remove(self, project: str, name: str, answer: Answer | None = None) -> None:
        async with self._lock:
            file = await self._store.get(File, name, project)
            with suppress(Unavailable):  # on a full disk nothing may stand in the way of deleting
                await self._blobs.unsettle(file.spec.sha256)
            await self._store.delete(File, name, project, answer=answer)
            await self._settle(file.spec.sha256)

    async def _settle(self, sha256: str) -> None:
        """The bytes stay as long as any file has them."""
        if not await self._index.is_used(sha256):
            await self._blobs.delete(sha256)
        await self._blobs.settle(sha256)

    def _is_expired(self, file: File) -> bool:
        return file.spec.expires_ms is not None and file.spec.expires_ms <= self._clock.now_ms()


def _check_upload(filename: str, purpose: str, expires_after_seconds: int | None) -> None:
    if purpose not in PURPOSES:
        raise InvalidInput(f"purpose: {purpose!r} is unknown; known: {', '.join(PURPOSES)}", param="purpose")
    if not filename or len(filename) > FILE_NAME_CHARACTERS:
        raise InvalidInput(f"file: needs a name of 1-{FILE_NAME_CHARACTERS} characters", param="file")
    odd = odd_character(filename)
    if odd:
        raise InvalidInput(f"file: its name holds the character {odd}", param="file")
    if expires_after_seconds is not None and not (
        MIN_EXPIRY_SECONDS <= expires_after_seconds <= MAX_EXPIRY_SECONDS
    ):
        limits = f"from {MIN_EXPIRY_SECONDS} to {MAX_EXPIRY_SECONDS}"
        raise InvalidInput(f"expires_after[seconds]: must be {limits}", param="expires_after[seconds]")
