"""Fine-tuning as tenants see it: files and jobs of a project."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from zlib import crc32

from common.auth import Principal
from common.clock import Clock
from common.errors import Conflict, Forbidden, InvalidInput, NotFound
from common.ids import derived_id, new_id
from common.limits import check_priority, check_room, find_limits, find_queues
from common.resources import Adapter, FineTune, Metadata, Project, Queue
from common.resources.people import ProjectLimits
from common.resources.tuning import Checkpoint, FineTuneSpec, FineTuneStatus, Hyperparameters
from common.settings import Settings
from common.store.answers import Answer
from common.store.authorship import is_of_write
from common.store.port import Event, Store
from finetune.api.requests import AdapterRank, CreateJobBody
from finetune.api.tuning_target import TuningTarget, find_target
from finetune.core.hyperparameters import resolve
from finetune.files.dataset import DatasetChecks, Param
from finetune.files.file_service import FileService
from finetune.jobs.job_events import note
from finetune.jobs.served_checkpoints import checkpoint_adapter_name, find_checkpoint, serve_checkpoint
from finetune.objects import TERMINAL
from finetune.ports import Blobs

DUPLICATE_SECONDS = 60
JOB_DOCUMENTS = 4
"""A job's document is stored once, and most of it again in its workload, adapter and result file."""
DEFAULT_RANKS: tuple[AdapterRank, ...] = (16, 8, 1)
_EVENT_PAGE = 1000
_CANCEL_TRIES = 10


