"""The controller of Jobs: they become Workloads, and what they leave is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any, Literal

from common.clock import Clock
from common.errors import ComputilityError, Forbidden
from common.guard import ResourceGuard
from common.ids import derived_id
from common.labels import KUBERNETES_MARK
from common.loop import LoopHealth, run_passes
from common.resources import Job, Node, Queue, Workload
from common.resources.jobs import JobStatus
from common.settings import Settings
from common.store.kept import KeptList, owned_workloads
from common.store.port import Event, Store
from common.telemetry import get_logger
from jobs.chores import Chores, FolderProcess, Worker, is_final
from jobs.core.outcome import Asked, Outcome, RankEnd, Seen, exit_code_of, judge
from jobs.job_folders import JobFolders, trouble_of
from jobs.job_workload import job_workload, refusal_of
from jobs.ports import Files

KINDS = ("Job", "Workload", "Queue")
"""What it looks at in the store."""
TICK_SECONDS = 1.0
IDLE_TICK_SECONDS = 10.0
MEASURE_SECONDS = 30.0
SWEEP_SECONDS = 60.0
TRY_KEEPING_SECONDS = 30.0
GIVE_UP_KEEPING_SECONDS = 86_400.0
_ORDER = ("Pending", "Running", "Retrying", "Stopping", "Succeeded", "Failed", "Cancelled")
ENDING = "Ending"
"""The condition that says why a job ends or has ended."""
_LEVELS: dict[str, Literal["info", "warning", "error"]] = {
    "Failed": "error",
    "Retrying": "warning",
    "Stopping": "warning",
}
_log = get_logger(__name__)


class JobController:
    """Owns the Workloads, folders and status of Jobs.

    Every pass looks at what is stored and on disk and does what is left to do. Each step may be done again,
    so the process may end at any point.
    """

    def __init__(
        self, store: Store, files: Files, settings: Settings, clock: Clock, worker: Worker | None = None
    ) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._workloads = owned_workloads(store, Job.__name__)
        self._jobs = KeptList(store, Job)
        self.folders = JobFolders(store, files, worker or FolderProcess(settings.jobs), settings)
        self.chores = Chores(settings.jobs.max_chores)
        self._guard = ResourceGuard("jobs", store, clock)
        self._wanted: set[Hashable] = set()
        self._next_ms: dict[Hashable, int] = {}
        self._next_sweep_ms = 0
        self._is_busy = True

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Pass after pass until ``stop`` is set."""
        await run_passes(
            "jobs", self.step, self._store, stop, self._tick_seconds, health, rests=True, kinds=KINDS
        )

    def _tick_seconds(self) -> float:
        return TICK_SECONDS if self._is_busy else IDLE_TICK_SECONDS

    async def step(self) -> None:
        """One pass over all jobs. The trouble of one holds up no other."""
        self._wanted = set()
        jobs = await self._jobs.copies()
        self._is_busy = any(not job.has_ended for job in jobs)
        workloads = await self._owned({job.metadata.uid for job in jobs})
        for job in jobs:
            await self._guard.handle(job, partial(self._job, job, workloads.get(job.metadata.uid)))
        self.chores.forget(self._wanted)
        self._next_ms = {key: due for key, due in self._next_ms.items() if key in self._wanted}
        if self._clock.now_ms() >= self._next_sweep_ms and self._guard.items.may_try(("sweep",)):
            with self._guard.items.item("Folder", ("sweep",)):
                await self._sweep()
        self._guard.items.forget_gone()

    async def _owned(self, job_uids: set[str]) -> dict[str, Workload]:
        """Workloads of jobs by the job's uid; those whose job is gone are deleted."""
        owned: dict[str, Workload] = {}
        for workload in await self._workloads.now():
            owner = workload.metadata.owner
            if owner is not None and owner.uid in job_uids:
                owned[owner.uid] = workload
            else:
                with self._guard.items.item("Workload", ("delete", workload.metadata.uid)):
                    await self._store.delete(Workload, workload.name, workload.project)
        return owned

    async def _job(self, job: Job, workload: Workload | None) -> None:
        if job.has_ended:
            await self._expire(job)
            return
        before = job.status.model_copy(deep=True)
        seen = _seen(workload)
        _observe(job.status, workload, seen)
        trouble = await self._trouble(job, seen)
        outcome = judge(_asked(job, trouble), seen, self._clock.now_ms())
        if outcome.final:
            await self._collect(job, outcome, before)
            return
        self._tell(job, outcome)
        if seen is None:
            await self._start(job, before)
            return
        await self._save(job, before)
        if outcome.stop and workload is not None and not workload.spec.suspend:
            stopped = workload.copy_deep()
            stopped.spec.suspend = True
            await self._store.apply(stopped)

    async def _start(self, job: Job, before: JobStatus) -> None:
        """Make the folder, then the Workload that runs in it."""
        try:
            nodes = await self._store.list(Node)
            refused = refusal_of(job.spec, self._settings, nodes)
            if refused is not None:
                raise Forbidden(f"{refused[0]}: {refused[1]}", param=refused[0])
            if self._chore(job, "prepare", self.folders.prepare) is None:
                await self._save(job, before)
                return
            if not await self._may_take_name(job):
                return
            queue = await self._store.find(Queue, job.spec.queue)
            workload = job_workload(job, queue, self.folders.path(job), self._settings)
        except (ComputilityError, ValueError) as error:
            if isinstance(error, ComputilityError) and not (is_final(error) or isinstance(error, Forbidden)):
                raise
            text = error.message if isinstance(error, ComputilityError) else str(error)
            await self._collect(job, Outcome("Collecting", "CannotStart", text, final="Failed"), before)
            return
        job.status.workload = workload.name
        job.status.confined = not self._settings.jobs.allow_unconfined
        await self._save(job, before)
        await self._store.apply(workload)

    async def _may_take_name(self, job: Job) -> bool:
        """Whether the Workload can be called like the job; not yet, while that of a job before still goes.
        Raises ``Conflict`` where somebody else has it."""
        taken = await self._store.find(Workload, job.name, job.project)
        if taken is None:
            return True
        owner = taken.metadata.owner
        if owner is None or owner.kind != Job.__name__:
            raise Forbidden(f"a Workload {job.name} is there that no job made; choose another name")
        return False

    def _chore(
        self, job: Job, name: str, work: Callable[[Job], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any] | None:
        key = (name, job.metadata.uid)
        self._wanted.add(key)
        return self.chores.result(key, job.project or "", partial(work, job))

    async def _trouble(self, job: Job, seen: Seen | None) -> str:
        """Why the job may not go on: its folder has grown too large. Looked at now and then while it runs."""
        if seen is None or seen.phase not in ("Starting", "Running", "Ready", "Restarting"):
            return ""
        key = ("measure", job.metadata.uid)
        self._wanted.add(key)
        if self._clock.now_ms() < self._next_ms.setdefault(key, self._due(MEASURE_SECONDS)):
            return ""
        try:
            if self._chore(job, "measure", self.folders.measure) is not None:
                self._next_ms[key] = self._due(MEASURE_SECONDS)
        except ComputilityError as error:
            self._next_ms[key] = self._due(MEASURE_SECONDS)
            return f"its {error.message}" if is_final(error) else ""
        return ""

    def _due(self, seconds: float) -> int:
        return self._clock.now_ms() + round(1000 * seconds)

    async def _collect(self, job: Job, outcome: Outcome, before: JobStatus) -> None:
        """Its processes have ended: keep what it left, then say how it ended. Where there is no room it waits
        for a day; cancelling it ends the wait."""
        status, key = job.status, ("keep", job.metadata.uid)
        if status.phase != "Collecting":
            self._tell(job, outcome)
            status.finished_ms = self._clock.now_ms()
            await self._save(job, before)
            before = job.status.model_copy(deep=True)
        self._wanted.add(key)
        if self._clock.now_ms() < self._next_ms.get(key, 0) and not job.spec.cancelled:
            return
        try:
            kept = self._chore(job, "keep", self.folders.keep)
        except ComputilityError as error:
            trouble = trouble_of(error)
            if is_final(error) or job.spec.cancelled or self._has_waited(job):
                await self._end(job, outcome, trouble)
                return
            self._next_ms[key] = self._due(TRY_KEEPING_SECONDS)
            status.message = trouble
            await self._save(job, before)
            return
        if kept is not None:
            status.artefacts = str(kept["file"])
            await self._end(job, outcome, "")

    def _tell(self, job: Job, outcome: Outcome) -> None:
        status = job.status
        status.phase, status.reason, status.message = outcome.phase, outcome.reason, outcome.message
        if outcome.stop or outcome.final:
            now_ms, generation = self._clock.now_ms(), job.metadata.generation
            status.set_condition(
                ENDING, True, outcome.reason, outcome.message, now_ms=now_ms, generation=generation
            )

    def _has_waited(self, job: Job) -> bool:
        ended_ms = job.status.finished_ms or self._clock.now_ms()
        return self._clock.now_ms() > ended_ms + 1000 * GIVE_UP_KEEPING_SECONDS

    async def _end(self, job: Job, outcome: Outcome, trouble: str) -> None:
        status, before = job.status, job.status.model_copy(deep=True)
        status.phase = outcome.final or "Failed"
        status.reason = outcome.reason
        status.message = "; ".join(text for text in (outcome.message, trouble) if text)
        succeeded = status.phase == "Succeeded"
        status.set_condition(
            "Finished",
            True,
            outcome.reason,
            status.message,
            now_ms=self._clock.now_ms(),
            generation=job.metadata.generation,
        )
        status.exit_code = 0 if succeeded else status.exit_code
        await self._save(job, before)
        await self.folders.remove(job)
        _log.info("job ended", job=job.name, project=job.project, phase=status.phase)

    async def _save(self, job: Job, before: JobStatus) -> None:
        """Write the status where it has changed, and an event for a new phase before: each once per attempt,
        whoever is killed in between."""
        status = job.status
        if status == before:
            return
        if status.phase not in (before.phase, "Collecting"):
            await self._store.record(self._event(job))
        job.metadata = (await self._store.set_status(job)).metadata

    def _event(self, job: Job) -> Event:
        status = job.status
        # Events of one millisecond sort by their ids.
        place = f"{status.attempts:06d}-{_ORDER.index(status.phase)}"
        return Event(
            id=f"{derived_id('jobevent', job.metadata.uid)}-{place}",
            time_ms=self._clock.now_ms(),
            level=_LEVELS.get(status.phase, "info"),
            reason=status.reason if status.phase == "Stopping" else status.phase,
            message=status.message or _SAID.get(status.phase, status.phase),
            kind=job.kind,
            name=job.name,
            project=job.project,
        )

    async def _expire(self, job: Job) -> None:
        """Delete a job whose time is over. One that Kubernetes has would be made anew, and run again."""
        ttl = job.spec.ttl_seconds_after_finished
        if ttl is None or KUBERNETES_MARK in job.metadata.annotations:
            return
        if self._clock.now_ms() >= (job.status.finished_ms or 0) + 1000 * ttl:
            await self._store.delete(Job, job.name, job.project)

    async def _sweep(self) -> None:
        """Folders of jobs that are gone, or have ended, go; never while what they need is not known."""
        self._next_sweep_ms = self._due(SWEEP_SECONDS)
        if await self._store.set_aside(Job) or await self._store.set_aside(Workload):
            return
        folders = await self.folders.all()  # before jobs: one that is made after the look is not among them
        needed = [self.folders.path(job) for job in await self._store.list(Job) if not job.has_ended]
        needed += [path.with_name(f".{path.name}") for path in needed]
        await self.folders.sweep(needed, folders)


_SAID = {
    "Pending": "it waits for devices",
    "Running": "its ranks run",
    "Succeeded": "all of its ranks ended with 0",
}


def _seen(workload: Workload | None) -> Seen | None:
    if workload is None:
        return None
    status = workload.status
    ranks = tuple(RankEnd(rank.rank, rank.exit_code, rank.finished_ms) for rank in status.ranks)
    started = [rank.started_ms for rank in status.ranks if rank.started_ms is not None]
    message = "; ".join(reason.message for reason in status.pending) or status.message
    idle = any(rank.idle for rank in status.ranks)
    return Seen(status.phase, status.attempt, ranks, min(started, default=None), message, idle)


def _observe(status: JobStatus, workload: Workload | None, seen: Seen | None) -> None:
    """What is seen of the ranks stays when they are gone."""
    if workload is None or seen is None:
        return
    status.workload = workload.name
    status.attempts = max(status.attempts, seen.attempt)
    if status.started_ms is None:
        status.started_ms = seen.started_ms
    if seen.ranks and status.finished_ms is None:
        status.exit_codes = [rank.exit_code for rank in sorted(seen.ranks, key=lambda rank: rank.rank)]
        status.exit_code = exit_code_of(seen.ranks)


def _asked(job: Job, trouble: str) -> Asked:
    """What holds of a job; once it ends, why."""
    ending = job.status.condition(ENDING)
    return Asked(
        cancelled=job.spec.cancelled,
        deadline_seconds=job.spec.deadline_seconds,
        started_ms=job.status.started_ms,
        ending=ending.reason if ending is not None else "",
        ending_message=ending.message if ending is not None else "",
        trouble=trouble,
    )
