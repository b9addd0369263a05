"""Work on folders of jobs: in processes of their own, few at a time, one of a project, beside the passes of
the controller."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Any

from common.errors import NO_ROOM, ComputilityError, InvalidInput, TooLarge, Unavailable
from common.settings import JobsSettings
from common.telemetry import get_logger
from jobs.folder_worker import NO_MEMORY

_MODULE = "jobs.folder_worker"
_ROOT = Path(__file__).parents[1]
_CPU_SIGNALS = (-signal.SIGXCPU, -signal.SIGKILL)
_log = get_logger(__name__)

Worker = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Does what an order says. Raises ``InvalidInput`` or ``TooLarge`` for what the folder or archive is,
``Unavailable`` where it can be tried again."""


class FolderProcess:
    """Does one order in a process that may take only so much memory and time."""

    def __init__(self, settings: JobsSettings) -> None:
        self._settings = settings

    async def __call__(self, order: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings
        bounds = {
            "max_bytes": settings.max_folder_bytes,
            "max_entries": settings.max_folder_files,
            "cpu_seconds": settings.chore_seconds,
            "memory_bytes": settings.chore_memory_bytes,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(_ROOT), "PYTHONIOENCODING": "utf-8"},
        )
        try:
            async with asyncio.timeout(2 * settings.chore_seconds):
                output, trouble = await process.communicate(json.dumps({**order, **bounds}).encode())
        except TimeoutError as error:
            raise Unavailable("the folder of the job could not be worked on in time") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return self._told(process.returncode, output, trouble)

    def _told(self, code: int | None, output: bytes, trouble: bytes) -> dict[str, Any]:
        if code in _CPU_SIGNALS:
            raise InvalidInput(f"takes more than {self._settings.chore_seconds} s of CPU time to work on")
        if code != 0:
            last = trouble.decode("utf-8", "replace").strip().splitlines()[-1:]
            _log.error("work on the folder of a job broke", exit_code=code, error="".join(last))
            raise Unavailable("the folder of the job could not be worked on")
        told: dict[str, Any] = json.loads(output)
        fault = told.get("error")
        if fault is None:
            return told
        if fault == "too_large":
            raise TooLarge(told["message"])
        if fault == NO_ROOM:
            raise Unavailable(told["message"], code=NO_ROOM)
        raise InvalidInput("takes too much memory to work on" if fault == NO_MEMORY else told["message"])


class Chores:
    """What is under way, by key: begun once, and asked for until it is done."""

    def __init__(self, most: int) -> None:
        self._room = asyncio.Semaphore(most)
        self._turns: dict[str, asyncio.Lock] = {}
        self._tasks: dict[Hashable, asyncio.Task[dict[str, Any]]] = {}

    def result(
        self, key: Hashable, project: str, work: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any] | None:
        """What the work came to, told once; None while it is not done. Raises what it raised."""
        task = self._tasks.get(key)
        if task is None:
            self._tasks[key] = asyncio.create_task(self._run(project, work))
            return None
        if not task.done():
            return None
        del self._tasks[key]
        return task.result()

    async def _run(self, project: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        async with self._turns.setdefault(project, asyncio.Lock()), self._room:
            return await work()

    def forget(self, wanted: set[Hashable]) -> None:
        """Give up all others than these."""
        for key in [key for key in self._tasks if key not in wanted]:
            self._tasks.pop(key).cancel()
        if not self._tasks:
            self._turns.clear()

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())


def is_final(error: ComputilityError) -> bool:
    """Whether to try again is in vain."""
    return isinstance(error, InvalidInput | TooLarge)
