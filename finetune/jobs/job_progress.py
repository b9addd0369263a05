"""Takes over what a worker tells: into the job's status, and as events that are recorded once."""

from __future__ import annotations

import asyncio

from common.clock import Clock
from common.ids import derived_id
from common.resources import FineTune, Workload
from common.resources.tuning import Checkpoint
from common.resources.workload import STOPS
from common.store.port import Store
from common.vocabulary import harmless, shortened
from finetune.core.worker_events import WorkerEvent, last_of
from finetune.jobs.job_events import note, note_stop, record_worker_events
from finetune.jobs.job_folder import JobFolder

MAX_CHECKPOINTS = 500
MAY_RUN = "MayRun"
"""The condition that is false while a spent budget or a pause keeps the job from running."""
MAX_RECORDED = 10_000
"""Lines of one job that become events; of later ones only the numbers are taken."""
_BEGUN = ("Running", "Ready", "Restarting", "CrashLoopBackOff", "Stopping", "Succeeded", "Failed")


class JobProgress:
    """Reads ``events.jsonl`` from where it stopped; ``status.events_offset_bytes`` remembers."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def take_over(self, job: FineTune, workload: Workload | None, folder: JobFolder) -> None:
        """Record new lines as events and change ``job.status``, which the caller stores.

        Events come before the status: a process that dies between them records the same ids again.
        """
        if workload is not None:
            await self._follow(job, workload)
            await self._tell_of_stop(job, workload)
        while await self._take_part(job, folder):
            pass

    async def _follow(self, job: FineTune, workload: Workload) -> None:
        """A job that was stopped and waits for a device is queued again; its start stays the first one."""
        status, phase = job.status, workload.status.phase
        if status.state == "queued" and phase in _BEGUN:
            status.state = "running"
            status.started_ms = status.started_ms or _start_of(workload) or self._clock.now_ms()
            await note(self._store, self._clock, job, "Running", "The job has started on its device")
        elif status.state == "running" and phase == "Pending":
            status.state = "queued"

    async def _tell_of_stop(self, job: FineTune, workload: Workload) -> None:
        """Say in a condition whether the job may run, and in an event when something begins to keep it from
        that."""
        waits = workload.status.phase == "Pending"
        stop = next((one for one in workload.status.pending if waits and one.code in STOPS), None)
        known = job.status.condition(MAY_RUN)
        if stop is None and known is None:
            return
        if stop is not None and (known is None or known.status == "True"):
            text, attempt = f"The job waits: {stop.message}", workload.status.attempt
            await note_stop(self._store, self._clock, job, attempt, stop.code, text)
        job.status.set_condition(
            MAY_RUN,
            stop is None,
            stop.code if stop is not None else MAY_RUN,
            stop.message if stop is not None else "",
            now_ms=self._clock.now_ms(),
            generation=job.metadata.generation,
        )

    async def _take_part(self, job: FineTune, folder: JobFolder) -> bool:
        """Take the next few megabytes; False when there was nothing."""
        events, offset = await asyncio.to_thread(folder.new_events, job.status.events_offset_bytes)
        await self._record(job, events)
        for event in events:
            _apply(job, event)
        job.status.events_offset_bytes, before = offset, job.status.events_offset_bytes
        return offset > before

    async def _record(self, job: FineTune, events: list[WorkerEvent]) -> None:
        status = job.status
        room = MAX_RECORDED - status.events_recorded
        await record_worker_events(self._store, self._clock, job, events[:room])
        if len(events) > room:
            text = f"The first {MAX_RECORDED} events are listed; the result file has the numbers of all steps"
            await note(self._store, self._clock, job, "EventsCut", text)
        status.events_recorded += min(room, len(events))


def _start_of(workload: Workload) -> int | None:
    return min((r.started_ms for r in workload.status.ranks if r.started_ms is not None), default=None)


def _apply(job: FineTune, event: WorkerEvent) -> None:
    status, step = job.status, event.count("step")
    if event.type in ("metrics", "result"):
        status.step = max(status.step, step or event.count("steps") or 0)
        status.total_steps = event.count("total_steps") or status.total_steps
        tokens = event.count("trained_tokens")
        status.trained_tokens = tokens if tokens is not None else status.trained_tokens
        status.estimated_finish_ms = _estimate(job, event)
    known = {checkpoint.step for checkpoint in status.checkpoints}
    if event.type == "checkpoint" and step is not None and step not in known and len(known) < MAX_CHECKPOINTS:
        checkpoint = Checkpoint(
            id=derived_id("ftckpt", job.metadata.uid, step),
            step=step,
            path=shortened(harmless(str(event.data.get("path", "")))),
            created_ms=event.created_at * 1000,
            metrics=event.metrics,
        )
        status.checkpoints = [*status.checkpoints, checkpoint]


def _estimate(job: FineTune, event: WorkerEvent) -> int | None:
    """When the last step will be done if all steps take as long as those so far."""
    started_ms, step, total = job.status.started_ms, job.status.step, job.status.total_steps
    if started_ms is None or not step or not total:
        return None
    spent_ms = max(0, event.created_at * 1000 - started_ms)
    return started_ms + spent_ms * total // step


def failure_of(workload: Workload, events: list[WorkerEvent]) -> tuple[str, str, str | None]:
    """Code, message and param of a job that ended without a result: the worker's words or its exit code."""
    told = last_of(events, "error")
    if told is not None:
        code, param = told.data.get("code"), told.data.get("param")
        return str(code or "training_failed"), told.message, str(param) if param else None
    codes = [str(rank.exit_code) for rank in workload.status.ranks if rank.exit_code is not None]
    exits = f"exit code {', '.join(codes)}" if codes else "no exit code"
    text = f"training ended without a result ({exits})"
    detail = workload.status.message
    return "training_failed", f"{text}: {detail}" if detail else text, None