class FineTuneService:
    """Files and jobs. What lies in another project than the one given does not exist."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        settings: Settings,
        clock: Clock,
        checks: DatasetChecks | None = None,
    ) -> None:
        self._store, self._clock, self._settings = store, clock, settings
        self._checks = checks or DatasetChecks(settings.tuning)
        self.files = FileService(store, blobs, settings, clock)
        self._creating = asyncio.Lock()

    async def project_of(self, principal: Principal, named: str | None) -> Project:
        """The project that a request works in: the key's own, or for admins the one ``named``.

        Raises ``InvalidInput`` when an admin names none, ``NotFound`` when the principal does not see it.
        """
        name = named or principal.project
        if not name:
            raise InvalidInput(
                f"the key {principal.key} belongs to no project; name one (-p, or the header OpenAI-Project)",
                code="project_required",
                param="OpenAI-Project",
            )
        project = await self._store.find(Project, name)
        if project is None or not principal.sees_project(name, project.spec.tenant):
            raise NotFound(f"there is no project {name!r}", param="OpenAI-Project")
        return project

    async def limits_for(self, principal: Principal, project: str) -> ProjectLimits | None:
        """The limits that bind the principal in the project; None for platform-admins."""
        if principal.is_platform_admin:
            return None
        return await find_limits(self._store, project, self._settings.limits)

    async def create_job(
        self,
        principal: Principal,
        project: str,
        body: CreateJobBody,
        request_key: str | None = None,
        answer: Answer | None = None,
    ) -> FineTune:
        """Check everything and queue the job; its ``answer`` is kept with it.

        Clients send a request again when its answer is lost: the same ``request_key`` means the same job,
        without one an equal, unfinished job of the last minute is the answer. Raises ``NotFound`` for a model
        that is not visible and ``InvalidInput`` with ``param`` for anything else.
        """
        target = await find_target(self._store, principal, project, body.model)
        examples = await self._check_file(project, body.training_file, "training_file")
        if body.validation_file is not None:
            await self._check_file(project, body.validation_file, "validation_file")
        wanted = body.chosen_hyperparameters
        resolved = resolve(examples, wanted.n_epochs, wanted.batch_size, wanted.learning_rate_multiplier)
        limits = await self.limits_for(principal, project)
        await self._check_queue(project, body.computility.queue, body.computility.priority, limits)
        spec = _job_spec(principal, target, body)
        async with self._creating:
            owner = (await self._store.get(Project, project)).metadata.uid
            name = _job_name(principal, owner, request_key, self._clock)
            found = await self._made_before(project, name, spec, request_key)
            if found is not None:
                return found
            if limits is not None:
                await self._check_room(project, spec, limits)
            status = FineTuneStatus(
                resolved={
                    "n_epochs": resolved.n_epochs,
                    "batch_size": resolved.batch_size,
                    "learning_rate_multiplier": resolved.learning_rate_multiplier,
                    "examples": examples,
                }
            )
            return await self._queue_job(project, name, spec, status, answer)

    async def get_job(self, project: str, name: str) -> FineTune:
        """The job. Raises ``NotFound``."""
        job = await self._store.find(FineTune, name, project)
        if job is None:
            raise NotFound(
                f"there is no fine-tuning job {name!r}",
                code="fine_tune_not_found",
                param="fine_tuning_job_id",
            )
        return job

    async def list_jobs(self, project: str, metadata: dict[str, str] | None = None) -> list[FineTune]:
        """All jobs (with these metadata), newest first."""
        wanted = (metadata or {}).items()
        jobs = [
            j for j in await self._store.list(FineTune, project=project) if wanted <= j.spec.metadata.items()
        ]
        return sorted(jobs, key=lambda j: (j.metadata.created_ms, j.name), reverse=True)

    async def cancel_job(self, project: str, name: str, answer: Answer | None = None) -> FineTune:
        """Ask for the end of the job; again is no error. Raises ``InvalidInput`` when it has ended."""
        for _ in range(_CANCEL_TRIES):
            job = await self.get_job(project, name)
            if job.status.state in ("succeeded", "failed"):
                raise InvalidInput(
                    f"job {name} has already {job.status.state}, so it cannot be cancelled",
                    code="job_already_ended",
                )
            if job.spec.cancelled or job.status.state == "cancelled":
                return job
            job.spec.cancelled = True
            with suppress(Conflict):
                job = (await self._store.apply(job, answer=answer)).resource
                await note(self._store, self._clock, job, "CancelRequested", "The job was cancelled")
                return job
        raise Conflict(f"job {name} changes all the time; try again", code="job_busy")

    async def serve_checkpoint(
        self, principal: Principal, project: str, tenant: str, name: str, named: str
    ) -> tuple[FineTune, Checkpoint, Adapter]:
        """Serve the adapter as it was after a step of the job, beside what the job makes in the end.

        Raises ``NotFound`` where there is no such checkpoint, or its files are gone; ``Forbidden`` where the
        project may have no further adapter.
        """
        job = await self.get_job(project, name)
        checkpoint = find_checkpoint(job, named)
        await find_target(self._store, principal, project, job.spec.model)
        limits = await self.limits_for(principal, project)
        async with self._creating:
            adapters = await self._store.list(Adapter, project=project)
            is_new = all(one.name != checkpoint_adapter_name(job, checkpoint.step) for one in adapters)
            if limits is not None and is_new:
                jobs = await self._store.list(FineTune, project=project)
                unfinished = sum(one.status.state not in TERMINAL for one in jobs)
                held = len(adapters) + unfinished
                check_room(f"project {project}", "maxAdapters", limits.max_adapters, held, 1)
            made = await serve_checkpoint(self._store, self._settings, job, tenant, checkpoint)
        return job, checkpoint, made

    async def job_events(self, project: str, name: str) -> list[Event]:
        """All events of the job's course, newest first; not who wrote it."""
        await self.get_job(project, name)
        found: list[Event] = []
        while True:
            after = found[-1].id if found else None
            more = await self._store.events(
                kind="FineTune", name=name, project=project, after=after, limit=_EVENT_PAGE
            )
            found.extend(more)
            if len(more) < _EVENT_PAGE:
                return [event for event in reversed(found) if not is_of_write(event)]

    async def _check_file(self, project: str, name: str, param: Param) -> int:
        """The number of examples in a file that a job is to use."""
        try:
            file = await self.files.get(project, name)
        except NotFound as error:
            raise InvalidInput(f"{param}: there is no file {name!r}", f"invalid_{param}", param) from error
        purpose = file.spec.purpose
        if purpose != "fine-tune":
            text = f"{param}: file {name} has purpose {purpose!r}; upload it with purpose 'fine-tune'"
            raise InvalidInput(text, f"invalid_{param}", param)
        return await self._checks.examples(project, file.spec.sha256, self.files.content_path(file), param)

    async def _check_room(self, project: str, spec: FineTuneSpec, limits: ProjectLimits) -> None:
        """Raise ``Forbidden`` when the project may not have another job, or the adapter that it will make."""
        who, jobs = f"project {project}", await self._store.list(FineTune, project=project)
        unfinished = sum(job.status.state not in TERMINAL for job in jobs)
        check_room(who, "maxJobs", limits.max_jobs, unfinished, 1)
        adapters = await self._store.list(Adapter, project=project)
        check_room(who, "maxAdapters", limits.max_adapters, len(adapters) + unfinished, 1)
        sizes = (await self._store.sizes(project)).values()
        held = sum(size.document_bytes for size in sizes)
        growth = JOB_DOCUMENTS * len(spec.model_dump_json(by_alias=True, exclude_none=True).encode())
        check_room(who, "maxDocumentBytes", limits.max_document_bytes, held, growth)

    async def _check_queue(
        self, project: str, name: str, priority: int | None, limits: ProjectLimits | None
    ) -> None:
        queue = await self._store.find(Queue, name)
        if queue is None:
            raise InvalidInput(f"computility.queue: there is no queue {name!r}", param="computility.queue")
        if limits is not None:
            check_priority("computility.priority", priority, queue, limits)
        allowed = await find_queues(self._store, project)
        if allowed and name not in allowed:
            raise Forbidden(
                f"project {project} may not use queue {name!r}; it may use {', '.join(allowed)}",
                param="computility.queue",
            )

    async def _made_before(
        self, project: str, name: str, spec: FineTuneSpec, request_key: str | None
    ) -> FineTune | None:
        if request_key is None:
            return await self._duplicate_of(project, spec)
        job = await self._store.find(FineTune, name, project)
        if job is not None and job.spec.model_copy(update={"cancelled": False}) != spec:
            raise Conflict(f"job {name} was made with the same Idempotency-Key from another request")
        return job

    async def _duplicate_of(self, project: str, spec: FineTuneSpec) -> FineTune | None:
        oldest_ms = self._clock.now_ms() - 1000 * DUPLICATE_SECONDS
        for job in await self.list_jobs(project):
            if job.metadata.created_ms < oldest_ms:
                return None
            if job.spec == spec and job.status.state not in TERMINAL:
                return job
        return None

    async def _queue_job(
        self,
        project: str,
        name: str,
        spec: FineTuneSpec,
        status: FineTuneStatus,
        answer: Answer | None,
    ) -> FineTune:
        job = FineTune(metadata=Metadata(name=name, project=project), spec=spec, status=status)
        created = (await self._store.apply(job, answer=answer)).resource
        await note(self._store, self._clock, created, "Created", f"Created fine-tuning job: {name}")
        examples = status.resolved["examples"]
        await note(
            self._store,
            self._clock,
            created,
            "FilesValidated",
            f"Files validated: {examples} training examples",
        )
        return created


