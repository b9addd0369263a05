"""The fine-tune controller: queued jobs become Workloads, finished ones Adapters and bills."""

from __future__ import annotations

import asyncio
from functools import partial

from billing.core.sink import UsageSink
from billing.rejected import rejected_usage
from common.clock import Clock
from common.errors import ComputilityError, Conflict, InvalidInput, NotFound, Unavailable
from common.guard import ResourceGuard
from common.ids import derived_id
from common.loop import LoopHealth, run_passes
from common.resources import Adapter, Endpoint, File, FineTune, Model, Project, Queue, Workload
from common.resources.serving import model_identity
from common.settings import Settings
from common.store.kept import KeptList, owned_workloads
from common.store.port import Store
from common.telemetry import get_logger
from common.vocabulary import shortened
from finetune.core.hyperparameters import resolve
from finetune.core.worker_events import WorkerEvent, last_of
from finetune.files.dataset import DatasetChecks
from finetune.jobs.adapter_cleaner import AdapterCleaner
from finetune.jobs.job_cleaner import JobCleaner
from finetune.jobs.job_events import Reason, note
from finetune.jobs.job_folder import JobFolder
from finetune.jobs.job_progress import JobProgress, failure_of
from finetune.jobs.publisher import Publisher, post_usage
from finetune.jobs.trainer_workload import (
    BAD_INPUT_EXIT_CODE,
    adapter_name,
    data_file,
    train_job,
    trainer_workload,
)
from finetune.objects import TERMINAL
from finetune.ports import Blobs

_TICK_SECONDS = 1.0
_IDLE_TICK_SECONDS = 10.0
KINDS = tuple(kind.__name__ for kind in (Adapter, Endpoint, File, FineTune, Model, Project, Queue, Workload))
"""What it looks at in the store."""

_log = get_logger(__name__)


