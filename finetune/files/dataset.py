"""Checking stored training files: never in the process that keeps the platform alive."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from common.errors import InvalidInput, Problem, TooManyRequests, Unavailable
from common.settings import TuningSettings
from common.telemetry import get_logger
from finetune.core.validate import MIN_EXAMPLES, Validation, with_least
from finetune.files.check_file import EXIT_NO_MEMORY, verdict_of

Param = Literal["training_file", "validation_file"]
Check = Callable[[Path], Awaitable[Validation]]

_Key = tuple[str, str]
"""Project and SHA-256: how fast an answer comes must not tell what other projects have."""
_MODULE = "finetune.files.check_file"
_ROOT = Path(__file__).parents[2]
_SHOWN_PROBLEMS = 10
_RETRY_SECONDS = 5
_PATIENCE_SECONDS = 30
"""By the clock, beyond twice the CPU time: on a busy machine a process waits for its turn."""
_CPU_SIGNALS = (-signal.SIGXCPU, -signal.SIGKILL)
_log = get_logger(__name__)


class DatasetChecks:
    """Checks files one at a time per project and few in all; what a project had checked once is
    remembered.

    The same file that is asked for again while it is being checked is checked once. ``check`` is how one file
    is checked; unset = in a process of its own.
    """

    def __init__(self, settings: TuningSettings, check: Check | None = None) -> None:
        self._settings = settings
        self._check = check or ProcessCheck(settings)
        self._room = asyncio.Semaphore(settings.max_checks)
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()
        self._running: dict[_Key, asyncio.Task[Validation]] = {}
        self._known: OrderedDict[_Key, Validation] = OrderedDict()

    async def examples(self, project: str, sha256: str, path: Path, param: Param) -> int:
        """The number of examples in the JSONL chat file at ``path``, whose content has the digest ``sha256``.

        Raises ``InvalidInput`` (``invalid_training_file``, ``invalid_validation_file`` or
        ``invalid_n_examples``) whose message lists the first bad lines and whose ``problems`` hold up to a
        hundred; ``TooManyRequests`` or ``Unavailable`` when too many checks wait already.
        """
        key = (project, sha256)
        verdict = self._known.get(key)
        if verdict is None:
            verdict = await asyncio.shield(self._running.get(key) or self._begin(key, path))
        else:
            self._known.move_to_end(key)
        return _examples(verdict, param)

    def _begin(self, key: _Key, path: Path) -> asyncio.Task[Validation]:
        """The check of the file, which goes on also when nobody waits for it any more."""
        self._refuse_too_many(key[0])
        self._waiting[key[0]] += 1
        task = asyncio.create_task(self._run(key, path))
        self._running[key] = task
        task.add_done_callback(lambda done: self._end(key, done))
        return task

    def _refuse_too_many(self, project: str) -> None:
        settings = self._settings
        if self._waiting[project] > settings.max_waiting_checks_per_project:
            raise TooManyRequests(
                f"{self._waiting[project]} training files of project {project} are being checked; "
                "try again when they are done",
                code="too_many_checks",
                retry_after_seconds=_RETRY_SECONDS,
            )
        if self._waiting.total() >= settings.max_checks + settings.max_waiting_checks:
            raise Unavailable(
                "too many training files are being checked now; try again later", code="too_many_checks"
            )

    async def _run(self, key: _Key, path: Path) -> Validation:
        async with self._turns.setdefault(key[0], asyncio.Lock()), self._room:
            verdict = await self._check(path)
        self._known[key] = verdict
        while len(self._known) > self._settings.remembered_checks:
            self._known.popitem(last=False)
        return verdict

    def _end(self, key: _Key, done: asyncio.Task[Validation]) -> None:
        del self._running[key]
        project, sha256 = key
        self._waiting[project] -= 1
        if not self._waiting[project]:
            del self._waiting[project], self._turns[project]
        if not done.cancelled() and done.exception() is not None:
            _log.info("training file not checked", sha256=sha256, error=str(done.exception()))


class ProcessCheck:
    """Checks a file in a process that may take only so much memory and time."""

    def __init__(self, settings: TuningSettings) -> None:
        self._settings = settings

    async def __call__(self, path: Path) -> Validation:
        """The verdict. Raises ``Unavailable`` when the machine does not come to it in time."""
        settings = self._settings
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            str(path),
            str(settings.check_timeout_seconds),
            str(settings.check_memory_bytes),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(_ROOT), "PYTHONIOENCODING": "utf-8"},
        )
        try:
            async with asyncio.timeout(2 * settings.check_timeout_seconds + _PATIENCE_SECONDS):
                output, trouble = await process.communicate()
        except TimeoutError as error:
            raise Unavailable(
                "the training file could not be checked in time; try again later", code="check_timeout"
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return self._verdict(process.returncode, output, trouble)

    def _verdict(self, code: int | None, output: bytes, trouble: bytes) -> Validation:
        if code == 0:
            return verdict_of(output)
        if code in _CPU_SIGNALS:
            return _beyond(f"takes more than {self._settings.check_timeout_seconds:g} s of CPU time to check")
        if code == EXIT_NO_MEMORY:
            return _beyond("takes too much memory to check")
        last = trouble.decode("utf-8", "replace").strip().splitlines()[-1:]
        _log.error("the check of a training file broke", exit_code=code, error="".join(last))
        raise Unavailable("the training file could not be checked; try again later", code="check_failed")


def _beyond(what: str) -> Validation:
    return Validation(0, (Problem("file", f"{what}; split it into smaller files", "file_too_costly"),), 1)


def _examples(verdict: Validation, param: Param) -> int:
    result = with_least(verdict, MIN_EXAMPLES if param == "training_file" else 1)
    if result.is_valid:
        return result.examples
    raise InvalidInput(_summary(result, param), _code(result, param), param, result.problems)


def _code(result: Validation, param: Param) -> str:
    if result.problem_count == 1 and result.problems[0].code == "invalid_n_examples":
        return "invalid_n_examples"
    return f"invalid_{param}"


def _summary(result: Validation, param: Param) -> str:
    shown = "; ".join(f"{p.path}: {p.message}" for p in result.problems[:_SHOWN_PROBLEMS])
    rest = result.problem_count - min(len(result.problems), _SHOWN_PROBLEMS)
    count = "1 problem" if result.problem_count == 1 else f"{result.problem_count} problems"
    return f"{param}: {count} found: {shown}" + (f"; and {rest} more" if rest else "")
