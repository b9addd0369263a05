"""Batches as tenants see them: those of a project."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from batches.api.requests import CreateBatchBody
from batches.notices import note
from common.auth import Principal
from common.clock import Clock
from common.errors import Conflict, InvalidInput, NotFound
from common.ids import derived_id, new_id
from common.limits import check_room
from common.resources import ApiKey, Batch, File, Metadata, Project
from common.resources.batches import BATCH_PURPOSE, BatchSpec, BatchStatus
from common.resources.people import ProjectLimits
from common.settings import Settings
from common.store.answers import Answer
from common.store.port import Store
from common.units import format_bytes
from finetune.api.service import FineTuneService

DUPLICATE_SECONDS = 60
_HOUR_MS = 3_600_000
_CANCEL_TRIES = 10


class BatchService:
    """What lies in another project than the one given does not exist. ``tuning`` has the files, and knows in
    which project a request works."""

    def __init__(self, store: Store, tuning: FineTuneService, settings: Settings, clock: Clock) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self.tuning = tuning
        self._creating = asyncio.Lock()

    async def create(
        self,
        principal: Principal,
        project: str,
        body: CreateBatchBody,
        request_key: str | None = None,
        answer: Answer | None = None,
    ) -> Batch:
        """Take a batch, whose file is checked afterwards; its ``answer`` is kept with it.

        The same ``request_key`` means the same batch; without one an equal, unfinished batch of the last
        minute is the answer. Raises ``InvalidInput`` with ``param``, ``Forbidden`` over the limits of the
        project, ``Conflict`` where the ``request_key`` was used for something else.
        """
        file = await self._file(project, body)
        limits = await self.tuning.limits_for(principal, project)
        key = await self._store.find(ApiKey, principal.key)
        spec = BatchSpec(
            input_file=file.name,
            endpoint=body.endpoint,
            window_hours=body.window_hours,
            metadata=body.metadata or {},
            output_expires_seconds=body.expires_after_seconds,
            api_key=principal.key,
            api_key_uid=key.metadata.uid if key is not None else "",
        )
        async with self._creating:
            owner = (await self._store.get(Project, project)).metadata.uid
            name = _name(principal, owner, request_key, self._clock)
            found = await self._made_before(project, name, spec, request_key)
            if found is not None:
                return found
            if limits is not None:
                await self._check_room(project, spec, limits)
            status = BatchStatus(expires_ms=self._clock.now_ms() + spec.window_hours * _HOUR_MS)
            batch = Batch(metadata=Metadata(name=name, project=project), spec=spec, status=status)
            created = (await self._store.apply(batch, answer=answer)).resource
        await note(self._store, self._clock, created, "Created", f"The batch {name} was made")
        return created

    async def get(self, project: str, name: str) -> Batch:
        """The batch. Raises ``NotFound``."""
        batch = await self._store.find(Batch, name, project)
        if batch is None:
            raise NotFound(f"there is no batch {name!r}", code="batch_not_found", param="batch_id")
        return batch

    async def list(self, project: str) -> list[Batch]:
        """All batches, newest first."""
        batches = await self._store.list(Batch, project=project)
        return sorted(batches, key=lambda b: (b.metadata.created_ms, b.name), reverse=True)

    async def cancel(self, project: str, name: str, answer: Answer | None = None) -> Batch:
        """Ask for the end of the batch; again is no error. Raises ``Conflict`` when it has ended."""
        for _ in range(_CANCEL_TRIES):
            batch = await self.get(project, name)
            if batch.spec.cancelled or batch.status.state == "cancelled":
                return batch
            if batch.has_ended or batch.status.state == "finalizing":
                raise Conflict(
                    f"batch {name} is {batch.status.state}, so it cannot be cancelled",
                    code="batch_already_ended",
                )
            batch.spec.cancelled = True
            with suppress(Conflict):
                batch = (await self._store.apply(batch, answer=answer)).resource
                await note(self._store, self._clock, batch, "CancelRequested", "The batch is to be cancelled")
                return batch
        raise Conflict(f"batch {name} changes all the time; try again", code="batch_busy")

    async def _file(self, project: str, body: CreateBatchBody) -> File:
        """The file with the requests, which is there for as long as the batch may need it."""
        name, param = body.input_file_id, "input_file_id"
        try:
            file = await self.tuning.files.get(project, name)
        except NotFound as error:
            raise InvalidInput(f"{param}: there is no file {name!r}", "invalid_input_file", param) from error
        wrong = ""
        if file.spec.purpose != BATCH_PURPOSE:
            purpose = file.spec.purpose
            wrong = f"file {name} has purpose {purpose!r}; upload it with purpose {BATCH_PURPOSE!r}"
        elif file.spec.size_bytes > self._settings.batches.max_bytes:
            most = format_bytes(self._settings.batches.max_bytes)
            wrong = f"file {name} is larger than {most}; split it into several batches"
        elif file.spec.expires_ms is not None:
            end_ms = self._clock.now_ms() + body.window_hours * _HOUR_MS
            if file.spec.expires_ms < end_ms:
                wrong = f"file {name} expires within the batch's completion_window; upload it for longer"
        if wrong:
            raise InvalidInput(f"{param}: {wrong}", "invalid_input_file", param)
        return file

    async def _check_room(self, project: str, spec: BatchSpec, limits: ProjectLimits) -> None:
        """Raise ``Forbidden`` when the project may not have another batch."""
        who, batches = f"project {project}", await self._store.list(Batch, project=project)
        unfinished = sum(not batch.has_ended for batch in batches)
        check_room(who, "maxBatches", limits.max_batches, unfinished, 1)
        sizes = (await self._store.sizes(project)).values()
        held = sum(size.document_bytes for size in sizes)
        growth = len(spec.model_dump_json(by_alias=True, exclude_none=True).encode())
        check_room(who, "maxDocumentBytes", limits.max_document_bytes, held, growth)

    async def _made_before(
        self, project: str, name: str, spec: BatchSpec, request_key: str | None
    ) -> Batch | None:
        if request_key is None:
            return await self._duplicate_of(project, spec)
        batch = await self._store.find(Batch, name, project)
        if batch is not None and batch.spec.model_copy(update={"cancelled": False}) != spec:
            raise Conflict(f"batch {name} was made with the same Idempotency-Key from another request")
        return batch

    async def _duplicate_of(self, project: str, spec: BatchSpec) -> Batch | None:
        oldest_ms = self._clock.now_ms() - 1000 * DUPLICATE_SECONDS
        for batch in await self.list(project):
            if batch.metadata.created_ms < oldest_ms:
                return None
            if batch.spec == spec and not batch.has_ended:
                return batch
        return None


def _name(principal: Principal, project_uid: str, request_key: str | None, clock: Clock) -> str:
    """A new name; with a ``request_key`` always the same, also after the process was killed in between."""
    if request_key is None:
        return new_id("batch", clock)
    return derived_id("batch", project_uid, principal.key, request_key)
