"""The controller of batches: their files are checked, their lines asked for, their results kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

from batches import metrics
from batches.check import Check, ProcessCheck
from batches.check_file import Verdict
from batches.core.course import Seen, next_step
from batches.core.line import LineProblem
from batches.files import ResultFiles
from batches.gateway_link import GatewayLink
from batches.notices import Reason, note
from batches.running.chores import Chores
from batches.running.keeping import EventPoster
from batches.running.places import Places
from batches.running.run import BatchRun, RunParts, Sleep
from batches.standing import Standing
from billing.core.sink import UsageSink
from billing.rejected import rejected_usage
from common.clock import Clock
from common.errors import ComputilityError, NotFound
from common.guard import ResourceGuard
from common.loop import LoopHealth, run_passes
from common.resources import Batch
from common.resources.batches import BatchProblem, BatchState
from common.settings import Settings
from common.store.batch_lines import BatchLines
from common.store.kept import KeptList
from common.store.port import Store
from common.telemetry import get_logger
from common.vocabulary import SERVED_NAME_CHARACTERS, shortened
from finetune.files.file_service import FileService

KINDS = ("Batch",)
"""What it looks at in the store."""
TICK_SECONDS, IDLE_TICK_SECONDS = 1.0, 10.0
SWEEP_SECONDS = 600.0
_DAY_MS = 86_400_000
_REASONS: dict[BatchState, Reason] = {
    "completed": "Completed",
    "expired": "Expired",
    "cancelled": "Cancelled",
    "failed": "Failed",
}
_log = get_logger("batches")


class BatchController:
    """Owns the status of Batches, what is kept of their lines, and their files.

    Every pass looks at what is stored and does what is left to do. Each step may be done again, so the
    process may end at any point.
    """

    def __init__(
        self,
        store: Store,
        usage: UsageSink,
        files: FileService,
        lines: BatchLines,
        settings: Settings,
        clock: Clock,
        check: Check | None = None,
        link: GatewayLink | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._store, self._files, self._lines, self._clock = store, files, lines, clock
        self._settings, self._check = settings.batches, check or ProcessCheck(settings)
        self._batches = KeptList(store, Batch)
        self._guard = ResourceGuard("batches", store, clock)
        self._results = ResultFiles(files, lines, settings.batches)
        self._standing = Standing(store, files, lines, settings, clock)
        self._poster = EventPoster(lines, usage, rejected_usage(settings))
        self._link = link or GatewayLink(settings, clock)
        places = Places(settings.batches.lines_at_once)
        self._parts = RunParts(lines, self._link, places, self._poster, settings.batches, clock, sleep)
        self._chores = Chores()
        self._runs: dict[str, BatchRun] = {}
        self._running: Counter[str] = Counter()
        self._checking: Counter[str] = Counter()
        self._next_sweep_ms = 0
        self._is_busy = True

    async def run(self, stop: asyncio.Event, health: LoopHealth | None = None) -> None:
        """Pass after pass until ``stop`` is set."""
        try:
            await run_passes("batches", self.step, self._store, stop, self._tick_seconds, health, kinds=KINDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Give up what is under way; what is kept stays."""
        await self._chores.end_others(())
        await self._link.close()

    def _tick_seconds(self) -> float:
        return TICK_SECONDS if self._is_busy else IDLE_TICK_SECONDS

    async def step(self) -> None:
        """One pass over all batches, the oldest first. The trouble of one holds up no other."""
        batches = sorted(await self._batches.copies(), key=lambda b: (b.metadata.created_ms, b.name))
        open_ = [batch for batch in batches if not batch.has_ended]
        self._is_busy = bool(open_)
        metrics.show(open_)
        self._running.clear()
        self._checking.clear()
        for batch in open_:
            await self._guard.handle(batch, partial(self._batch, batch))
        known = {batch.metadata.uid for batch in open_}
        await self._chores.end_others(known)
        self._runs = {uid: run for uid, run in self._runs.items() if uid in known}
        if self._clock.now_ms() >= self._next_sweep_ms and self._guard.items.may_try(("sweep",)):
            with self._guard.items.item("Sweep", ("sweep",)):
                await self._sweep(batches, known)
        self._guard.items.forget_gone()

    async def _batch(self, batch: Batch) -> None:
        state = batch.status.state
        if state in ("validating", "in_progress"):
            await self._go_on(batch)
        else:
            await self._finish(batch)

    async def _go_on(self, batch: Batch) -> None:
        """Where it is to go by itself; else what its state asks for."""
        status, uid = batch.status, batch.metadata.uid
        totals = await self._lines.totals(uid)
        trouble = await self._standing.trouble_of(batch)
        seen = Seen(
            status.state,
            status.ending,
            batch.spec.cancelled or trouble is not None,
            status.total,
            totals.lines,
            self._clock.now_ms(),
            status.expires_ms or batch.metadata.created_ms,
        )
        step = next_step(seen)
        if step.state != status.state:
            for sort in ("run", "check"):
                await self._chores.end(sort, uid)
            if trouble is not None and not batch.spec.cancelled and step.state == "cancelling":
                status.errors = [trouble]
            status.state, status.ending = step.state, step.ending
            stamp = "cancelling_ms" if step.state == "cancelling" else "finalizing_ms"
            setattr(status, stamp, self._clock.now_ms())
            await self._finish(await self._store.set_status(batch))
        elif status.state == "validating":
            await self._validate(batch)
        else:
            await self._run(batch)

    async def _validate(self, batch: Batch) -> None:
        uid, project = batch.metadata.uid, batch.project or ""
        self._checking[project] += 1
        if self._checking[project] > 1:  # one of each project at a time: else one keeps all others waiting
            return
        try:
            file = await self._files.get(project, batch.spec.input_file)
            path = self._files.content_path(file)
        except NotFound as error:
            await self._fail(batch, [LineProblem("input_file_gone", error.message, None, "input_file_id")])
            return
        self._chores.begin("check", uid, partial(self._check, path, batch.spec.endpoint))
        verdict: Verdict | None = self._chores.take("check", uid)
        if verdict is None:
            return
        if verdict.problem_count:
            await self._fail(batch, verdict.problems, verdict.problem_count)
            return
        status = batch.status
        status.state, status.total, status.model = (
            "in_progress",
            verdict.lines,
            shortened(verdict.model, SERVED_NAME_CHARACTERS),
        )
        status.in_progress_ms = self._clock.now_ms()
        batch = await self._store.set_status(batch)
        await note(self._store, self._clock, batch, "Validated", f"The file has {verdict.lines} requests")
        await self._run(batch)

    async def _run(self, batch: Batch) -> None:
        """Keep it under way, in its turn, and tell how far it is."""
        uid, project = batch.metadata.uid, batch.project or ""
        self._running[project] += 1
        if self._running[project] <= self._settings.batches_at_once_per_project:
            if not self._chores.is_begun("run", uid):
                digest = await self._standing.digest_of(batch)
                file = await self._files.get(project, batch.spec.input_file)
                path = self._files.content_path(file)
                self._runs[uid] = BatchRun(batch, path, digest, self._parts)
                self._chores.begin("run", uid, self._runs[uid].run)
            self._chores.take("run", uid)  # raises what ended it before its time
        before = batch.status.model_copy(deep=True)
        await self._count(batch)
        self._tell_waiting(batch)
        if batch.status != before:
            await self._store.set_status(batch)

    async def _count(self, batch: Batch) -> None:
        totals, status = await self._lines.totals(batch.metadata.uid), batch.status
        status.completed, status.failed = totals.completed, totals.failed
        status.prompt_tokens, status.cached_tokens = totals.prompt_tokens, totals.cached_tokens
        status.completion_tokens = totals.completion_tokens

    def _tell_waiting(self, batch: Batch) -> None:
        """The condition that says whether lines are answered, and what keeps them."""
        run = self._runs.get(batch.metadata.uid)
        why = run.why if run is not None else "other batches of the project are first"
        reason = "Waits" if why else "Answers"
        now_ms, generation = self._clock.now_ms(), batch.metadata.generation
        batch.status.set_condition("Progressing", not why, reason, why, now_ms=now_ms, generation=generation)

    async def _finish(self, batch: Batch) -> None:
        """Post what is to be billed, write the files, and say how it ended."""
        uid, status = batch.metadata.uid, batch.status
        await self._poster.post(uid)
        self._chores.begin("files", uid, partial(self._results.write, batch))
        written: tuple[str, str] | None = self._chores.take("files", uid)
        if written is None:
            return
        await self._count(batch)
        status.failed += await self._results.undone(batch)
        status.output_file, status.error_file = written
        status.state = status.ending or "completed"
        setattr(status, f"{status.state}_ms", self._clock.now_ms())
        told = f"{status.completed} of {status.total} lines answered, {status.failed} not"
        await self._end(batch, told)
        await self._lines.forget(uid)

    async def _fail(self, batch: Batch, problems: object, count: int = 1) -> None:
        """Its file is wrong."""
        assert isinstance(problems, list | tuple)
        status = batch.status
        status.errors = [BatchProblem(**vars(problem)) for problem in problems]
        status.state, status.failed_ms = "failed", self._clock.now_ms()
        first = status.errors[0]
        where = f"line {first.line}: " if first.line else ""
        rest = f", and {count - 1} more" if count > 1 else ""
        await self._end(batch, f"{where}{first.message}{rest}")

    async def _end(self, batch: Batch, message: str) -> None:
        reason = _REASONS[batch.status.state]
        now_ms, generation = self._clock.now_ms(), batch.metadata.generation
        batch.status.set_condition(
            "Progressing", False, reason, message, now_ms=now_ms, generation=generation
        )
        batch = await self._store.set_status(batch)
        await note(self._store, self._clock, batch, reason, message)
        _log.info("batch ended", batch=batch.name, project=batch.project, state=batch.status.state)

    async def _sweep(self, batches: list[Batch], open_: set[str]) -> None:
        """Remove batches that ended long ago, and outcomes that no batch needs."""
        now_ms = self._clock.now_ms()
        self._next_sweep_ms = now_ms + int(1000 * SWEEP_SECONDS)
        if await self._store.set_aside(Batch):
            return  # what they need is not known
        for uid in await self._lines.batches():
            if uid not in open_:
                await self._poster.post(uid)
                await self._lines.forget(uid)
        oldest_ms = now_ms - int(self._settings.keep_days * _DAY_MS)
        for batch in batches:
            if batch.has_ended and _ended_ms(batch) < oldest_ms:
                try:
                    await self._store.delete(Batch, batch.name, batch.project)
                except ComputilityError as error:
                    _log.info("a batch was not removed", batch=batch.name, error=error.message)


def _ended_ms(batch: Batch) -> int:
    status = batch.status
    times = (status.completed_ms, status.failed_ms, status.expired_ms, status.cancelled_ms)
    return max((time_ms for time_ms in times if time_ms is not None), default=batch.metadata.created_ms)
