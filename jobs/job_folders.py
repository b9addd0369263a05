"""The folders of jobs, ``<home>/work/<name>.<end of uid>``: made before a job starts, gone soon after its
end."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from common.errors import ComputilityError, Forbidden, InvalidInput, NotFound, TooLarge, Unavailable
from common.limits import find_limits
from common.resources import File, Job
from common.resources.jobs import ARTEFACTS_PURPOSE, FOLDER_PURPOSE, OUTPUT_FOLDER
from common.settings import Settings
from common.store.port import Store
from common.telemetry import get_logger
from jobs.chores import Worker
from jobs.ports import Files

ARTEFACTS_FILE = "artefacts.tar.gz"
KEPT_SECONDS = 14 * 86_400
"""Of artefacts: their File goes by itself then."""
_CHUNK_BYTES = 256 * 1024
_log = get_logger(__name__)


class JobFolders:
    """Every method may be called again after a process was killed in the middle of it."""

    def __init__(self, store: Store, files: Files, worker: Worker, settings: Settings) -> None:
        self._store, self._files, self._worker = store, files, worker
        self._settings = settings

    def path(self, job: Job) -> Path:
        """Where the job's folder lies or would lie."""
        return self._settings.folder("work") / f"{job.name}.{job.metadata.uid[-8:]}"

    async def prepare(self, job: Job) -> dict[str, Any]:
        """Make the folder, with its files and what is to run. Raises ``InvalidInput`` or ``TooLarge`` where
        that can never be done."""
        archive = None
        if job.spec.folder:
            try:
                file = await self._files.get(job.project or "", job.spec.folder)
            except NotFound as error:
                raise InvalidInput(f"spec.folder: {error.message}", param="spec.folder") from error
            archive = str(self._files.content_path(file))
        order = {
            "command": job.spec.command,
            "env": job.spec.env,
            "output": OUTPUT_FOLDER,
            "file_bytes": self._settings.jobs.max_folder_bytes,
            "processes": self._settings.jobs.max_processes,
        }
        return await self._worker(
            {"do": "prepare", "folder": str(self.path(job)), "archive": archive, "order": order}
        )

    async def measure(self, job: Job) -> dict[str, Any]:
        """Raises ``TooLarge`` where the folder has grown beyond what one may have."""
        return await self._worker({"do": "measure", "folder": str(self.path(job))})

    async def keep(self, job: Job) -> dict[str, Any]:
        """Keep what the job left as a File, whose id is ``file``; empty where it left nothing.

        Raises ``Forbidden`` where the project has no room for it, ``InvalidInput`` or ``TooLarge`` where it
        can never be kept.
        """
        project, name = job.project or "", f"{job.name}.{job.metadata.uid[-8:]}.tar.gz"
        for known in await self._files.list(project, ARTEFACTS_PURPOSE):
            if known.spec.filename == name:
                return {"file": known.name}
        target = self.path(job) / ARTEFACTS_FILE
        if not job.spec.artefacts or not target.parent.is_dir():
            return {"file": ""}
        target.unlink(missing_ok=True)
        told = await self._worker(
            {
                "do": "collect",
                "folder": str(target.parent),
                "paths": job.spec.artefacts,
                "target": str(target),
            }
        )
        if not told["files"]:
            return {"file": ""}
        limits = await find_limits(self._store, project, self._settings.limits)
        made = await self._files.create(
            project,
            name,
            ARTEFACTS_PURPOSE,
            _chunks(target),
            KEPT_SECONDS,
            limits=limits,
            limit_bytes=self._settings.jobs.max_folder_bytes,
        )
        return {"file": made.name}

    async def remove(self, job: Job) -> None:
        """Nothing needs it any more."""
        await asyncio.to_thread(shutil.rmtree, self.path(job), ignore_errors=True)

    async def sweep(self, needed: Collection[Path], before: Collection[Path]) -> None:
        """Remove the folders of ``before`` that are not ``needed``: those of jobs that are gone."""
        for folder in set(before) - set(needed):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            _log.info("work folder of a job removed", folder=str(folder))

    async def all(self) -> list[Path]:
        """Every folder there is, those that are half made too."""
        work = self._settings.folder("work")
        return await asyncio.to_thread(lambda: [path for path in work.iterdir() if path.is_dir()])


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk


def file_problem(file: File | None, name: str) -> str:
    """Why no job can begin with this file; empty where one can."""
    if file is None:
        return f"there is no file {name!r} in the project"
    if file.spec.purpose != FOLDER_PURPOSE:
        return f"file {name} has purpose {file.spec.purpose!r}; upload it with purpose {FOLDER_PURPOSE!r}"
    return ""


def trouble_of(error: ComputilityError) -> str:
    """What keeps artefacts from being kept, in words."""
    if isinstance(error, Forbidden):
        return f"what it left waits for room: {error.message}"
    if isinstance(error, Unavailable):
        return f"what it left waits: {error.message}"
    what = "is too large to be kept" if isinstance(error, TooLarge) else "cannot be kept"
    return f"what it left {what}: {error.message}"
