"""Checking the files of batches: never in the process that keeps the platform alive, and one at a time."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batches.check_file import EXIT_NO_MEMORY, CheckOrders, Verdict, verdict_of
from batches.core.line import LineProblem
from common.errors import Unavailable
from common.settings import Settings
from common.telemetry import get_logger

Check = Callable[[Path, str], Coroutine[Any, Any, Verdict]]
"""What is told of a file by its path and the endpoint of its batch."""
_MODULE = "batches.check_file"
_ROOT = Path(__file__).parents[1]
_PATIENCE_SECONDS = 30
"""By the clock, beyond twice the CPU time: on a busy machine a process waits for its turn."""
_CPU_SIGNALS = (-signal.SIGXCPU, -signal.SIGKILL)
_log = get_logger(__name__)


class ProcessCheck:
    """Checks a file in a process that may take only so much memory and time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = asyncio.Lock()

    async def __call__(self, path: Path, endpoint: str) -> Verdict:
        """The verdict. Raises ``Unavailable`` where the machine does not come to it in time."""
        async with self._turn:
            return await self._checked(path, endpoint)

    def orders(self, path: Path, endpoint: str) -> CheckOrders:
        """What the process is told."""
        batches, gateway, tuning = self._settings.batches, self._settings.gateway, self._settings.tuning
        return CheckOrders(
            path=str(path),
            endpoint=endpoint,
            max_lines=batches.max_lines,
            max_line_bytes=min(batches.max_line_bytes, gateway.body_limit_bytes),
            cpu_seconds=tuning.check_timeout_seconds,
            memory_bytes=tuning.check_memory_bytes,
            sequences=gateway.max_sequences_per_request,
            inputs=gateway.max_inputs_per_request,
            values=gateway.max_values_per_request,
            media_hosts=[host.lower() for host in self._settings.engine.media_domains],
        )

    async def _checked(self, path: Path, endpoint: str) -> Verdict:
        orders = self.orders(path, endpoint)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _MODULE, json.dumps(asdict(orders))),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(_ROOT), "PYTHONIOENCODING": "utf-8"},
        )
        try:
            async with asyncio.timeout(2 * orders.cpu_seconds + _PATIENCE_SECONDS):
                output, trouble = await process.communicate()
        except TimeoutError as error:
            raise Unavailable("the file of a batch could not be checked in time", "check_timeout") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return _verdict(process.returncode, output, trouble, orders)


def _verdict(code: int | None, output: bytes, trouble: bytes, orders: CheckOrders) -> Verdict:
    if code == 0:
        return verdict_of(output)
    if code in _CPU_SIGNALS:
        return _beyond(f"takes more than {orders.cpu_seconds:g} s of CPU time to check")
    if code == EXIT_NO_MEMORY:
        return _beyond("takes too much memory to check")
    last = trouble.decode("utf-8", "replace").strip().splitlines()[-1:]
    _log.error("the check of a batch's file broke", exit_code=code, error="".join(last))
    raise Unavailable("the file of a batch could not be checked", "check_failed")


def _beyond(what: str) -> Verdict:
    text = f"the file {what}; split it into several batches"
    return Verdict(0, problems=(LineProblem("file_too_costly", text),), problem_count=1)
