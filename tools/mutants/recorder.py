"""A pytest plugin that writes down which lines of the product each test runs: ``-p tools.mutants.recorder``.

Of the random worlds of a property test a few are enough to tell where it goes; its time is reckoned up.
Seconds are those of the processor: a busy machine does not make a test dear.

It is told by two variables of its process: ``MUTANTS_SOURCES`` (folders, divided by commas) and
``MUTANTS_RECORD`` (the file to write).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest
from hypothesis import settings

_FEW_EXAMPLES = 10

_measured = coverage.Coverage(
    data_file=None,
    source=os.environ["MUTANTS_SOURCES"].split(","),
    concurrency=["thread", "greenlet"],
    config_file=False,
)
_measured.start()  # before anything of the product is imported
_seconds: dict[str, float] = {}
_times: dict[str, float] = {}
"""How often a property test draws a world, for each that it draws here."""
_failed: set[str] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        test = getattr(item, "obj", None)
        usual = getattr(test, "_hypothesis_internal_use_settings", None)
        if test is None or usual is None or usual.max_examples <= _FEW_EXAMPLES:
            continue
        _times[item.nodeid] = usual.max_examples / _FEW_EXAMPLES
        function = getattr(test, "__func__", test)
        function._hypothesis_internal_use_settings = settings(usual, max_examples=_FEW_EXAMPLES)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _measured.switch_context(item.nodeid)
    began = time.process_time()
    try:
        return (yield)
    finally:
        _seconds[item.nodeid] = (time.process_time() - began) * _times.get(item.nodeid, 1.0)
        _measured.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """``tests``: name -> seconds, passed, and the lines that it ran by file."""
    _measured.stop()
    data = _measured.get_data()
    lines: dict[str, dict[str, list[int]]] = {name: {} for name in _seconds}
    root = Path.cwd()
    for measured in data.measured_files():
        name = Path(measured).relative_to(root).as_posix()
        if not name.endswith(".py"):  # a template
            continue
        for line, contexts in data.contexts_by_lineno(measured).items():
            for context in filter(None, contexts):
                lines[context].setdefault(name, []).append(line)
    tests = {
        name: {"seconds": round(seconds, 4), "passed": name not in _failed, "lines": lines[name]}
        for name, seconds in _seconds.items()
    }
    Path(os.environ["MUTANTS_RECORD"]).write_text(json.dumps(tests))
