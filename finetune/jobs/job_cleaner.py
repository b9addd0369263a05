"""Removes the work folders of jobs that ended long ago."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from pathlib import Path

from common.clock import Clock
from common.resources import FineTune, Workload
from common.retention import expired, look
from common.settings import Settings
from common.store.port import Store
from common.telemetry import get_logger
from finetune.jobs.job_folder import JobFolder
from finetune.objects import TERMINAL

SWEEP_SECONDS = 600
ENDED = frozenset(("Succeeded", "Failed"))

_log = get_logger(__name__)


class JobCleaner:
    """Keeps work folders (orders, checkpoints, events) as ``settings.retention`` says. That of a job that has
    not ended, or whose trainer is still there, stays whatever its age."""

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._next_ms = 0

    async def step(self) -> None:
        """Look at all folders, once in ten minutes."""
        now_ms = self._clock.now_ms()
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + 1000 * SWEEP_SECONDS
        if await self._store.set_aside(FineTune) or await self._store.set_aside(Workload):
            return  # what they need is not known
        # Folders before jobs: one that a job begins after the look is not among them.
        jobs = self._settings.folder("jobs")
        folders = await asyncio.to_thread(lambda: [path for path in jobs.iterdir() if path.is_dir()])
        trainers = [w for w in await self._store.list(Workload) if w.status.phase not in ENDED]
        training = {w.metadata.owner.uid for w in trainers if w.metadata.owner is not None}
        needed = {
            JobFolder(jobs, job).path
            for job in await self._store.list(FineTune)
            if job.status.state not in TERMINAL or job.metadata.uid in training
        }
        await asyncio.to_thread(self._sweep, folders, needed, now_ms)

    def _sweep(self, folders: Collection[Path], needed: Collection[Path], now_ms: int) -> None:
        found = [kept for path in folders if path not in needed and (kept := look(path))]
        keep = self._settings.retention
        for folder in expired(found, now_ms, keep.job_days, keep.job_bytes):
            shutil.rmtree(folder, ignore_errors=True)
            _log.info("work folder of a job removed", folder=str(folder))
