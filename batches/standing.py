"""Whether a batch may go on: its key is in force, its file is there, and its project has room for answers."""

from __future__ import annotations

from collections.abc import Mapping

from common.clock import Clock
from common.errors import NotFound
from common.limits import find_limits
from common.resources import ApiKey, Batch
from common.resources.batches import BatchProblem
from common.settings import Settings
from common.store.batch_lines import BatchLines
from common.store.port import Store
from finetune.files.file_service import FileService

ROOM_SECONDS = 15.0
"""Between two looks at how much all outcomes take."""


class Standing:
    """Asked about each open batch in each pass."""

    def __init__(
        self, store: Store, files: FileService, lines: BatchLines, settings: Settings, clock: Clock
    ) -> None:
        self._store, self._files, self._lines = store, files, lines
        self._settings, self._clock = settings, clock
        self._held: Mapping[str, int] = {}
        self._looked_seconds = float("-inf")

    async def trouble_of(self, batch: Batch) -> BatchProblem | None:
        """Why no further line of it is asked for; None where nothing stands against it."""
        key = await self._key_of(batch)
        if key is None:
            name = batch.spec.api_key
            return BatchProblem(
                code="invalid_api_key", message=f"the key {name} of the batch is not in force"
            )
        try:
            file = await self._files.get(batch.project or "", batch.spec.input_file)
            self._files.content_path(file)
        except NotFound as error:
            return BatchProblem(code="input_file_gone", message=error.message, param="input_file_id")
        return None if key.spec.role == "platform-admin" else await self._too_much(batch)

    async def digest_of(self, batch: Batch) -> str:
        """Of the key whose requests the lines are. Raises ``NotFound`` where it is not in force."""
        key = await self._key_of(batch)
        if key is None:
            raise NotFound(f"the key {batch.spec.api_key} is not in force")
        return key.status.digest

    async def _key_of(self, batch: Batch) -> ApiKey | None:
        key = await self._store.find(ApiKey, batch.spec.api_key) if batch.spec.api_key else None
        if key is None or key.metadata.uid != batch.spec.api_key_uid or key.spec.revoked:
            return None
        end_ms = key.spec.expires_ms
        return key if end_ms is None or end_ms > self._clock.now_ms() else None

    async def _too_much(self, batch: Batch) -> BatchProblem | None:
        """Answers become a file of the project: beyond its room no more are asked for."""
        now_seconds = self._clock.monotonic_seconds()
        if now_seconds - self._looked_seconds >= ROOM_SECONDS:
            self._held, self._looked_seconds = await self._lines.held_bytes(), now_seconds
        project = batch.project or ""
        most = (await find_limits(self._store, project, self._settings.limits)).max_file_bytes
        held = self._held.get(project, 0) + (await self._files.held(project)).bytes
        if most is None or held <= most:
            return None
        message = (
            f"the files of project {project} and the answers of its batches are over maxFileBytes, {most}"
        )
        return BatchProblem(code="limit_reached", message=message)
