"""A process that judges mutants in a copy of the tree: ``python -m tools.mutants.worker COPY SUITE…``.

It imports pytest and the libraries of the product once, then forks for each mutant, so that a child starts at
once and has imported nothing of the product itself. Questions and answers are lines of JSON.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_LIBRARIES = (
    "_pytest.assertion.rewrite",
    "aiohttp",
    "aiosqlite",
    "alembic.command",
    "fastapi",
    "httpx",
    "hypothesis",
    "hypothesis.strategies",
    "jinja2",
    "numpy",
    "prometheus_client",
    "pydantic",
    "pydantic_settings",
    "pytest_asyncio.plugin",
    "pytest_timeout",
    "rich.console",
    "rich.progress",
    "sqlalchemy.ext.asyncio",
    "structlog",
    "typer",
    "uvicorn",
    "yaml",
)
_LOOK_SECONDS = 0.02
_TOLD_BYTES = 20_000
_WAITS = 5.0
"""A child that has not ended after so many times its time on the processor waits for something for ever."""
_BROKEN = 70
"""Exit code of a child that did not come to run tests."""


class _Chosen:
    """Keeps the chosen tests, in their order, and no others."""

    def __init__(self, names: list[str]) -> None:
        self._rank = {name: at for at, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank), key=lambda item: self._rank[item.nodeid]
        )


def _run_tests(names: list[str], output: int, most_seconds: float) -> int:
    """In the child: the exit code of pytest, which stops at the first failure."""
    os.setsid()
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(most_seconds), hard))
    null = os.open(os.devnull, os.O_RDONLY)
    for new, old in ((null, 0), (output, 1), (output, 2)):
        os.dup2(new, old)
    sys.dont_write_bytecode = True
    files = list(dict.fromkeys(name.partition("::")[0] for name in names))
    arguments = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider", *files]
    return int(pytest.main(arguments, plugins=[_Chosen(names)]))


def _judge(names: list[str], most_seconds: float) -> dict[str, Any]:
    """``code`` of pytest (None: out of time), ``seconds`` spent and ``told``, the end of what it printed.
    ``most_seconds``: on the processor."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            try:
                os._exit(_run_tests(names, output.fileno(), most_seconds))
            finally:
                os._exit(_BROKEN)
        done, code = 0, None
        while time.monotonic() - began < most_seconds * _WAITS:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                ended = os.waitstatus_to_exitcode(status)
                code = None if ended == -signal.SIGXCPU else ended
                break
            time.sleep(_LOOK_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if not done:
            os.waitpid(child, 0)
        output.seek(max(0, output.seek(0, os.SEEK_END) - _TOLD_BYTES))
        told = output.read().decode(errors="replace")
    return {"code": code, "seconds": time.monotonic() - began, "told": told}


def main() -> None:
    """Answer until the input ends. All is compiled before the first answer."""
    os.chdir(Path(sys.argv[1]))
    for library in _LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(library)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", *sys.argv[2:]],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    for line in sys.stdin:
        question = json.loads(line)
        sys.stdout.write(json.dumps(_judge(question["tests"], question["most_seconds"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