class FineTuneController:
    """Owns the Workloads and the status of FineTunes, and makes Adapters.

    Every pass looks at what is stored and on disk and does what is left to do. Each step may be done again,
    so the process may end at any point.
    """

    def __init__(
        self,
        store: Store,
        usage: UsageSink,
        blobs: Blobs,
        settings: Settings,
        clock: Clock,
        checks: DatasetChecks | None = None,
    ) -> None:
        self._checks = checks or DatasetChecks(settings.tuning)
        self._store, self._usage, self._blobs = store, usage, blobs
        self._settings, self._clock = settings, clock
        self._workloads = owned_workloads(store, FineTune.__name__)
        self._jobs = KeptList(store, FineTune)
        self._progress = JobProgress(store, clock)
        self._publisher = Publisher(store, blobs, settings, clock)
        self._rejected = rejected_usage(settings)
        self._guard = ResourceGuard("finetunes", store, clock)
        self._is_busy = True
        self._cleaners = (AdapterCleaner(store, settings, clock), JobCleaner(store, settings, clock))

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Pass after pass until ``stop`` is set."""
        await run_passes(
            "finetunes",
            self.step,
            self._store,
            stop,
            self._tick_seconds,
            health,
            rests=True,
            kinds=KINDS,
        )

    def _tick_seconds(self) -> float:
        """What goes on is looked at each second; else only the folders of what is gone are looked for."""
        return _TICK_SECONDS if self._is_busy else _IDLE_TICK_SECONDS

    async def step(self) -> None:
        """One pass over all jobs. The trouble of one holds up no other."""
        jobs = await self._jobs.copies()
        self._is_busy = any(job.status.state not in TERMINAL for job in jobs)
        workloads = await self._owned_workloads({job.metadata.uid for job in jobs})
        for job in jobs:
            await self._guard.handle(job, partial(self._job, job, workloads.get(job.metadata.uid)))
        for cleaner in self._cleaners:
            key = ("cleaner", type(cleaner).__name__)
            if self._guard.items.may_try(key):
                with self._guard.items.item("Cleaner", key):
                    await cleaner.step()
        self._guard.items.forget_gone()

    async def _owned_workloads(self, job_uids: set[str]) -> dict[str, Workload]:
        """Workloads of jobs by the job's uid; those whose job is gone are deleted."""
        owned: dict[str, Workload] = {}
        for workload in await self._workloads.now():
            owner = workload.metadata.owner
            if owner is not None and owner.uid in job_uids:
                owned[owner.uid] = workload
            else:
                with self._guard.items.item("Workload", ("delete", workload.metadata.uid)):
                    await self._delete(workload)
        return owned

    async def _delete(self, workload: Workload) -> None:
        await self._store.delete(Workload, workload.name, workload.project)
        _log.info("trainer removed", workload=workload.name, project=workload.project)

    async def _job(self, job: FineTune, workload: Workload | None) -> None:
        if job.status.state in TERMINAL:
            if workload is not None and (job.status.state == "cancelled" or not _has_ended(workload)):
                await self._delete(workload)
            return
        before, folder = job.status.model_copy(deep=True), JobFolder(self._settings.folder("jobs"), job)
        if job.status.finished_ms is None:
            await self._progress.take_over(job, workload, folder)
        if job.spec.cancelled:
            await self._cancel(job, workload, await asyncio.to_thread(folder.all_events))
        elif workload is None or workload.status.phase == "Succeeded":
            events = await asyncio.to_thread(folder.all_events)
            if last_of(events, "result") is not None:
                await self._finish(job, workload, folder, events)
            elif workload is None:
                await self._start(job, folder)
            else:
                await self._fail(job, *failure_of(workload, events))
        elif workload.status.phase == "Failed" or _is_hopeless(workload):
            events = await asyncio.to_thread(folder.all_events)
            await self._fail(job, *failure_of(workload, events))
        elif job.status != before:
            await self._store.set_status(job)

    async def _start(self, job: FineTune, folder: JobFolder) -> None:
        try:
            workload = await self._prepare(job, folder)
        except (InvalidInput, NotFound) as error:
            await self._fail(job, error.code, error.message, error.param)
            return
        except ValueError as error:  # no Workload can be made of it, now or later
            await self._fail(job, "job_not_startable", f"the job cannot start: {shortened(str(error))}", None)
            return
        job = await self._store.set_status(job)
        await self._store.apply(workload)
        await note(self._store, self._clock, job, "Queued", "The job waits for a device")

    async def _prepare(self, job: FineTune, folder: JobFolder) -> Workload:
        """Leave the worker's orders in its folder. Raises ``NotFound`` or ``InvalidInput``."""
        model = await self._store.get(Model, job.spec.base, job.spec.base_project)
        queue = await self._store.find(Queue, job.spec.queue)
        file = await self._store.get(File, job.spec.training_file, job.project)
        training, validation = data_file(file, self._blobs.path(file.spec.sha256)), None
        if "n_epochs" not in job.status.resolved:
            await self._resolve(job, file)
        if job.spec.validation_file:
            file = await self._store.get(File, job.spec.validation_file, job.project)
            validation = data_file(file, self._blobs.path(file.spec.sha256))
        orders = train_job(job, model, self._settings.home, training, validation, folder.adapter)
        await asyncio.to_thread(folder.write_job, orders)
        taken = await self._store.find(Workload, job.name, job.project)
        if taken is not None:
            raise InvalidInput(
                f"a Workload {job.name} is there that this job did not make", code="name_taken"
            )
        return trainer_workload(job, model, queue, folder.path, orders, self._settings)

    async def _resolve(self, job: FineTune, file: File) -> None:
        """Turn the hyper-parameters into numbers, for a job that was not made by our API."""
        path = self._blobs.path(file.spec.sha256)
        examples = await self._checks.examples(job.project or "", file.spec.sha256, path, "training_file")
        wanted = job.spec.hyperparameters
        chosen = resolve(examples, wanted.n_epochs, wanted.batch_size, wanted.learning_rate_multiplier)
        job.status.resolved = {
            "n_epochs": chosen.n_epochs,
            "batch_size": chosen.batch_size,
            "learning_rate_multiplier": chosen.learning_rate_multiplier,
            "examples": examples,
        }

    async def _finish(
        self, job: FineTune, workload: Workload | None, folder: JobFolder, events: list[WorkerEvent]
    ) -> None:
        """Register the adapter, wait until a running engine holds it, bill, and then say ``succeeded``."""
        result = last_of(events, "result")
        assert result is not None
        try:
            adapter = await self._publisher.publish(job, folder, result, events)
        except ComputilityError as error:
            if isinstance(error, Conflict | Unavailable):
                raise
            await self._fail(job, error.code, error.message, error.param)
            return
        except ValueError as error:  # no Adapter can be made of it, now or later
            text = f"the adapter cannot be registered: {shortened(str(error))}"
            await self._fail(job, "adapter_not_registered", text, None)
            return
        if await self._publisher.must_wait(adapter):
            await note(
                self._store,
                self._clock,
                job,
                "Registered",
                f"Adapter {adapter.spec.served_name} is registered",
            )
            await self._store.set_status(job)
            return
        job.status.trained_tokens = result.count("trained_tokens") or 0
        job.status.finished_ms = self._clock.now_ms()
        job.status.fine_tuned_model = adapter.spec.served_name
        job.status.state = "succeeded"
        await self._bill(job, workload, result)
        await self._end(job, "Succeeded", f"The job has succeeded: {adapter.spec.served_name}")

    async def _bill(self, job: FineTune, workload: Workload | None, last: WorkerEvent | None) -> None:
        """Post the trained tokens. What can never be billed is kept for people to look at: the job ends."""
        try:
            await post_usage(self._store, self._usage, job, workload, last)
        except (InvalidInput, NotFound) as error:
            record = {
                "id": derived_id("use", job.metadata.uid, "training"),
                "kind": "training",
                "project": job.project,
                "key": job.spec.api_key,
                "model": job.spec.model,
                "resource": job.name,
                "model_identity": model_identity(job.base_key),
                "quantities": {"trained_tokens": job.status.trained_tokens},
            }
            await self._rejected.keep(record, error.message)

    async def _fail(self, job: FineTune, code: str, message: str, param: str | None) -> None:
        job.status.state = "failed"
        job.status.finished_ms = self._clock.now_ms()
        job.status.error_code, job.status.error_message, job.status.error_param = code, message, param
        await self._end(job, "Failed", message)

    async def _cancel(self, job: FineTune, workload: Workload | None, events: list[WorkerEvent]) -> None:
        """Stop the worker, take back an adapter just registered, and bill the tokens last reported.

        The count is stored before it is billed: what a worker still does until it is stopped changes neither.
        """
        if job.status.finished_ms is None:
            job.status.finished_ms = self._clock.now_ms()
            job = await self._store.set_status(job)
        job.status.state = "cancelled"
        taken = [event for event in events if event.offset_bytes < job.status.events_offset_bytes]
        await self._bill(job, workload, taken[-1] if taken else None)
        if workload is not None:
            await self._delete(workload)
        if await self._store.find(Adapter, adapter_name(job), job.project) is not None:
            await self._store.delete(Adapter, adapter_name(job), job.project)
        await self._end(job, "Cancelled", "The job has been cancelled")

    async def _end(self, job: FineTune, reason: Reason, message: str) -> None:
        job.status.estimated_finish_ms = None
        job.status.set_condition(
            "Finished",
            True,
            reason,
            message,
            now_ms=self._clock.now_ms(),
            generation=job.metadata.generation,
        )
        job = await self._store.set_status(job)
        await note(self._store, self._clock, job, reason, message)
        _log.info("job ended", job=job.name, project=job.project, state=job.status.state)


def _has_ended(workload: Workload) -> bool:
    return workload.status.phase in ("Succeeded", "Failed")


def _is_hopeless(workload: Workload) -> bool:
    """Whether the worker found its input bad: starting it again would change nothing."""
    return any(rank.exit_code == BAD_INPUT_EXIT_CODE for rank in workload.status.ranks)
