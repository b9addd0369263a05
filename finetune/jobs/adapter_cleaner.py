"""Removes the files of adapters that are registered no more."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from common.clock import Clock
from common.resources import Adapter, FineTune
from common.settings import Settings
from common.sources import local_path
from common.store.port import Store
from common.telemetry import get_logger
from finetune.jobs.trainer_workload import ADAPTER_PREFIX, adapter_name
from finetune.objects import TERMINAL

GRACE_SECONDS = 600
_PAUSE_SECONDS = 30
_MARK = ".unregistered"

_log = get_logger(__name__)


class AdapterCleaner:
    """Deletes a job's adapter folder ten minutes after it was first seen without an Adapter.

    By then the engines have let the adapter go. Folders of unfinished jobs stay, and so do all that jobs did
    not make. When a folder was first seen so is written into it, so it outlives this process.
    """

    def __init__(self, store: Store, settings: Settings, clock: Clock) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._next_ms = 0

    async def step(self) -> None:
        """Look at all folders, at most twice a minute. Where there are none, the store is not asked."""
        now_ms = self._clock.now_ms()
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + 1000 * _PAUSE_SECONDS
        folder = self._settings.folder("adapters")
        if await asyncio.to_thread(lambda: next(_job_adapters(folder), None)) is None:
            return
        if await self._store.set_aside(Adapter) or await self._store.set_aside(FineTune):
            return  # what they need is not known
        # Jobs before Adapters: a job that ends in between has registered its Adapter by then.
        jobs = [job for job in await self._store.list(FineTune) if job.status.state not in TERMINAL]
        adapters = await self._store.list(Adapter)
        needed = {folder / (job.project or "") / adapter_name(job) for job in jobs}
        for adapter in adapters:
            path = local_path(adapter.spec.path, self._settings.home)
            needed |= {path} if path else set()
        await asyncio.to_thread(_sweep, folder, needed, now_ms)


def _sweep(adapters: Path, needed: Collection[Path], now_ms: int) -> None:
    for folder in _job_adapters(adapters):
        mark = folder / _MARK
        if folder.with_name(folder.name.removeprefix(".")) in needed:
            mark.unlink(missing_ok=True)
        elif not mark.exists():
            mark.write_text(str(now_ms))
        elif now_ms - _time_in(mark) >= 1000 * GRACE_SECONDS:
            shutil.rmtree(folder)
            _log.info("adapter files removed", folder=str(folder))


def _job_adapters(adapters: Path) -> Iterator[Path]:
    """The folders ``<project>/ft-…``, also those that a killed process left half copied under a dot."""
    for folder in adapters.glob("*/*"):
        made_by_job = folder.name.removeprefix(".").startswith(ADAPTER_PREFIX)
        if made_by_job and folder.is_dir() and not folder.is_symlink():
            yield folder


def _time_in(mark: Path) -> int:
    """When the folder was marked; one whose mark a crash left empty is due."""
    text = mark.read_text()
    return int(text) if text.isdigit() else 0