def _job_name(principal: Principal, project_uid: str, request_key: str | None, clock: Clock) -> str:
    """A new name; with a ``request_key`` always the same, also after the process was killed in between."""
    if request_key is None:
        return new_id("ftjob", clock)
    return derived_id("ftjob", project_uid, principal.key, request_key)


def _job_spec(principal: Principal, target: TuningTarget, body: CreateJobBody) -> FineTuneSpec:
    placement, wanted = body.computility, body.chosen_hyperparameters
    # Where none is asked for, the seed follows from the file, so that a repeated request means the same job.
    seed = body.seed if body.seed is not None else crc32(body.training_file.encode()) >> 1
    return FineTuneSpec(
        model=body.model,
        base=target.model.name,
        base_project=target.model.project or "",
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=seed,
        hyperparameters=Hyperparameters(**wanted.model_dump()),
        adapter_rank=_rank(target, placement.adapter_rank),
        metadata=body.metadata or {},
        queue=placement.queue,
        priority=placement.priority,
        devices=placement.devices,
        api_key=principal.key,
    )


def _rank(target: TuningTarget, wanted: AdapterRank | None) -> AdapterRank:
    """The rank of the adapter: not above what the base's endpoints can load."""
    if wanted is None:
        return next((r for r in DEFAULT_RANKS if target.max_rank is None or r <= target.max_rank), 1)
    if target.max_rank is not None and wanted > target.max_rank:
        raise InvalidInput(
            f"computility.adapter_rank: {wanted} is above {target.max_rank}, the most that an endpoint of "
            "the model takes (spec.engine.maxAdapterRank)",
            param="computility.adapter_rank",
        )
    return wanted
