"""Mutants are judged one after the other in copies of the tree; the tree itself is never touched."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tools.mutants.coverage_map import CoveringTest, quiet_environment
from tools.mutants.operators import Mutant

Verdict = Literal["killed", "timed out", "survived", "not run by a test", "no verdict"]
KILLS: tuple[Verdict, ...] = ("killed", "timed out")
START_SECONDS = 15.0
"""What a test run takes at most before its first test, on a busy machine."""
SLOWER = 4.0
"""A mutant whose tests take so many times what they took before has been noticed."""
_FAILED, _INTERRUPTED, _BROKEN, _NONE_FOUND = 1, 2, 3, 5
"""Exit codes of pytest. A module that cannot be imported any more interrupts the collection."""


@dataclass(frozen=True)
class Judged:
    """What became of a mutant. ``by`` is the test that noticed it, empty when none did."""

    mutant: Mutant
    verdict: Verdict
    seconds: float
    tests: int
    by: str = ""


def copy_tree(root: Path, copy: Path) -> None:
    """The files of the tree that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source, target = root / name, copy / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


class Bench:
    """One copy of the tree and the process that runs tests in it."""

    def __init__(self, copy: Path, suites: Sequence[str]) -> None:
        self._copy = copy
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "tools.mutants.worker", str(copy), *suites],
            cwd=copy,
            env=quiet_environment(copy),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """Ends the process."""
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        self._worker.wait()

    def judge(self, mutant: Mutant, tests: Sequence[CoveringTest]) -> Judged:
        """Put the mutant in place, run the tests, and put things right again."""
        if not tests:
            return Judged(mutant, "not run by a test", 0.0, 0)
        file = self._copy / mutant.path
        source = file.read_bytes()
        compiled = list((file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"))
        try:
            for path in compiled:  # it may have the size and the second of the mutant
                path.unlink()
            file.write_bytes(mutant.applied(source))
            answer = self._ask(tests)
        finally:
            file.write_bytes(source)
        return Judged(
            mutant, _verdict(answer["code"]), answer["seconds"], len(tests), _noticed(answer["told"])
        )

    def _ask(self, tests: Sequence[CoveringTest]) -> dict[str, Any]:
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        most = START_SECONDS + SLOWER * sum(test.seconds for test in tests)
        question = {"tests": [test.name for test in tests], "most_seconds": most}
        self._worker.stdin.write(json.dumps(question) + "\n")
        self._worker.stdin.flush()
        line = self._worker.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker in {self._copy} has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def judge_all(
    benches: Sequence[Bench],
    work: Sequence[tuple[Mutant, Sequence[CoveringTest]]],
    done: Callable[[Judged], None],
) -> list[Judged]:
    """All verdicts, in the order of ``work``; ``done`` is told each as it comes, one at a time."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for at in range(len(work)):
        waiting.put(at)
    found: dict[int, Judged] = {}
    telling = threading.Lock()

    def run(bench: Bench) -> None:
        while True:
            try:
                at = waiting.get_nowait()
            except queue.Empty:
                return
            judged = bench.judge(*work[at])
            with telling:
                found[at] = judged
                done(judged)

    threads = [threading.Thread(target=run, args=(bench,)) for bench in benches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[at] for at in sorted(found)]


def _verdict(code: int | None) -> Verdict:
    if code is None:
        return "timed out"
    if code == 0:
        return "survived"
    if code in (_FAILED, _INTERRUPTED, _BROKEN) or code < 0:
        return "killed"
    return "no verdict" if code != _NONE_FOUND else "not run by a test"


def _noticed(told: str) -> str:
    """The first test that pytest names as failed."""
    for line in told.splitlines():
        kind, _, rest = line.partition(" ")
        if kind in ("FAILED", "ERROR") and rest:
            return rest.split(" - ")[0].strip()
    return ""
